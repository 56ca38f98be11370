"""docs/results.md from the result files in results/: ``python tools/results_page.py`` writes it anew."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pdegcnn_examples.training import write_file
from pdegcnn_examples.training.result_file import FIELDS

ROOT = Path(__file__).parents[1]
PAGE, FOLDER = ROOT / "docs" / "results.md", ROOT / "results"
Result = Mapping[str, Any]


class Table(NamedTuple):
    """Title, what was done, columns (figure, heading, factor and format of its numbers), rows as readers name them."""

    title: str
    about: str
    columns: tuple[tuple[str, str, float, str], ...]
    names: Mapping[str, str] = {}

    def name(self, row: str) -> str:
        """What readers call a row; what follows a comma stays."""
        net, comma, rest = row.partition(",")
        return self.names.get(net, net) + comma + rest

    def place(self, row: str) -> tuple[int, str]:
        """Rows in the order of their names, then by the alphabet."""
        net = row.partition(",")[0]
        return [*self.names, net].index(net), row


TABLES = {
    "rotated_digits": Table(
        "Rotated digits",
        "12,000 digits to train, 50,000 to test, each turned by its own angle. The sets were made from MNIST by the "
        "protocol of the official rotated MNIST; they are **not** its files. All networks have the same loop, loss, "
        "augmentation and schedule. The machine had other work, more beside some runs than beside others: read rows of "
        "equal time with their epochs and load. The large network's run ended by its budget at 32 of 80 epochs, all of "
        "which would take 3 to 5 hours there. Change: relative, of the logits, when 64 test digits are turned. "
        "Networks: `pdegcnn_examples.networks.digits`.",
        (
            ("test_error", "test error (%)", 100, ".2f"),
            ("invariance_error_90", "change at 90°", 1, ".0e"),
            ("invariance_error_45", "change at 45°", 1, ".2f"),
        ),
        {
            "small": "PDE-G-CNN, small",
            "large": "PDE-G-CNN, large",
            "gcnn": "G-CNN (linear group convolutions)",
            "escnn": "steerable CNN of escnn",
            "cnn": "CNN",
        },
    ),
    "vessels": Table(
        "Vessels of the retina (DRIVE)",
        "Official split, all pixels of the 20 test photographs inside the field of view; the threshold of the mask was "
        "chosen on training photographs. Same loop, patches and loss for all. Floors: an untrained multi-scale ridge "
        "filter 0.931 and 0.738, the second human observer's Dice 0.788. Turned: Dice of a turned photograph's mask "
        "with the turned mask. Budgets differ, and most runs had only begun: the recipe's 60 epochs would take "
        "1.1 hours of the network of two scales, 1.3 of PDE-G-CNN6, 3.8 of G-CNN6 and 1.3 of CNN6 there. "
        "Networks: `pdegcnn_examples.networks.vessels`.",
        (
            ("auc", "AUC", 1, ".4f"),
            ("dice", "Dice", 1, ".4f"),
            ("sensitivity", "sensitivity", 1, ".3f"),
            ("specificity", "specificity", 1, ".3f"),
            ("turned_90_dice", "turned 90°", 1, ".3f"),
            ("turned_45_dice", "turned 45°", 1, ".3f"),
        ),
        {
            "pde": "PDE-G-CNN, two scales",
            "ship": "PDE-G-CNN, two scales, weights in the package (17 photographs, augmented for other cameras)",
            "pde6": "PDE-G-CNN6",
            "gcnn6": "G-CNN6",
            "cnn6": "CNN6",
        },
    ),
    "spherical_digits": Table(
        "Spherical digits",
        "12,000 digits on the sphere to train, 10,000 to test; trained / tested on. Change: relative, of the logits of "
        "the network trained on upright digits, under random rotations. Time is that of both trainings, epochs are the "
        "mean of both. Networks: `pdegcnn.models.spherical_classifier`, `pdegcnn_examples.networks.spherical_cnn` and "
        "`pdegcnn_examples.networks.panoramas`; budgets differ, and the number of directions of the first two was "
        "chosen by looking at test digits.",
        (
            ("rotated_rotated", "rotated / rotated (%)", 100, ".2f"),
            ("upright_rotated", "upright / rotated (%)", 100, ".2f"),
            ("upright_upright", "upright / upright (%)", 100, ".2f"),
            ("equivariance_error", "change when turned", 1, ".2f"),
        ),
    ),
    "street_scenes": Table(
        "Street scenes (CamVid)",
        "Reversible hyperbolic networks beside plain ones of as many parameters: 367 pictures of 240 x 180 to train, "
        "101 to validate. These trainings had only begun when their budget ended (4 of 60 epochs): read memory and "
        "time, not accuracy. Memory: peak of a training step beyond parameters, measured in a process of its own. "
        "Networks: `pdegcnn_examples.networks.scenes`.",
        (
            ("mean_iou", "mean IoU (%)", 100, ".1f"),
            ("pixel_accuracy", "pixel accuracy (%)", 100, ".1f"),
            ("memory_mb", "memory of a step (MB)", 1, ".0f"),
            ("step_seconds", "step (s)", 1, ".2f"),
        ),
        {"hyperbolic": "hyperbolic", "bare": "hyperbolic without batch norm", "unet": "U-Net", "plain": "plain"},
    ),
    "depth": Table(
        "Depth from one picture",
        "400 rendered rooms of 64 x 48 pixels to train, 100 to validate, 100 to test, which was done once; same loop, "
        "loss and learning rate for both. Photograph: one real scene, the motorcycle of Middlebury's stereo benchmark, "
        "after one factor made the medians equal. One depth for all pixels: 'constant'. "
        "Networks: `pdegcnn_examples.networks.scenes`.",
        (
            ("abs_rel", "relative error", 1, ".3f"),
            ("rmse", "RMSE (m)", 1, ".3f"),
            ("delta_125", "within 1.25 (%)", 100, ".1f"),
            ("constant_abs_rel", "constant: relative error", 1, ".3f"),
            ("photograph_abs_rel", "photograph: relative error", 1, ".3f"),
            ("photograph_delta_125", "within 1.25 (%)", 100, ".1f"),
            ("photograph_constant_abs_rel", "constant", 1, ".3f"),
        ),
        {"hyperbolic": "hyperbolic", "unet": "U-Net"},
    ),
    "plane_detection": Table(
        "Oriented boxes",
        "Ships: 400 upright drawn scenes of 64 x 64 pixels to train, 200 upright and 200 turned ones to test. Nuclei: "
        "the picture of 512 x 512 pixels that the package stardist ships; 256 of its columns to train, 192 to test, "
        "upright and after the three quarter turns. No scene was turned in training. AP: average precision; a box is "
        "right from an intersection over union of 0.5 or 0.75. Both networks have the same steps, loss and decoding. "
        "Learning rates were not tuned. Networks: `pdegcnn_examples.networks.boxes`.",
        (
            ("ap_upright", "AP 0.5, upright (%)", 100, ".1f"),
            ("ap_turned", "AP 0.5, turned (%)", 100, ".1f"),
            ("ap75_upright", "AP 0.75, upright (%)", 100, ".1f"),
            ("ap75_turned", "AP 0.75, turned (%)", 100, ".1f"),
        ),
        {"pde": "detector on SE(2)", "cnn": "plain CNN"},
    ),
    "volumes": Table(
        "Labels in volumes",
        "Nuclei: the volume that the package stardist ships, 31 x 61 x 57 voxels with 51 nuclei, made by a simulation. "
        "31 of its 61 rows to train, 9 to choose the epoch, 21 to test. Threshold: the value that is best on the "
        "training part. Same loop, loss and patches for both; settings were not tuned. Memory and time: a training "
        "step of 32 patches of 16 x 24 x 24 voxels, its peak beyond parameters, in a process of its own; other work on "
        "the machine made all times several times as long. Networks: `pdegcnn_examples.networks.volumes`.",
        (
            ("dice", "Dice", 1, ".3f"),
            ("threshold_dice", "threshold", 1, ".3f"),
            ("memory_mb", "memory of a step (MB)", 1, ".0f"),
            ("step_seconds", "step (s)", 1, ".2f"),
        ),
        {"pde": "reversible, of PDE layers", "unet": "U-Net of convolutions"},
    ),
    "classify": Table(
        "Upright digits",
        "5,000 digits of MNIST inside a package, halved to 14 x 14: 3,000 to train, 1,000 to choose the learning rate "
        "of each network by, 1,000 to test. Networks: `pdegcnn_examples.networks.digits`.",
        (("test_error", "test error (%)", 100, ".2f"), ("val_error", "validation error (%)", 100, ".2f")),
        {"hyperbolic": "hyperbolic, block-low-rank", "plain": "CNN"},
    ),
    "denoising": Table(
        "Pictures and lines restored",
        "Grey pictures that scikit-image ships, halved: seven to train on in crops of 24 x 24, four others of 128 x "
        "128 to test on. Denoise: Gaussian noise of 0.2. Inpaint: 60 % of the pixels are missing. Lines: 200 drawn "
        "pictures of crossing lines with gaps to train on, eight to test on. 240 steps of four crops for every "
        "network, which is a beginning: read the rows beside each other. Means over the test pictures. "
        "Networks: `pdegcnn_examples.networks.restoration`.",
        (
            ("psnr", "PSNR (dB)", 1, ".2f"),
            ("ssim", "SSIM", 1, ".3f"),
            ("input_psnr", "before: PSNR", 1, ".2f"),
            ("input_ssim", "before: SSIM", 1, ".3f"),
        ),
        {"shock": "convection and diffusion-shock", "pde": "convection, dilation, erosion", "cnn": "CNN"},
    ),
    "whole_clip": Table(
        "A whole clip at once (DAVIS 2016)",
        "The moving object, learnt from every fourth mask of a clip and found in all other frames, 70 steps. All 90 "
        "frames of 53 x 30 at once in a reversible network of two coarsenings, or a U-Net of as many parameters frame "
        "by frame; both see time and place of every pixel. Learning rates were not tuned.",
        (
            ("iou", "IoU (%)", 100, ".1f"),
            ("iou_of_marking_everything", "marking everything (%)", 100, ".1f"),
            ("memory_mb", "memory of a step (MB)", 1, ".0f"),
            ("plain_memory_mb", "plain autograd (MB)", 1, ".0f"),
            ("step_seconds", "step (s)", 1, ".2f"),
        ),
    ),
}
"""The page's tables by recipe; figures that a recipe does not name are in its result files."""
HEAD = """# Results

Made by `python tools/results_page.py` from the files in `results/`; do not edit. Each line is one run or the mean
± standard deviation over runs that differ in their seed only. `$DATA` is the folder of data; the loaders in
`pdegcnn_examples.datasets` say how to get each set. "Time" is that of training, on the machine named below the table.
"""


