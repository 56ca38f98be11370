"""Pictures of images with oriented boxes: the truth, and what detectors find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["box_pictures", "draw_boxes"]

COLOURS = ("tab:green", "tab:orange", "tab:cyan")


def draw_boxes(axis: Axes, boxes: Tensor, colour: str) -> None:
    """Draw the outlines of boxes [N,5] over an image whose first pixel reaches from 0 to 1."""
    around = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]])
    for x, y, length, width, angle in boxes.tolist():
        u, v = (around * (length / 2, width / 2)).T
        cosine, sine = np.cos(angle), np.sin(angle)
        axis.plot(x + cosine * u - sine * v, y + sine * u + cosine * v, color=colour, linewidth=1.2)


def box_pictures(rows: Mapping[str, Tensor], boxes: Mapping[str, Sequence[Tensor]]) -> Figure:
    """Return a row for each image: the image, then the image with the boxes of each kind.

    Args:
        rows: title -> image [H,W].
        boxes: title of a column -> boxes [N,5] on each image.

    Raises:
        ValueError: if there are boxes for another number of images.
    """
    for name, found in boxes.items():
        if len(found) != len(rows):
            raise ValueError(f"boxes: expected boxes on {len(rows)} images, got {len(found)} of {name!r}")
    figure = Figure(figsize=(2.3 * (1 + len(boxes)), 2.3 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), 1 + len(boxes), squeeze=False)
    for number, (title, image) in enumerate(rows.items()):
        height, width = image.shape
        axes[number, 0].set_ylabel(title, fontsize=9)
        for column, (axis, name) in enumerate(zip(axes[number], ["image", *boxes])):
            axis.imshow(image.numpy(), cmap="gray", extent=(0, width, height, 0))
            if column:
                draw_boxes(axis, boxes[name][number], COLOURS[(column - 1) % len(COLOURS)])
            axis.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
            if number == 0:
                axis.set_title(name, fontsize=9)
    return figure
