"""Drawing functions on surfaces."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.colors import Normalize
from torch import Tensor

import pdegcnn as pg


def paint(
    axes: Any,
    mesh: pg.Mesh,
    values: Tensor,
    title: str,
    *,
    limits: tuple[float, float],
    view: tuple[float, float],
    colours: str = "viridis",
) -> None:
    """The surface coloured by a function (grey at faces of NaN alone), from elevation and azimuth ``view``, degrees."""
    faces, p = mesh.faces.numpy(), mesh.vertices.numpy()
    at_faces = torch.nanmean(values[mesh.faces], dim=1).numpy()
    shades = matplotlib.colormaps[colours].with_extremes(bad="0.75")
    drawn = axes.plot_trisurf(*p.T, triangles=faces, linewidth=0, antialiased=False, shade=False)
    drawn.set_facecolor(shades(Normalize(*limits)(np.ma.masked_invalid(at_faces))))
    axes.view_init(elev=view[0], azim=view[1])
    axes.set_box_aspect(np.ptp(p, axis=0), zoom=1.4)
    axes.set_title(title, fontsize=11, y=1.0)
    axes.set_axis_off()
