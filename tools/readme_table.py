"""The README's speed table, from docs/benchmarks/ops.csv: ``python -m tools.readme_table`` writes it again."""

from __future__ import annotations

from pathlib import Path

from tools import ops_report

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- speed: begin -->\n", "<!-- speed: end -->"
RIVALS = {
    "morphology": ("morphological convolution", ["torch shift", "torch unfold"], "shift and `torch.maximum`"),
    "convection": ("convection", ["grid_sample"], "`grid_sample`"),
    "group convolution": ("depthwise group convolution", ["conv2d", "conv3d"], "grouped `conv2d` or `conv3d`"),
}


def best(rows: list[ops_report.Row], names: list[str], **wanted: str) -> float:
    found = []
    for name in names:
        try:
            found.append(ops_report.find(rows, version=name, **wanted))
        except KeyError:
            continue  # too large for this version
    return min(found)


def line(name: str, rival: str, ours: float, other: float) -> str:
    ratio = other / ours
    return f"| {name} | {text(ours)} | {text(other)} | {rival} | **{ratio:.{0 if ratio >= 10 else 2}f}x** |"


def text(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"


def table(rows: list[ops_report.Row]) -> str:
    """The lines between the two marks."""
    lines = [
        "| float32, [4,16,8,64,64], 5x5x5 taps, forward and backward | ours | plain PyTorch | by | ratio |",
        "|---|---|---|---|---|",
    ]
    for operator, (name, rivals, rival) in RIVALS.items():
        case = {"part": "size", "operator": operator, "signal": "4x16x8x64x64", "kernel": "5x5x5"}
        times = [best(rows, names, direction="forward + backward", **case) for names in (["ours"], rivals)]
        lines.append(line(name, rival, *times))
    for operator, signal in (("vessel segmentation", "1x3x64x64"), ("rotated digits", "32x1x28x28")):
        case = {"part": "model", "operator": operator, "signal": signal, "direction": "training step"}
        if any(r["operator"] == operator and r["version"] == "torch shift" for r in rows):
            times = [best(rows, [name], **case) for name in ("ours", "torch shift")]
            shape = signal.replace("x", ",")
            lines.append(
                line(f"training step of `{operator.replace(' ', '_')}` on [{shape}]", "layers on these", *times)
            )
    for whole in (r for r in rows if r["pass"] == "inference"):
        seconds, gigabytes = float(whole["ms"]) / 1000, float(whole["peak_mb"]) / 1000
        lines.append(
            f"\nA 1024x1024 colour image through `vessel_segmentation`: {seconds:.0f} s, {gigabytes:.2f} GB in all."
        )
    return "\n".join(lines) + "\n"


def rewritten(readme: str) -> str:
    """The README with the table that the results give."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + table(ops_report.read(ROOT / "docs" / "benchmarks" / "ops.csv")) + END + rest.split(END)[1]


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
