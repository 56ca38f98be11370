"""An order of the vertices in which neighbours are close to each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from pdegcnn._typing import Ints


def close_order(start: Ints, columns: Ints, sizes: Sequence[int]) -> Ints:
    """Return vertices of each mesh in turn, by reverse Cuthill-McKee, ``[V]``.

    Args:
        start: first neighbour of each vertex, and their number, ``[V+1]``.
        columns: the neighbours, ``[E]``, in the same mesh.
        sizes: vertex counts of the meshes.
    """
    orders, first = [], 0
    for size in sizes:
        low, high = int(start[first]), int(start[first + size])
        lists = columns[low:high] - first, start[first : first + size + 1] - low
        graph = csr_matrix((np.ones(high - low), *lists), shape=(size, size))
        orders.append(first + reverse_cuthill_mckee(graph, symmetric_mode=True).astype(np.int64))
        first += size
    return np.concatenate(orders)
