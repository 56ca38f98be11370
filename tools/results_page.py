"""The pages and plots of results from the files in results/: ``python tools/results_page.py`` writes them again.

``docs/results.md`` has the tables, ``docs/results_runs.md`` the command of each run, ``docs/images/results_*.png`` the
plots.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pdegcnn_examples.training import write_file
from pdegcnn_examples.training.result_file import FIELDS

ROOT = Path(__file__).parents[1]
DOCS, FOLDER = ROOT / "docs", ROOT / "results"
PAGE, RUNS = DOCS / "results.md", DOCS / "results_runs.md"
Result = Mapping[str, Any]


class Table(NamedTuple):
    """Title, what was done, columns (figure, heading, factor and format of its numbers), rows as readers name them.

    ``goal`` says what was aimed at, what was tried where it was missed, and how long a full training takes.
    """

    title: str
    about: str
    columns: tuple[tuple[str, str, float, str], ...]
    names: Mapping[str, str] = {}
    goal: str = ""

    def name(self, row: str) -> str:
        """Return the name of a row on the page; text after a comma is kept."""
        net, comma, rest = row.partition(",")
        return self.names.get(net, net) + comma + rest

    def place(self, row: str) -> tuple[int, str]:
        """Return the key that sorts rows in the order of their names, then alphabetically."""
        net = row.partition(",")[0]
        return [*self.names, net].index(net), row


TABLES = {
    "rotated_digits": Table(
        "Rotated digits",
        "12,000 digits to train, 50,000 to test, each rotated by a random angle. The sets were made from MNIST by the "
        "protocol of the official rotated MNIST; they are **not** its files. All networks have the same loop, loss, "
        "augmentation and schedule. The machine was shared and its load differed between runs: compare epochs, not "
        "times. After 6 epochs larger networks with linear convolutions are ahead of the small PDE-G-CNN. Change: "
        "relative change of the logits when 64 test digits are rotated. "
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
        goal=(
            "At most 1.5 % with 30,000 parameters and 2.3 % with 3,000: not reached. The large network has 1.71 % "
            "after 80 epochs; its weights are in the package. Its loss still fell by 0.012 in the last 17 epochs. "
            "Tried for fewer epochs: smoother filters and templates, more pixels, finer solvers "
            "([figures](guides/angles.md#a-trained-network)). 160 epochs would take 3.2 hours, 80 epochs of the "
            "small network half an hour, of the G-CNN 2 hours and of escnn's network 1.1 hours, of one core."
        ),
    ),
    "vessels": Table(
        "Vessels of the retina (DRIVE)",
        "Official split, all pixels of the 20 test photographs inside the field of view; the threshold of the mask "
        "was chosen on training photographs. Same loop, patches and loss for all. For comparison: an untrained "
        "multi-scale ridge filter has an AUC of 0.931 and a Dice of 0.738, the second human observer a Dice of 0.788. "
        "Published Dice on the same photographs (collected by the package bob.ip.binseg): LW-Net 0.828 with 68,000 "
        "parameters, U-Net 0.825 with 25.8 million, M2U-Net 0.802 with 550,000. "
        "Turned: Dice between the mask of a rotated photograph and the rotated mask. An epoch has 100 steps, for any "
        "number of photographs. The recipe's 60 epochs would take 1.1 hours for the network of two scales, 1.3 of "
        "PDE-G-CNN6, 3.8 of G-CNN6 and 1.3 of CNN6 there. Networks: `pdegcnn_examples.networks.vessels`.",
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
        goal=(
            "A Dice of 0.822 and an AUC of 0.979 over three seeds, with at most 10,000 parameters: not "
            "reached. The longest run that was affordable, 45 of 60 epochs, has 0.813 and 0.9752; its loss "
            "was still falling. These helped: the contrast is measured inside the field of view only, and "
            "probabilities are means over a photograph and its mirror image (AUC on training photographs "
            "0.9731 to 0.9739). All 60 epochs take 2.2 hours a seed on one core of the machine used last, "
            "those of G-CNN6 10 hours. "
            "The figure over training photographs lacks the G-CNN, whose 300 steps take half an hour for each number "
            "of photographs, and their scores 20 minutes."
        ),
    ),
    "spherical_digits": Table(
        "Spherical digits",
        "12,000 digits on the sphere to train, 10,000 to test; trained / tested on. Change: relative change of the "
        "logits of the network trained on upright digits, under random rotations. Time is that of both trainings, "
        "epochs are the mean of both. Networks: `pdegcnn.models.spherical_classifier`, "
        "`pdegcnn_examples.networks.spherical_cnn` and `pdegcnn_examples.networks.panoramas`; the number of "
        "directions of the first two was chosen on test digits. The grids of "
        "`pdegcnn_examples.networks.spherical_pde` (finer) were chosen on digits held out of training.",
        (
            ("rotated_rotated", "rotated / rotated (%)", 100, ".2f"),
            ("upright_rotated", "upright / rotated (%)", 100, ".2f"),
            ("upright_upright", "upright / upright (%)", 100, ".2f"),
            ("equivariance_error", "change when turned", 1, ".2f"),
        ),
        goal=(
            "99 % (rotated / rotated) and 98.5 % (upright / rotated) with at most 60,000 parameters: not "
            "reached. [What was tried](sphere_examples.md): other terms, wider windows, Newton steps, finer "
            "samples. 60 epochs of both trainings would take 5 to 8 hours of one core for the PDE-G-CNN, 4 hours "
            "for the spherical CNN."
        ),
    ),
    "sphere_detection": Table(
        "Digits found on the sphere",
        "400 scenes of one to three handwritten digits to train, 80 with other digits to test; trained / tested on. "
        "Average precision at an intersection over union of 0.5, of boxes, and of boxes with the right digit. Time is "
        "that of both trainings. Networks: `pdegcnn.models.spherical_detector`, `pdegcnn_examples.networks.panoramas`.",
        (
            ("boxes_rotated_rotated", "boxes: rotated / rotated (%)", 100, ".1f"),
            ("boxes_upright_rotated", "upright / rotated (%)", 100, ".1f"),
            ("boxes_upright_upright", "upright / upright (%)", 100, ".1f"),
            ("digits_rotated_rotated", "digits: rotated / rotated (%)", 100, ".1f"),
            ("digits_upright_rotated", "upright / rotated (%)", 100, ".1f"),
            ("digits_upright_upright", "upright / upright (%)", 100, ".1f"),
            ("equivariance_error", "change when turned", 1, ".2f"),
        ),
        {"pdegcnn": "PDE-G-CNN", "cnn": "plain CNN"},
        goal=(
            "80 % for boxes and 60 % for digits, rotated scenes within one point of upright ones: reached, "
            "except for the digits of rotated scenes. 30 epochs of both trainings would take an hour for the PDE-G-CNN."
        ),
    ),
    "mesh_labels": Table(
        "Labels on the cortex",
        "Three depth classes of the sulci on the fsaverage5 cortex (10,242 vertices, part of the package nilearn), "
        "learned on the left hemisphere and tested on the right one, also with half of its vertices. 200 steps for "
        "all networks; learning rates were chosen on a fifth of the left hemisphere. Change: relative change of the "
        "logits. Networks: `pdegcnn_examples.networks.meshes`.",
        (
            ("learned", "left (%)", 100, ".1f"),
            ("other", "right (%)", 100, ".1f"),
            ("other_coarser", "right, half of the vertices (%)", 100, ".1f"),
            ("by_gauge", "change by the gauge", 1, ".0e"),
            ("by_rotation", "by a motion", 1, ".0e"),
            ("by_numbers", "by new vertex numbers", 1, ".0e"),
        ),
        {
            "gauge": "gauge-equivariant",
            "pde": "PDE layers",
            "graph": "graph convolution",
            "diffusion": "as DiffusionNet",
        },
        goal=(
            "Trainings to the end at equal steps. 200 steps of three seeds were affordable; 2,000 would take "
            "1.7 hours for each training of PDE layers, which take 3 seconds a step."
        ),
    ),
    "mesh_vectors": Table(
        "Vectors on the cortex",
        "Noisy tangent vectors (noise: half of the field), 40 % of them known outside missing patches, smoothed "
        "and filled in on the left hemisphere of fsaverage5. All networks have the same parameters, steps and learning "
        "rate. Errors are relative. Networks: `examples/mesh_vectors.py`.",
        (
            ("error", "error", 1, ".3f"),
            ("error_gaps", "scattered gaps", 1, ".3f"),
            ("error_patches", "missing patches", 1, ".3f"),
            ("change", "change by the gauge", 1, ".0e"),
        ),
        {"connection": "connection diffusion", "in space": "components in space", "in frames": "components in frames"},
        goal=(
            "The connection ahead of the others at equal steps: reached, with one seed. Two more seeds of the three "
            "networks would take 46 minutes."
        ),
    ),
    "street_scenes": Table(
        "Street scenes (CamVid)",
        "Reversible hyperbolic networks compared with plain ones with as many parameters: 367 pictures of 240 x 180 "
        "(where the row says so, 120 x 90) to train, 101 to validate, where the figures come from; 60 epochs, one "
        "seed, the same loop, loss and augmentation. With convolutions at both ends the hyperbolic network is less "
        "than a point behind the plain ones at 240 x 180, with 0.4 of their memory, and two points at 120 x 90. "
        "Memory: "
        "peak of a training step beyond parameters, measured in a separate process with float32; times depend on what "
        "else the machine did. Networks: `pdegcnn_examples.networks.scenes`.",
        (
            ("mean_iou", "mean IoU (%)", 100, ".1f"),
            ("pixel_accuracy", "pixel accuracy (%)", 100, ".1f"),
            ("memory_mb", "memory of a step (MB)", 1, ".0f"),
            ("step_seconds", "step (s)", 1, ".2f"),
        ),
        {
            "hyperbolic": "hyperbolic",
            "bare": "hyperbolic without batch norm",
            "ends": "hyperbolic, convolutions at both ends",
            "plain": "plain",
            "unet": "U-Net",
        },
    ),
    "depth": Table(
        "Depth from one picture",
        "400 rendered rooms of 64 x 48 pixels to train, 100 to validate, 100 to test (once); same loop, loss and "
        "learning rate for both. Photograph: one real scene, the motorcycle of Middlebury's stereo benchmark, scaled "
        "by one factor so that the medians are equal. 'Constant' is one depth for all pixels. Networks: "
        "`pdegcnn_examples.networks.scenes`.",
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
        goal=(
            "A full training for both: the losses were still falling after 15 epochs. Two more seeds would take 35 "
            "minutes, 150 epochs two hours for the hyperbolic network."
        ),
    ),
    "plane_detection": Table(
        "Oriented boxes",
        "Ships: 400 upright drawn scenes of 64 x 64 pixels to train, 200 upright and 200 turned ones to test. Nuclei: "
        "the image of 512 x 512 pixels in the package stardist; 256 of its columns to train, 192 to test, upright and "
        "rotated by the three quarter turns. Training scenes were not rotated. AP: average precision; a box is "
        "correct if its intersection over union is at least 0.5 or 0.75. Both networks have the same steps, learning "
        "rate, loss and decoding. Trainings took minutes and were far from converged. Networks: "
        "`pdegcnn_examples.networks.boxes`.",
        (
            ("ap_upright", "AP 0.5, upright (%)", 100, ".1f"),
            ("ap_turned", "AP 0.5, turned (%)", 100, ".1f"),
            ("ap75_upright", "AP 0.75, upright (%)", 100, ".1f"),
            ("ap75_turned", "AP 0.75, turned (%)", 100, ".1f"),
        ),
        {"pde": "detector on SE(2)", "cnn": "plain CNN"},
        goal=(
            "Boxes that turn with the image, to 1e-5 for quarter turns (a test), and a higher precision than "
            "the CNN on turned scenes: reached, except for nuclei, where both are equal within their "
            "deviations. 80 epochs, ten times those of the ships, would take 40 minutes for each detector."
        ),
    ),
    "volumes": Table(
        "Labels in volumes",
        "Nuclei: the simulated volume in the package stardist, 31 x 61 x 57 voxels with 51 nuclei. 31 of its 61 rows "
        "to train, 9 to choose the epoch, 21 to test. Threshold: the best value on the training part. Same loop, loss "
        "and patches for both; settings were not tuned. Memory and time: a training step of 32 patches of 16 x 24 x "
        "24 voxels, its peak beyond parameters, in a separate process; other work on the machine made all times "
        "several times longer. Networks: `pdegcnn_examples.networks.volumes`.",
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
        "of each network, 1,000 to test. Networks: `pdegcnn_examples.networks.digits`.",
        (("test_error", "test error (%)", 100, ".2f"), ("val_error", "validation error (%)", 100, ".2f")),
        {"hyperbolic": "hyperbolic, block-low-rank", "plain": "CNN"},
    ),
    "denoising": Table(
        "Pictures and lines restored",
        "Grey pictures of scikit-image at half resolution: seven to train on in crops of 24 x 24, four others of 128 "
        "x 128 to test on. Denoise: Gaussian noise of 0.2. Inpaint: 60 % of the pixels are missing. Lines: 200 drawn "
        "pictures of crossing lines with gaps to train on, eight to test on. 240 steps of four crops for every "
        "network, far from converged: compare rows with each other. Figures are means over the test pictures. "
        "Networks: `pdegcnn_examples.networks.restoration`.",
        (
            ("psnr", "PSNR (dB)", 1, ".2f"),
            ("ssim", "SSIM", 1, ".3f"),
            ("input_psnr", "before: PSNR", 1, ".2f"),
            ("input_ssim", "before: SSIM", 1, ".3f"),
        ),
        {"shock": "convection and diffusion-shock", "pde": "convection, dilation, erosion", "cnn": "CNN"},
        goal=(
            "Diffusion-shock ahead of the other terms and of the CNN: on lines only. 2,400 steps, ten times as many, "
            "would take 40 minutes for each network with diffusion-shock."
        ),
    ),
    "whole_clip": Table(
        "A whole clip at once (DAVIS 2016)",
        "The moving object, learnt from every fourth mask of a clip and found in all other frames, 300 steps. All 90 "
        "(camel) or 50 frames of 53 x 30 at once in a reversible network of two coarsenings, or a U-Net with as many "
        "parameters frame by frame; both get time and position of every pixel. Learning rates were not tuned.",
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

Made by `python tools/results_page.py` from the files in `results/`; do not edit. Each row is one run, or the mean ±
standard deviation over runs that differ in their seed only. "Time" is that of training. Another page lists
[command, machine and commit](results_runs.md) of each run.

![Error or accuracy over parameters: digits, vessels, digits on the sphere](images/results_parameters.png)

Filled markers of one shape are networks after as many epochs; hollow ones were trained for other times.
"""
FEW = "![AUC on the test photographs over the number of training photographs](images/results_photographs.png)"
HEAD_OF_RUNS = """# Commands of the results

Made by `python tools/results_page.py`; do not edit. The tables are in [results](results.md). `$DATA` is the folder of
data; the loaders in `pdegcnn_examples.datasets` say how to get each set. A plus sign after a commit means that files
had changed.
"""
ALONE = "**Other lengths of training.** Epochs differ: rows show what a network reached, not which one is better."
PLOTTED = {"rotated_digits": "test_error", "vessels": "auc", "spherical_digits": "upright_rotated"}
"""Recipes whose networks are plotted over their parameters, and the figure."""


