"""Hints about inputs of a model that are valid but probably unintended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pdegcnn.spaces import Mesh, Space
from pdegcnn.testing.motion import tensors

CLOSE = 1e-4
"""Share of a channel's variation that a sum of coordinates may leave, where the channel counts as positions."""


def positions_among(args: tuple[Any, ...], space: Space) -> Iterator[str]:
    """Say so if channels of a function on a mesh in space are the positions of its vertices, shifted and scaled or not.

    A mesh that is turned has other positions, so a network that reads them gives another answer, and no motion of a
    report shows it: symmetries and changes of gauge leave the vertices where they are.
    """
    mesh = next((m for m in (*args, space) if isinstance(m, Mesh)), None)
    if mesh is None or mesh.surface.vertices is None:
        return
    count = mesh.vertex_count
    known = torch.cat((mesh.vertices.cpu(), torch.ones(count, 1, dtype=torch.float64)), dim=1)
    for u in tensors(list(args)):
        if u.is_complex() or u.ndim != 3 or u.shape[-1] != count:
            continue
        channels = u.detach().cpu().double().flatten(0, 1).T  # [V, B C]
        fit = known @ torch.linalg.lstsq(known, channels).solution
        varies = channels - channels.mean(0)
        alike = ((channels - fit).norm(dim=0) < CLOSE * varies.norm(dim=0)).reshape(u.shape[:2]).all(0)
        if bool(alike.any()):
            yield (
                f"channels {alike.nonzero().flatten().tolist()} of the input are positions of the vertices, which "
                "change when the mesh is moved; pg.gauge.heat_kernel_signature and the curvatures there do not"
            )
