"""Pictures of labelled volumes: slices with the outlines of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["slice_pictures"]


def slice_pictures(values: Tensor, masks: Mapping[str, Tensor], slices: Sequence[int]) -> Figure:
    """One row per slice: the slice alone, then with the outline of each mask.

    Args:
        values: [D,H,W].
        masks: title -> [D,H,W] bool.
        slices: numbers of the slices.

    Returns:
        The figure.

    Raises:
        ValueError: if a mask is not as large as the volume.
    """
    for name, mask in masks.items():
        if mask.shape != values.shape:
            raise ValueError(f"masks: expected shape {tuple(values.shape)}, got {tuple(mask.shape)} of {name!r}")
    height = values.shape[1] / values.shape[2]
    figure = Figure(figsize=(2.2 * (1 + len(masks)), 2.2 * height * len(slices) + 0.3), layout="constrained")
    axes = figure.subplots(len(slices), 1 + len(masks), squeeze=False)
    low, high = float(values.quantile(0.01)), float(values.quantile(0.995))
    for row, number in zip(axes, slices):
        for axis, mask in zip(row, [None, *masks.values()]):
            axis.imshow(values[number].numpy(), cmap="gray", vmin=low, vmax=high)
            if mask is not None and bool(mask[number].any()) and not bool(mask[number].all()):
                axis.contour(mask[number].numpy(), levels=[0.5], colors="tab:orange", linewidths=1.0)
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, name in zip(axes[0], ["slice", *masks]):
        axis.set_title(name, fontsize=9)
    return figure