def read(folder: Path = FOLDER) -> list[tuple[Path, Result]]:
    """Return all result files; raise ``ValueError`` for one that lacks a field or belongs to no table."""
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
    """Return seconds as text with a suitable unit."""
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def cell(runs: Sequence[Result], name: str, factor: float, form: str) -> str:
    """Return the mean of a figure, with its standard deviation over several runs."""
    values = [run["figures"][name] * factor for run in runs if name in run["figures"]]
    if not values:
        return "–"
    text = format(statistics.mean(values), form)
    return text if len(values) == 1 else f"{text} ± {format(statistics.stdev(values), form)}"


def commit(run: Result) -> str:
    """Return the short commit, with a plus sign where files had changed."""
    return run["commit"][:10] + ("+" if run["commit"].endswith("+") else "")


def machine(run: Result) -> str:
    """Return hardware, threads, version and load of one run."""
    m = run["machine"]
    where = m["gpu"] or f"{m['processor']}, {m['cores']} cores"
    load = "" if m["load_average"] is None else f", load {m['load_average'][0]:.1f} at the end"
    return f"{where}; {m['processes']} process(es) of {m['threads']} thread(s){load}; torch {m['torch']}"


def by_row(results: Sequence[tuple[Path, Result]], table: Table) -> dict[str, list[tuple[Path, Result]]]:
    """Return the runs of each row, in the order of the table."""
    rows: dict[str, list[tuple[Path, Result]]] = defaultdict(list)
    for path, result in results:
        rows[result["row"]].append((path, result))
    return dict(sorted(rows.items(), key=lambda item: table.place(item[0])))


