"""Maps of a mesh to itself that preserve faces, orientation and edge lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from pdegcnn._typing import Numbers, from_numpy
from pdegcnn.surface.checks import as_whole

if TYPE_CHECKING:
    from pdegcnn.spaces.mesh import Mesh


def isometry(mesh: Mesh, image: Numbers) -> tuple[Tensor, Tensor]:
    """Return the image of each vertex, and by how much its frame turns on the way, ``[V]`` radians."""
    to = as_whole("symmetry", image)
    t, n = mesh.surface.triangulation, mesh.vertex_count
    if to.shape != (n,) or not np.array_equal(np.sort(to), np.arange(n)):
        raise ValueError(f"symmetry: expected a permutation of {n} vertices, got shape {to.shape}")
    key, wanted = t.tail * n + t.head, to[t.tail] * n + to[t.head]
    order = np.argsort(key)
    place = order[np.minimum(np.searchsorted(key, wanted, sorter=order), key.size - 1)]
    lengths = t.lengths.ravel()
    if not np.array_equal(key[place], wanted) or not np.allclose(lengths[place], lengths, rtol=1e-6):
        raise ValueError("symmetry: expected a map that preserves faces, orientation and edge lengths")
    frames, gauge = mesh.surface.frames, mesh.gauge.numpy()
    turn = frames.angle[place[frames.first]] - gauge[to] + gauge  # the reference edge has angle -gauge
    return from_numpy(to), from_numpy(turn)
