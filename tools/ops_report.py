"""The table, the plot and the machine's description for ``ops.py``."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

Row = dict[str, str]
FIELDS = ["part", "operator", "signal", "kernel", "version", "pass", "ms", "gop_s", "of_peak", "peak_mb", "of_signal"]
FIELDS += ["load"]
KEY = FIELDS[:6]
"""What tells rows apart."""
MEANING = """\
`ms`: median over alternating calls. `gop_s`, `of_peak`: 1e9 additions and maxima per second of the morphological
convolution, and share of the peak. `peak_mb`, `of_signal`: memory of a call beyond its inputs, in MB and in sizes of
the signal (`inference`: of the process). `load`: mean of the last minute; above the number of threads, times grow.
"""


def machine(device: str, peak: float, load: float, seconds: float) -> str:
    """One paragraph on where and how the numbers came about."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            processor = line.split(":")[1].strip()
    if device == "cuda":
        processor = torch.cuda.get_device_name()
    packages = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    for name in ("numba", "triton", "kornia"):
        try:
            packages.append(f"{name} {__import__(name).__version__}")
        except ImportError:
            packages.append(f"no {name}")
    text = f"{processor}, {torch.get_num_threads()} of {os.cpu_count()} threads; {', '.join(packages)}; float32; load "
    text += f"average {load:.1f} before, {os.getloadavg()[0]:.1f} after {seconds:.0f} s."
    text += " Processor time." if torch.get_num_threads() == 1 and device == "cpu" else " Wall time."
    if peak:
        text += f" Peak of additions and maxima, measured in the same run: {peak:.0f}e9 a second."
    return text


def read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def find(rows: list[Row], **wanted: str) -> float:
    """Milliseconds of the only row with these fields (a prefix of the version is enough)."""
    named = {"pass": wanted.pop("direction"), **wanted}
    version = named.pop("version")
    found = [r for r in rows if all(r[k] == v for k, v in named.items()) and r["version"].startswith(version)]
    if not found:
        raise KeyError(f"no row with {wanted} and version {version}")
    return min(float(r["ms"]) for r in found)


LATER = " Measured at another time, part "
"""Between the notes of both measurements."""


def write(rows: list[dict], note: str, folder: Path, stem: str, parts: Sequence[str] = ()) -> None:
    """CSV, table and plot; with ``parts``, all that was measured, rows and notes of an earlier run stay."""
    folder.mkdir(parents=True, exist_ok=True)
    if parts and (folder / f"{stem}.csv").exists():
        earlier = {tuple(row[f] for f in KEY): row for row in read(folder / f"{stem}.csv")}
        for row in rows:
            key = tuple(str(row[f] or "") for f in KEY)
            earlier[key] = {
                **dict.fromkeys(FIELDS, ""),
                **earlier.get(key, {}),
                **{k: v for k, v in row.items() if v not in ("", None)},
            }
        rows = list(earlier.values())
        label = f"{', '.join(parts)}: "
        first, *later = (folder / f"{stem}.md").read_text().splitlines()[2].split(LATER)
        note = LATER.join([first, *(text for text in later if not text.startswith(label)), label + note])
    with (folder / f"{stem}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = ["# Times and memory of the operators", "", note, "", MEANING]
    lines += [f"![Times of the operators and their growth]({stem}.png)", ""]
    lines += [f"| {' | '.join(FIELDS)} |", "|---" * len(FIELDS) + "|"]
    lines += [f"| {' | '.join(str(row[f]) for f in FIELDS)} |" for row in rows]
    (folder / f"{stem}.md").write_text("\n".join(lines) + "\n")
    plot(read(folder / f"{stem}.csv"), folder / f"{stem}.png")


def plot(rows: list[Row], path: Path) -> None:
    """Bars for the operators at the standard size, lines for the growth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    growth = any(r["part"] in ("taps", "channels", "pixels") for r in rows)
    figure, axes = plt.subplots(1 + growth, 3, figsize=(14, 4 + 4 * growth), layout="constrained", squeeze=False)
    standard = [r for r in rows if (r["part"], r["signal"], r["kernel"]) == ("size", "4x16x8x64x64", "5x5x5")]
    for axis, operator in zip(axes[0], ("morphology", "convection", "group convolution")):
        chosen = [r for r in standard if r["operator"] == operator]
        names = list(dict.fromkeys(r["version"] for r in chosen))
        for offset, part in ((-0.2, "forward"), (0.2, "forward + backward")):
            values = [float(r["ms"]) for r in chosen if r["pass"] == part]
            bars = axis.barh([i + offset for i in range(len(names))], values, 0.38, label=part)
            axis.bar_label(bars, fmt=lambda v: f"{v:.3g}" if v < 100 else f"{v:.0f}", padding=2, fontsize=8)
        axis.set(yticks=range(len(names)), yticklabels=names, xscale="log", xlabel="milliseconds", title=operator)
        axis.margins(x=0.2)
        axis.invert_yaxis()
    figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, loc="outside upper right")
    parts = {"taps": "kernel", "channels": "signal", "pixels": "signal"}
    for axis, (part, column) in zip(axes[1] if growth else (), parts.items()):
        chosen = [r for r in rows if r["part"] == part]
        shown = {r["version"] for r in chosen}
        chosen += [r for r in standard if r["operator"] == "morphology" and r["version"] in shown]
        for version in dict.fromkeys(r["version"] for r in chosen):
            for direction, style in (("forward", "--"), ("forward + backward", "-")):
                found = [r for r in chosen if r["version"] == version and r["pass"] == direction]
                points = sorted((amount(r[column], part), float(r["ms"])) for r in found)
                colour = "C0" if version.startswith("ours") else "C1"
                axis.plot(*zip(*points), style, marker="o", color=colour, label=f"{version}, {direction}")
        axis.set(
            xscale="log", yscale="log", xlabel=part, ylabel="milliseconds", title=f"morphology: growth with {part}"
        )
        ticks = sorted({amount(r[column], part) for r in chosen})
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
    if growth:
        axes[1][0].legend(fontsize=8)
    figure.suptitle("float32, u [4,16,8,64,64], kernels 5x5x5 where nothing else is said")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def amount(text: str, part: str) -> int:
    """Taps, channels or pixels of a shape."""
    sizes = [int(n) for n in text.split("x")]
    return {"taps": sizes[0] * sizes[1] * sizes[2], "channels": sizes[1], "pixels": sizes[-1] * sizes[-2]}[part]