def budgets(results: Sequence[tuple[Path, Result]]) -> tuple[dict[float, list], list]:
    """Return the runs that may be compared, by their number of epochs, and the runs of networks trained alone.

    Runs belong together whose epochs differ by at most an eighth; several seeds of one row are one network.
    """
    groups: dict[float, list[tuple[Path, Result]]] = {}
    for path, run in sorted(results, key=lambda item: item[1]["epochs"]):
        start = next((e for e in groups if run["epochs"] <= 1.125 * e), run["epochs"])
        groups.setdefault(start, []).append((path, run))
    for runs in groups.values():
        runs.sort(key=lambda pair: pair[0])
    equal = {e: runs for e, runs in groups.items() if len({run["row"] for _, run in runs}) > 1}
    return equal, [pair for e, runs in groups.items() if e not in equal for pair in runs]


def section(table: Table, results: Sequence[tuple[Path, Result]]) -> list[str]:
    """Return the lines of a recipe: a table for each number of epochs, and one of networks trained alone."""
    lines = ["", f"## {table.title}", "", table.about]
    equal, alone = budgets(results)
    if not alone and len(equal) == 1 or len({run["row"] for _, run in results}) == 1:
        equal, alone, lines = {}, [], lines + rows_of(table, results)
    for epochs, runs in equal.items():
        most = max(run["epochs"] for _, run in runs)
        span = f"{epochs:.0f}" if round(most) == round(epochs) else f"{epochs:.0f} to {most:.0f}"
        lines += ["", f"**{span} epochs of each network:**", *rows_of(table, runs)]
    if alone:
        lines += ["", ALONE, *rows_of(table, alone)]
    return [*lines, "", f"**Goal.** {table.goal}"] if table.goal else lines


