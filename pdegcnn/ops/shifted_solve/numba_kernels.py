"""Loops of the shifted solve, compiled by Numba for each number of lanes: one system in each lane.

Conjugate gradients with symmetric successive over-relaxation as preconditioner, in the form that needs the two sweeps
and no further product (Eisenstat 1981): the sweep from below and that from above read each pair once. All lanes take
part in one vector operation; finished lanes no longer change.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FLAGS = {"contract", "nsz"}


# rows: generic
LANES, PARTS = 1, 2  # systems side by side, and reals of each of their numbers


# rows: end
@njit(cache=True, nogil=True, fastmath=FLAGS)
def add_pair(total, a, b, row):
    """Add factor ``a + ib`` times a row of numbers, ``[PARTS,LANES]``."""
    if PARTS == 2:
        for c in range(LANES):
            total[0, c] += a * row[0, c] - b * row[1, c]
            total[1, c] += a * row[1, c] + b * row[0, c]
    else:
        for c in range(LANES):
            total[0, c] += a * row[0, c]


@njit(cache=True, nogil=True, fastmath=FLAGS)
def from_above(stencil, base, fields, ratio, time, omega):
    """Compute ``p = r + ratio p``, and ``q = H (D + U)^-1 p``, by rows from the last to the first."""
    start, columns, values = stencil
    residual, p, q, _, _, _, h = fields
    total = np.empty((PARTS, LANES), p.dtype)
    for v in range(p.shape[0] - 1, -1, -1):
        total[:] = 0
        e = start[base + v + 1] - 1
        while columns[e] > base + v:
            add_pair(total, values[e, 0, 0], values[e, 0, 1], q[columns[e] - base])
            e -= 1
        for i in range(PARTS):
            for c in range(LANES):
                p[v, i, c] = residual[v, i, c] + ratio[c] * p[v, i, c]
                q[v, i, c] = h[v, c] * omega[c] * (p[v, i, c] - time[c] * h[v, c] * total[i, c])


@njit(cache=True, nogil=True, fastmath=FLAGS)
def from_below(stencil, base, fields, time, omega, along):
    """Compute ``image = A p`` in the preconditioned system, by rows from the first to the last.

    ``along = p . image``.
    """
    start, columns, values = stencil
    _, p, q, k, image, _, h = fields
    total = np.empty((PARTS, LANES), p.dtype)
    along[:] = 0
    for v in range(p.shape[0]):
        total[:] = 0
        e = start[base + v]
        while columns[e] < base + v:
            add_pair(total, values[e, 0, 0], values[e, 0, 1], k[columns[e] - base])
            e += 1
        for i in range(PARTS):
            for c in range(LANES):
                z = q[v, i, c] / h[v, c]
                m = omega[c] * (p[v, i, c] - time[c] * h[v, c] * total[i, c]) + (omega[c] - 2) * z
                k[v, i, c] = h[v, c] * m
                image[v, i, c] = z + m
                along[c] += p[v, i, c] * (z + m)


@njit(cache=True, nogil=True, fastmath=FLAGS)
def advance(fields, length, square):
    """Go ``length`` along the direction: solution and residual; ``square`` of the new residual."""
    residual, _, q, _, image, x, _ = fields
    square[:] = 0
    for v in range(x.shape[0]):
        for i in range(PARTS):
            for c in range(LANES):
                x[v, i, c] += length[c] * q[v, i, c]
                r = residual[v, i, c] - length[c] * image[v, i, c]
                residual[v, i, c] = r
                square[c] += r * r


@njit(cache=True, nogil=True, fastmath=FLAGS)
def begin(stencil, base, right, diagonal, time, fields, omega, goal):
    """Compute scales ``H``, relaxation, first residual ``(D + L)^-1 H right`` and the squared norm to be reached.

    The norm of what is left in the equation itself is at most that residual's times the norms of ``D + L`` and ``1/H``.
    """
    start, columns, values = stencil
    residual, p, q, k, image, x, h = fields
    count = x.shape[0]
    p[:], q[:], image[:], x[:] = 0, 0, 0, 0
    size, widest, mean = np.zeros(LANES), np.ones(LANES), 0.0
    for v in range(count):
        mean += diagonal[base + v] / count
    for c in range(LANES):
        omega[c] = min(max(2 / (1 + np.sqrt(2 / (1 + time[c] * mean))), 1.0), 1.95)
    norms = np.zeros(LANES)
    total, bound = np.empty((PARTS, LANES), x.dtype), np.empty(LANES)
    for v in range(count):
        total[:] = 0
        bound[:] = 0
        for c in range(LANES):
            h[v, c] = 1 / np.sqrt(1 + time[c] * diagonal[base + v])
        e = start[base + v]
        while columns[e] < base + v:
            w, a, b = columns[e] - base, values[e, 0, 0], values[e, 0, 1]
            add_pair(total, a, b, k[w])
            for c in range(LANES):
                bound[c] += np.sqrt(a * a + b * b) * h[w, c]
            e += 1
        for c in range(LANES):
            norms[c] = max(norms[c], time[c] * h[v, c] * bound[c])
            widest[c] = max(widest[c], 1 / h[v, c])
            for i in range(PARTS):
                size[c] += right[v, i, c] * right[v, i, c]
                residual[v, i, c] = omega[c] * h[v, c] * (right[v, i, c] - time[c] * total[i, c])
                k[v, i, c] = h[v, c] * residual[v, i, c]
    for c in range(LANES):
        factor = min(widest[c] * (1 / omega[c] + norms[c]), 1e3)
        goal[c] = size[c] * (goal[c] / factor) ** 2


@njit(cache=True, nogil=True)
def solve_part(stencil, base, right, diagonal, time, tolerance, most, fields):
    """Solve the systems of one mesh, whose first vertex is ``base``; in ``fields[5]`` is then the solution."""
    x = fields[5]
    omega, goal = np.empty(LANES), np.full(LANES, tolerance)
    begin(stencil, base, right, diagonal, time, fields, omega, goal)
    ratio, along, length = np.zeros(LANES), np.empty(LANES), np.zeros(LANES)
    square, fresh = np.zeros(LANES), np.empty(LANES)
    advance(fields, length, square)
    for _ in range(most):
        going = False
        for c in range(LANES):
            going = going or square[c] > goal[c]
        if not going:
            break
        from_above(stencil, base, fields, ratio, time, omega)
        from_below(stencil, base, fields, time, omega, along)
        for c in range(LANES):
            length[c] = square[c] / max(along[c], 1e-300) if square[c] > goal[c] else 0.0
        advance(fields, length, fresh)
        for c in range(LANES):
            ratio[c] = fresh[c] / max(square[c], 1e-300) if length[c] != 0 else 0.0
            square[c] = fresh[c] if length[c] != 0 else square[c]
    for c in range(LANES):
        if not np.isfinite(goal[c]):  # NaN throughout a system whose right-hand side is not finite
            x[:, :, c] = np.nan


@njit(cache=True, nogil=True)
def solve(right, time, order, stencil, diagonal, tolerance, most, bounds, out, first, last):
    """Compute items ``first`` to ``last``: signals, meshes and groups of LANES channels of right and out [B,V,PARTS,C].

    ``time [C]``; ``order``: the channels by their times, for those alike end together; ``bounds``: the first vertex of
    every mesh and their number.
    """
    meshes, channels = bounds.size - 1, right.shape[3]
    groups = -(-channels // LANES)
    for item in range(first, last):
        b, mesh, low = item // groups // meshes, item // groups % meshes, item % groups * LANES
        base, count = bounds[mesh], bounds[mesh + 1] - bounds[mesh]
        high = min(low + LANES, channels)
        times, here = np.ones(LANES), np.zeros((count, PARTS, LANES))
        for c in range(low, high):
            times[c - low] = time[order[c]]
            for v in range(count):
                for k in range(PARTS):
                    here[v, k, c - low] = right[b, base + v, k, order[c]]
        shape = (count, PARTS, LANES)
        fields = (
            np.empty(shape),
            np.empty(shape),
            np.empty(shape),
            np.empty(shape),
            np.empty(shape),
            np.empty(shape),
            np.empty((count, LANES)),
        )
        solve_part(stencil, base, here, diagonal, times, tolerance, count + most, fields)
        for c in range(low, high):
            for v in range(count):
                for k in range(PARTS):
                    out[b, base + v, k, order[c]] = fields[5][v, k, c - low]
