"""Pictures of what a network does: orientation channels, kernels and predictions.

Every function takes plain arrays or tensors and draws into ``figure`` (a matplotlib figure or sub-figure), or into a
new one that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from pdegcnn import _checks

__all__ = ["kernels", "orientation_channels", "predictions"]

ArrayLike = Any


def orientation_channels(
    stages: Mapping[str, ArrayLike], figure: Any = None, *, columns: int = 8, title: str | None = None
) -> Any:
    """One row per stage of a computation, one column per orientation; each row has its own grey scale.

    Args:
        stages: name of the stage -> one channel of a signal on SE(2), ``[Or,H,W]``; the same Or for all.
        figure: where to draw; a new figure if None.
        columns: greatest number of orientations to draw, evenly spaced.
        title: above everything.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no stage, or one is not ``[Or,H,W]`` with the Or of the first.
    """
    arrays = _named("stages", stages, 3, "[Or,H,W]")
    count = next(iter(arrays.values())).shape[0]
    shown = _spread(count, columns)
    figure = _figure(figure, (1.1 * len(shown) + 1.6, 1.15 * len(arrays) + 0.6))
    axes = figure.subplots(len(arrays), len(shown), squeeze=False)
    for row, (name, u) in zip(axes, arrays.items()):
        low, high = float(u.min()), float(u.max())
        for axis, o in zip(row, shown):
            axis.imshow(u[o], cmap="gray", vmin=low, vmax=high)
            _bare(axis)
        _row_label(row[0], name)
    for axis, o in zip(axes[0], shown):
        axis.set_title(f"{360 * o / count:.0f}°", fontsize=9)
    _title(figure, title)
    return figure


def kernels(
    costs: Mapping[str, ArrayLike],
    figure: Any = None,
    *,
    columns: int = 8,
    used: int | None = None,
    title: str | None = None,
) -> Any:
    """One row per kernel, one column per orientation of its centre: the cost of moving by (dx, dy), at the best turn.

    Args:
        costs: name -> a turned kernel of dilation or erosion, ``[Or,KO,KH,KW]``, non-negative, possibly infinite.
        figure: where to draw; a new figure if None.
        columns: greatest number of orientations to draw, evenly spaced.
        used: outline the central box of this many taps a side.
        title: above everything.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no kernel, or one is not ``[Or,KO,KH,KW]``.
    """
    arrays = _named("costs", costs, 4, "[Or,KO,KH,KW]")
    count = next(iter(arrays.values())).shape[0]
    shown = _spread(count, columns)
    figure = _figure(figure, (1.1 * len(shown) + 2.2, 1.2 * len(arrays) + 0.6))
    axes = figure.subplots(len(arrays), len(shown), squeeze=False)
    image = None
    for row, (name, k) in zip(axes, arrays.items()):
        for axis, o in zip(row, shown):
            cost = k[o].min(0)
            ry, rx = cost.shape[0] / 2, cost.shape[1] / 2
            image = axis.imshow(np.exp(-cost), cmap="magma", vmin=0, vmax=1, extent=(-rx, rx, ry, -ry))
            _bare(axis)
            if used is not None:
                _box(axis, used)
        _row_label(row[0], name)
    for axis, o in zip(axes[0], shown):
        axis.set_title(f"{360 * o / count:.0f}°", fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=[0, 1])
    bar.ax.set_yticklabels(["out of\nreach", "free"], fontsize=8)
    _title(figure, title)
    return figure


def predictions(
    images: ArrayLike,
    probabilities: ArrayLike,
    figure: Any = None,
    *,
    names: Sequence[str] | None = None,
    truth: int | None = None,
    angles: Sequence[float] | None = None,
    title: str | None = None,
) -> Any:
    """Images in a row, under each the predicted class and its probability (green when right, red when wrong).

    Args:
        images: ``[N,H,W]``.
        probabilities: ``[N,K]``, or several sets of them: name -> ``[N,K]``, one line of text each.
        figure: where to draw; a new figure if None.
        names: of the classes; their numbers if None.
        truth: the right class of all images; no colours if None.
        angles: of each image in degrees, written above it.
        title: above everything.

    Returns:
        The figure.

    Raises:
        ValueError: if shapes do not belong together.
    """
    pictures = _array("images", images, 3, "[N,H,W]")
    sets = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    tables = _named("probabilities", sets, 2, "[N,K]")
    for name, table in tables.items():
        if len(table) != len(pictures):
            raise ValueError(f"probabilities: expected {len(pictures)} rows as images, got {len(table)} ({name!r})")
        if names is not None and len(names) != table.shape[1]:
            raise ValueError(f"names: expected {table.shape[1]} as there are classes, got {len(names)}")
    if angles is not None and len(angles) != len(pictures):
        raise ValueError(f"angles: expected {len(pictures)} as there are images, got {len(angles)}")
    figure = _figure(figure, (1.2 * len(pictures) + 1.6, 1.5 + 0.3 * len(tables)))
    row = figure.subplots(1, len(pictures), squeeze=False)[0]
    for n, (axis, picture) in enumerate(zip(row, pictures)):
        axis.imshow(picture, cmap="gray")
        _bare(axis)
        axis.set_xlabel("\n" * (len(tables) + 1), fontsize=9)  # room for the lines of text
        if angles is not None:
            axis.set_title(f"{angles[n]:.0f}°", fontsize=9)
        for line, table in enumerate(tables.values()):
            best = int(table[n].argmax())
            label = names[best] if names is not None else str(best)
            color = "black" if truth is None else "tab:green" if best == truth else "tab:red"
            axis.annotate(
                f"{label}  ({table[n, best]:.0%})", (0.5, -0.16 - 0.24 * line), **_BELOW, ha="center", color=color
            )
    for line, name in enumerate(tables):
        row[0].annotate(name, (-0.15, -0.16 - 0.24 * line), **_BELOW, ha="right")
    _title(figure, title)
    return figure


_BELOW: dict[str, Any] = {"xycoords": "axes fraction", "va": "center", "fontsize": 9, "annotation_clip": False}


def _figure(figure: Any, size: tuple[float, float]) -> Any:
    """The given figure, or a new one that needs no screen and no closing."""
    return Figure(figsize=size, layout="constrained") if figure is None else figure


def _array(name: str, value: ArrayLike, ndim: int, layout: str) -> np.ndarray:
    array = value.detach().cpu() if isinstance(value, Tensor) else value
    array = np.asarray(array.float() if isinstance(array, Tensor) and array.dtype == torch.bfloat16 else array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of real numbers {layout}, got dtype {array.dtype}")
    array = array.astype(np.float64 if array.dtype == np.float64 else np.float32)  # whole numbers have no minus sign
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name}: expected a non-empty array {layout}, got shape {array.shape}")
    return array


def _named(name: str, values: Mapping[str, ArrayLike], ndim: int, layout: str) -> dict[str, np.ndarray]:
    """Arrays of one rank whose first axes agree."""
    arrays = {key: _array(f"{name}[{key!r}]", value, ndim, layout) for key, value in values.items()}
    if not arrays:
        raise ValueError(f"{name}: expected at least one entry, got none")
    if len({a.shape[0] for a in arrays.values()}) > 1:
        raise ValueError(f"{name}: expected equal first axes in {layout}, got {[a.shape for a in arrays.values()]}")
    return arrays


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` evenly spaced indices below ``count``."""
    _checks.positive_int("columns", most)
    return list(range(0, count, -(-count // most)))


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)


def _row_label(axis: Any, text: str) -> None:
    axis.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)


def _box(axis: Any, taps: int) -> None:
    corner = (-taps / 2, -taps / 2)
    axis.add_patch(Rectangle(corner, taps, taps, fill=False, edgecolor="white", linewidth=1))


def _title(figure: Any, title: str | None) -> None:
    if title:
        figure.suptitle(title, fontsize=11, fontweight="bold")
