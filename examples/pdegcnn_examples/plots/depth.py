"""Pictures of depths: input, truth and predictions side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["depth_pictures"]


def depth_pictures(images: Sequence[Tensor], depths: Sequence[Tensor], found: Mapping[str, Sequence[Tensor]]) -> Figure:
    """One row per scene: picture, true depth, and the depth that each network predicts, in the colours of the truth.

    Args:
        images: [3,H,W] in [0,1], each of its own size.
        depths: [H,W] in metres; 0 (not known) stays white.
        found: name of a network -> its prediction [H,W] of every scene.

    Returns:
        The figure.

    Raises:
        ValueError: if a network has not as many predictions as there are images.
    """
    for name, values in {"depths": depths, **found}.items():
        if len(values) != len(images):
            raise ValueError(f"{name}: expected {len(images)} as there are images, got {len(values)}")
    figure = Figure(figsize=(2.1 * (2 + len(found)), 1.6 * len(images) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), 2 + len(found), squeeze=False)
    for row, (axis, image, depth) in enumerate(zip(axes, images, depths)):
        axis[0].imshow(image.movedim(0, -1).clamp(0, 1).numpy())
        truth = np.where(depth.numpy() > 0, depth.numpy(), np.nan)
        shown: dict[str, Any] = {"cmap": "viridis", "vmin": np.nanmin(truth), "vmax": np.nanmax(truth)}
        for place, values in zip(axis[1:], [truth, *(maps[row].numpy() for maps in found.values())]):
            drawn = place.imshow(values, **shown)
        bar = figure.colorbar(drawn, ax=axis[-1], shrink=0.9)
        bar.ax.tick_params(labelsize=7)
        bar.ax.set_title("m", fontsize=7)
    for axis, name in zip(axes[0], ["picture", "truth", *found]):
        axis.set_title(name, fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure
