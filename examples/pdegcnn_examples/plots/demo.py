"""The picture that the demo writes: turned crops, what each network says, accuracy over the angle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from pdegcnn_examples.datasets.textures import TEXTURES, Textures

COLOURS = {True: "#1a7f37", False: "#cf222e"}
"""Of right and of wrong answers."""
LINES = {"PDE-G-CNN": "#0b5fa5", "plain CNN": "#e07b00"}
SHOWN = (0, 30, 60, 90, 120, 150)
"""Angles of the crops that are drawn."""


def draw(
    turned: Mapping[int, Textures], said: Mapping[str, Mapping[int, Tensor]], results: Mapping[str, Any]
) -> Figure:
    """The picture.

    Args:
        turned: the same crops by angle in degrees.
        said: for each network the labels [N] that it gave them, by angle.
        results: for each network ``parameters``, ``upright``, ``any_angle`` and ``accuracy_over_angle``.
    """
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    figure.suptitle("Learned upright, recognised turned", fontsize=17, fontweight="bold")
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    left, right = parts
    _crops(left, turned, said)
    _curves(right, results)
    return figure


def _crops(figure: Any, turned: Mapping[int, Textures], said: Mapping[str, Mapping[int, Tensor]]) -> None:
    """The first crop of each texture at some angles; under it what each network calls it."""
    figure.suptitle("the first test crop of each texture, and what the networks call it (red: wrong)", fontsize=11)
    axes = figure.subplots(len(TEXTURES), len(SHOWN), squeeze=False)
    count = len(turned[0].labels) // len(TEXTURES)
    for row, (texture, line) in enumerate(zip(TEXTURES, axes)):
        for axis, angle in zip(line, SHOWN):
            axis.imshow(turned[angle].images[row * count, 0], cmap="gray", vmin=-3, vmax=3)
            axis.set_xticks([])
            axis.set_yticks([])
            for place, (name, labels) in enumerate(said.items()):
                found = TEXTURES[int(labels[angle][row * count])]
                colour = COLOURS[found == texture]
                short = name.split("-")[0].split()[-1]
                axis.text(
                    0.5,
                    -0.13 - 0.17 * place,
                    f"{short}: {found}",
                    color=colour,
                    fontsize=9.5,
                    ha="center",
                    va="center",
                    transform=axis.transAxes,
                    fontweight="normal" if found == texture else "bold",
                )
            if row == 0:
                axis.set_title("upright" if angle == 0 else f"turned {angle}°", fontsize=10)
        line[0].set_ylabel(texture, fontsize=12)


def _curves(figure: Any, results: Mapping[str, Any]) -> None:
    """Accuracy over the angle."""
    axis = figure.subplots()
    for name, found in results.items():
        over = found["accuracy_over_angle"]
        angles = [*map(int, over), 360]
        values = [100 * v for v in over.values()]
        label = f"{name}: {found['parameters']:,} parameters"
        axis.plot(angles, [*values, values[0]], "o-", color=LINES[name], label=label, linewidth=2.5)
    axis.axhline(100 / len(TEXTURES), color="grey", linestyle=":", linewidth=1)
    axis.text(356, 100 / len(TEXTURES) + 1, "guessing", color="grey", fontsize=9, ha="right")
    axis.set(xlabel="angle of the test crops", ylabel="crops named rightly (%)", xlim=(0, 360), ylim=(25, 103))
    axis.set_xticks(range(0, 361, 90), [f"{a}°" for a in range(0, 361, 90)])
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 0.12), fontsize=11)
    axis.set_title("accuracy over the angle; both trained on upright crops only", fontsize=11)
    axis.grid(alpha=0.3)