def read(folder: Path = FOLDER) -> list[tuple[Path, Result]]:
    """All result files; raises ``ValueError`` for one that lacks a field or belongs to no table."""
    found = []
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in FIELDS if name not in result]
        if missing:
            raise ValueError(f"{path}: expected the fields {', '.join(FIELDS)}; {', '.join(missing)} missing")
        if result["recipe"] not in TABLES:
            raise ValueError(f"{path}: expected a recipe of {', '.join(TABLES)}, got {result['recipe']!r}")
        found.append((path, result))
    return found


def duration(seconds: float) -> str:
    """Seconds as one reads them."""
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def cell(runs: Sequence[Result], name: str, factor: float, form: str) -> str:
    """Mean, and deviation over several runs, of a figure."""
    values = [run["figures"][name] * factor for run in runs if name in run["figures"]]
    if not values:
        return "–"
    text = format(statistics.mean(values), form)
    return text if len(values) == 1 else f"{text} ± {format(statistics.stdev(values), form)}"


def commit(run: Result) -> str:
    """The commit in short, with a plus sign where files had changed."""
    return run["commit"][:10] + ("+" if run["commit"].endswith("+") else "")


def machine(run: Result) -> str:
    """Hardware, threads, version, load of one run."""
    m = run["machine"]
    where = m["gpu"] or f"{m['processor']}, {m['cores']} cores"
    load = "" if m["load_average"] is None else f", load {m['load_average'][0]:.1f} at the end"
    return f"{where}; {m['processes']} process(es) of {m['threads']} thread(s){load}; torch {m['torch']}"


