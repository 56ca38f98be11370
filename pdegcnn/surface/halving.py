"""Detection of vertices that are midpoints of edges of a coarser triangulation whose triangles were cut into four.

Source: Taubin, *Detecting and reconstructing subdivision connectivity* (2002), reduced to its case of triangles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from pdegcnn._typing import Ints
from pdegcnn.surface.triangulation import Triangulation


def middles(triangulation: Triangulation) -> NDArray[np.bool_]:
    """Return whether each vertex is such a middle, ``[V]``; False in connected parts that were not cut in this way.

    Connectivity alone decides. A middle has six triangles (three at the boundary), and the straight line over it joins
    two vertices of the coarser triangulation. So these are found from the vertices that have other numbers of
    triangles. Where there are none, as on a periodic grid, the vertex of least number is one of them.
    """
    t, n = triangulation, triangulation.vertex_count
    boundary = t.on_boundary
    regular = np.bincount(t.tail, minlength=n) == np.where(boundary, 3, 6)
    ends = _straight_lines(t, regular)
    part, across = _components(t.tail, t.head, n), _components(*ends, n)
    least = np.full(part.max() + 1, n)
    np.minimum.at(least, part, np.where(regular, n, np.arange(n)))
    without = np.flatnonzero(least == n)  # parts of regular vertices alone
    first = np.full(least.size, n)
    np.minimum.at(first, part, np.arange(n))
    seeds = np.zeros(n, dtype=bool)
    seeds[~regular] = seeds[first[without]] = True
    coarse = np.isin(across, across[seeds])
    in_face = coarse[t.faces].sum(1)  # one in three of the four quarters of a face, none in the inner one
    own, parts = part[t.faces[:, 0]], least.size
    count = [np.bincount(own[x], minlength=parts) for x in (in_face > 1, in_face == 1, in_face == 0)]
    cut = (count[0] == 0) & (count[1] == 3 * count[2])
    return ~coarse & cut[part]


def _straight_lines(t: Triangulation, regular: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return the two ends of every straight line of two edges over a regular vertex."""
    turn = t.twin[t.previous]  # the next half-edge around the same vertex
    inner = np.flatnonzero((regular & ~t.on_boundary)[t.tail])
    ahead = inner
    for _ in range(3):
        ahead = turn[ahead]
    border = np.flatnonzero(t.twin < 0)
    leaving = np.full(t.vertex_count, -1)
    leaving[t.tail[border]] = border
    arriving = border[regular[t.head[border]]]
    one = np.concatenate((t.head[inner], t.tail[arriving]))
    return one, np.concatenate((t.head[ahead], t.head[leaving[t.head[arriving]]]))


def _components(one: Ints, other: Ints, count: int) -> Ints:
    links: Any = sparse.coo_matrix((np.ones(one.size, dtype=np.int8), (one, other)), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)
