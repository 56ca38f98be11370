"""Pictures side by side: input, predictions and truth; digits at several angles and what networks call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from pdegcnn_examples.plots.networks import predictions

__all__ = ["side_by_side", "turned_digits"]

LABELS = ListedColormap(["#3b4252", "#e8a33d", "#4fa3d1", "#7fb069"])
"""Colours of labels 0, 1, ..."""


def side_by_side(
    rows: Mapping[str, Mapping[str, Tensor]], notes: Mapping[tuple[str, str], str] | None = None, *, size: float = 2.0
) -> Figure:
    """Draw a row of pictures for each input; the names of the first row's pictures are the titles of the columns.

    Args:
        rows: name of a row -> title of a column -> a picture: colours ``[3,H,W]`` or grey values ``[H,W]`` in [0, 1],
            a mask ``[H,W]`` of bool, or labels ``[H,W]`` from 0 to 3.
        notes: (row, column) -> a line of text under that picture.
        size: width of a picture in inches.

    Raises:
        ValueError: if the rows differ in their columns.
    """
    columns = list(next(iter(rows.values())))
    for name, pictures in rows.items():
        if list(pictures) != columns:
            raise ValueError(f"rows: expected the columns {columns} in each, got {list(pictures)} in {name!r}")
    notes = notes or {}
    height = sum(next(iter(p.values())).shape[-2] / next(iter(p.values())).shape[-1] for p in rows.values())
    shape = (size * len(columns) + 0.3, size * height + 0.25 * len(rows) * bool(notes) + 0.3)
    figure = Figure(figsize=shape, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items()):
        line[0].set_ylabel(name, fontsize=9)
        for axis, (title, picture) in zip(line, pictures.items()):
            _show(axis, picture)
            axis.set_xlabel(notes.get((name, title), ""), fontsize=9)
    for axis, title in zip(axes[0], columns):
        axis.set_title(title, fontsize=9)
    return figure


def _show(axis: Axes, picture: Tensor) -> None:
    """Draw one picture without ticks."""
    values = picture.detach().cpu().numpy()
    if values.ndim == 3:
        axis.imshow(np.moveaxis(values, 0, -1).clip(0, 1))
    elif values.dtype.kind in "iu":
        axis.imshow(values, cmap=LABELS, vmin=0, vmax=LABELS.N - 1, interpolation="nearest")
    else:
        axis.imshow(values, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])


def turned_digits(
    digits: Sequence[Tensor],
    labels: Sequence[int],
    chances: Sequence[Mapping[str, Tensor]],
    shown: Sequence[int],
    accuracy: Mapping[str, Mapping[int, float]],
) -> Figure:
    """Draw digits at several angles with the answers of networks, and the accuracy of these over the angle.

    Args:
        digits: each digit at the angles ``shown``, ``[N,H,W]``.
        labels: what each is.
        chances: for each digit, name of a network -> its probabilities ``[N,10]``.
        shown: the N angles in degrees.
        accuracy: name of a network -> angle in degrees -> share of right answers.
    """
    figure = Figure(figsize=(12.5, 2.1 * len(digits)), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.9, 1))
    left, right = parts
    left.suptitle("test digits that one of the networks gets wrong at some angle; answers (red: wrong)", fontsize=11)
    rows: Any = left.subfigures(len(digits), 1, squeeze=False)
    for (row,), pictures, label, said in zip(rows, digits, labels, chances):
        predictions(pictures, said, row, truth=label, angles=shown)
    axis = right.subplots()
    for name, over in accuracy.items():
        axis.plot([*over, 360], [100 * v for v in (*over.values(), over[0])], "o-", label=name, linewidth=2)
    axis.set(xlabel="angle by which all test digits are turned", ylabel="right answers (%)", xlim=(0, 360))
    axis.set_xticks(range(0, 361, 90), [f"{a}°" for a in range(0, 361, 90)])
    axis.set_title("accuracy over the angle", fontsize=11)
    axis.legend(fontsize=9)
    axis.grid(alpha=0.3)
    return figure
