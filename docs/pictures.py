"""Drawing for the pages of the site; no mathematics."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

SMOKE = os.environ.get("PDEGCNN_DOCS_SMOKE", "") not in ("", "0")
"""Whether notebooks are to run in a small form, to see that they run at all."""

matplotlib.rcParams.update(
    {
        "figure.dpi": 130,
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "image.cmap": "gray",
        "legend.frameon": False,
        "savefig.facecolor": "white",
    }
)
torch.set_num_threads(1)


def array(x: Any) -> np.ndarray:
    """Anything as a NumPy array."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def bare(axis: Any) -> None:
    """No ticks, no frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)


def table(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[str] | None = None,
    *,
    size: float = 1.35,
    cmap: str = "gray",
    scale: str = "row",
) -> None:
    """Pictures in rows; ``scale``: a range of grey for each ``"row"``, each picture (``"own"``) or ``"all"``."""
    pictures = {name: [array(p).squeeze() for p in row] for name, row in rows.items()}
    width = max(len(row) for row in pictures.values())
    labels = any(name for name in pictures)
    figure, axes = plt.subplots(
        len(pictures),
        width,
        figsize=(size * width + (1.2 if labels else 0), size * 1.08 * len(pictures)),
        squeeze=False,
    )
    everything = np.concatenate([p.ravel() for row in pictures.values() for p in row])
    for line, (name, row) in zip(axes, pictures.items()):
        for axis in line:
            bare(axis)
        for axis, picture in zip(line, row):
            values = {"row": np.concatenate([p.ravel() for p in row]), "own": picture, "all": everything}[scale]
            axis.imshow(picture, cmap=cmap, vmin=values.min(), vmax=values.max())
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
    for axis, title in zip(axes[0], columns or ()):
        axis.set_title(title)
    figure.tight_layout(pad=0.3)
    plt.show()


def curves(
    x: Any,
    lines: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    *,
    log: str = "",
    size: tuple[float, float] = (5.2, 2.8),
    marker: str = "o",
) -> None:
    """Lines over ``x``; ``log``: axes with a logarithmic scale, of ``"xy"``."""
    figure, axis = plt.subplots(figsize=size)
    for name, y in lines.items():
        axis.plot(array(x)[: len(y)], array(y), marker=marker, ms=3, lw=1.3, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if "x" in log:
        axis.set_xscale("log")
    if "y" in log:
        axis.set_yscale("log")
    if len(lines) > 1:
        axis.legend(fontsize=8)
    figure.tight_layout()
    plt.show()


def contours(
    fields: Mapping[str, Any], half: float, levels: Sequence[float], *, labels: tuple[str, str] = ("x", "y")
) -> None:
    """Level lines of functions sampled on ``[-half, half]^2``, side by side."""
    figure, axes = plt.subplots(1, len(fields), figsize=(2.1 * len(fields), 2.3), squeeze=False, sharey=True)
    for axis, (name, field) in zip(axes[0], fields.items()):
        value = array(field)
        ticks = np.linspace(-half, half, value.shape[0])
        axis.contourf(ticks, ticks, value, levels=[0, *levels], cmap="magma_r", extend="max", alpha=0.85)
        axis.contour(ticks, ticks, value, levels=levels, colors="black", linewidths=0.6)
        axis.set(title=name, aspect="equal", xlabel=labels[0])
    axes[0, 0].set_ylabel(labels[1])
    figure.tight_layout()
    plt.show()


def spheres(signals: Mapping[str, Any], *, cmap: str = "viridis", scale: str = "own") -> None:
    """Signals ``[nlat,nlon]`` on rings, each seen as a whole (Mollweide's projection)."""
    maps = {name: array(s).squeeze() for name, s in signals.items()}
    figure, axes = plt.subplots(
        1, len(maps), figsize=(2.5 * len(maps), 1.6), squeeze=False, subplot_kw={"projection": "mollweide"}
    )
    low, high = min(m.min() for m in maps.values()), max(m.max() for m in maps.values())
    for axis, (name, values) in zip(axes[0], maps.items()):
        nlat, nlon = values.shape
        shown = np.roll(values, nlon // 2, axis=1)
        latitude = np.linspace(math.pi / 2, -math.pi / 2, nlat + 1)
        longitude = np.linspace(-math.pi, math.pi, nlon + 1)
        limits = (low, high) if scale == "all" else (None, None)
        axis.pcolormesh(longitude, latitude, shown, cmap=cmap, vmin=limits[0], vmax=limits[1], rasterized=True)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(name, fontsize=9)
    figure.tight_layout(pad=0.4)
    plt.show()


def surfaces(
    vertices: Any,
    faces: Any,
    fields: Mapping[str, Any],
    *,
    arrows: Mapping[str, Any] | None = None,
    cmap: str = "viridis",
    view: tuple[float, float] = (20, 40),
) -> None:
    """Functions on the vertices of one mesh; ``arrows``: tangent vectors ``[V,3]`` for fields of the same names."""
    points, triangles = array(vertices), array(faces)
    figure, axes = plt.subplots(
        1, len(fields), figsize=(2.7 * len(fields), 2.8), squeeze=False, subplot_kw={"projection": "3d"}
    )
    for axis, (name, values) in zip(axes[0], fields.items()):
        values = array(values).astype(float)
        art = axis.plot_trisurf(*points.T, triangles=triangles, linewidth=0, antialiased=False, cmap=cmap, alpha=0.95)
        art.set_array(values[triangles].mean(1))
        art.autoscale()
        if arrows and name in arrows:
            elevation, azimuth = np.radians(view)
            eye = np.array(
                [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
            )
            seen = points @ eye > 0.1 * np.abs(points).max()
            start = points[seen] * 1.03
            axis.quiver(*start.T, *array(arrows[name])[seen].T, color="black", lw=0.8, arrow_length_ratio=0.35)
        axis.view_init(*view)
        axis.set_box_aspect(np.ptp(points, axis=0), zoom=1.2)
        axis.set_axis_off()
        axis.set_title(name, y=1.02)
    figure.tight_layout(pad=0.2)
    plt.show()