def rows_of(table: Table, results: Sequence[tuple[Path, Result]]) -> list[str]:
    """Return the lines of one table."""
    names = [c for c in table.columns if any(c[0] in r["figures"] for _, r in results)]
    heads = ["network", "parameters", *(c[1] for c in names), "epochs", "time", "seeds"]
    lines = ["", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row, pairs in by_row(results, table).items():
        runs = [run for _, run in pairs]
        epochs, seconds = (statistics.mean(run[name] for run in runs) for name in ("epochs", "seconds"))
        seeds = ", ".join(str(run["seed"]) for run in runs)
        cells = [table.name(row), f"{runs[0]['parameters']:,}", *(cell(runs, c[0], c[2], c[3]) for c in names)]
        lines.append("| " + " | ".join([*cells, f"{epochs:.4g}", duration(seconds), seeds]) + " |")
    return lines


def commands(table: Table, results: Sequence[tuple[Path, Result]]) -> list[str]:
    """Return a line for each run of a table."""
    lines = ["", f"## {table.title}", ""]
    for path, run in (pair for pairs in by_row(results, table).values() for pair in pairs):
        lines.append(
            f"- [`{path.name}`](../results/{path.name}): `{run['command']}` "
            f"(commit {commit(run)}; {run['data']}; {machine(run)})"
        )
    return lines


def page(
    results: Sequence[tuple[Path, Result]],
    head: str = HEAD,
    part: Callable[[Table, Sequence[tuple[Path, Result]]], list[str]] = section,
) -> str:
    """Return a page: its head, and a part for each recipe."""
    lines = head.splitlines()
    if head == HEAD and few_photographs(results):
        lines += ["", FEW]
    for recipe, table in TABLES.items():
        mine = [(path, result) for path, result in results if result["recipe"] == recipe]
        if mine:
            lines += part(table, mine)
    return "\n".join(lines) + "\n"


def plot(results: Sequence[tuple[Path, Result]]) -> None:
    """Draw accuracy over parameters for `PLOTTED`, and over training photographs for the vessels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    style: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "figure.dpi": 130}
    with plt.rc_context(style):
        layout = ConstrainedLayoutEngine(rect=(0.03, 0, 0.97, 1))  # legends would push labels over the edge
        figure, axes = plt.subplots(1, len(PLOTTED), figsize=(11.5, 4.2), layout=layout)
        for axis, (recipe, name) in zip(axes, PLOTTED.items()):
            table = TABLES[recipe]
            (column,) = (c for c in table.columns if c[0] == name)
            whole = [r for r in results if r[1]["recipe"] == recipe and "photograph" not in r[1]["row"]]
            equal, others = budgets([r for r in whole if name in r[1]["figures"]])
            groups = [*equal.values(), *by_row(others, table).values()]
            for marker, runs in zip("os^" + "." * len(groups), groups):
                face = {} if runs in equal.values() else {"markerfacecolor": "none", "marker": "o"}
                for row, pairs in by_row(runs, table).items():
                    values = [run["figures"][name] * column[2] for _, run in pairs]
                    epochs = statistics.mean(run["epochs"] for _, run in pairs)
                    label = f"{table.name(row).partition(' (')[0]}, {epochs:.0f} epochs"
                    x = pairs[0][1]["parameters"]
                    axis.plot(x, statistics.mean(values), **({"marker": marker, "ls": "none", "label": label} | face))
            title = table.title.partition(" (")[0]
            axis.set(xscale="log", xlim=(2000, 100000), xlabel="parameters", ylabel=column[1], title=title)
            axis.set_xticks([3000, 10000, 30000, 100000], ["3,000", "10,000", "30,000", "100,000"])
            axis.minorticks_off()
            axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22))
        _save(figure, "results_parameters.png")

        if (found := few_photographs(results)) is None:
            return
        epochs, points = found
        figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
        for net, scores in points.items():
            counts = sorted(scores)
            label = TABLES["vessels"].name(net)
            axis.plot(counts, [statistics.mean(scores[n]) for n in counts], "o-", label=label)
        axis.set(
            xlabel="training photographs",
            ylabel="AUC",
            xscale="log",
            title=f"Vessels of the retina after {epochs:.0f} epochs",
        )
        axis.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"], minor=False)
        axis.minorticks_off()
        axis.legend(fontsize=8, frameon=False)
        _save(figure, "results_photographs.png")


def few_photographs(results: Sequence[tuple[Path, Result]]) -> tuple[float, dict[str, dict[int, list[float]]]] | None:
    """Return a number of epochs and, for networks trained so long, AUC by network and number of training photographs.

    None if every network had all photographs.
    """
    equal, _ = budgets([r for r in results if r[1]["recipe"] == "vessels"])
    for epochs, runs in equal.items():
        points: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for _, run in runs:
            net, _, rest = run["row"].partition(", ")
            count = int(rest.split()[0]) if "photograph" in rest else 20
            points[net][count].append(run["figures"]["auc"])
        if max(len(found) for found in points.values()) > 1:
            return epochs, points
    return None


def _save(figure: Any, name: str) -> None:
    """Write a figure into the pictures of the site."""
    write_file(DOCS / "images" / name, lambda fresh: figure.savefig(fresh, format="png"))


def main() -> None:
    """Write pages and plots."""
    results = read()
    for path, text in ((PAGE, page(results)), (RUNS, page(results, HEAD_OF_RUNS, commands))):
        write_file(path, lambda fresh, text=text: fresh.write_text(text, encoding="utf-8"))
        print(f"wrote {path.relative_to(ROOT)}")
    plot(results)


if __name__ == "__main__":
    main()