def section(table: Table, results: Sequence[tuple[Path, Result]]) -> list[str]:
    """The lines of a table and the commands below it."""
    rows: dict[str, list[tuple[Path, Result]]] = defaultdict(list)
    for path, result in results:
        rows[result["row"]].append((path, result))
    names = [c for c in table.columns if any(c[0] in r["figures"] for _, r in results)]
    heads = ["network", "parameters", *(c[1] for c in names), "epochs", "time", "seeds"]
    lines = ["", f"## {table.title}", "", table.about, "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row, pairs in sorted(rows.items(), key=lambda item: table.place(item[0])):
        runs = [run for _, run in pairs]
        epochs, seconds = (statistics.mean(run[name] for run in runs) for name in ("epochs", "seconds"))
        seeds = ", ".join(str(run["seed"]) for run in runs)
        cells = [table.name(row), f"{runs[0]['parameters']:,}", *(cell(runs, c[0], c[2], c[3]) for c in names)]
        lines.append("| " + " | ".join([*cells, f"{epochs:.4g}", duration(seconds), seeds]) + " |")
    lines += ["", "Runs:", ""]
    for path, run in (pair for pairs in rows.values() for pair in pairs):
        lines += [
            f"- [`{path.name}`](../results/{path.name}): `{run['command']}`",
            f"  (commit {commit(run)}; {run['data']}; {machine(run)})",
        ]
    return lines


def page(results: Sequence[tuple[Path, Result]]) -> str:
    """The whole page."""
    lines = HEAD.splitlines()
    for recipe, table in TABLES.items():
        mine = [(path, result) for path, result in results if result["recipe"] == recipe]
        if mine:
            lines += section(table, mine)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    text = page(read())
    write_file(PAGE, lambda fresh: fresh.write_text(text, encoding="utf-8"))
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
