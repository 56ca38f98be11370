"""Loops of the shifted solve, compiled by Numba for each number of lanes: one system in each lane.

Conjugate gradients with symmetric successive over-relaxation as preconditioner, in the form that needs the two sweeps
and no further product (Eisenstat 1981): the sweep from below and that from above read each pair once. All lanes take
part in one vector operation; finished lanes no longer change.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz"}
R, P, Q, K, IMAGE, X, H, FIELDS = range(8)
"""Fields ``[FIELDS,V,PARTS,LANES]``: residual, direction, what the sweeps compute, solution, scales; their number."""
TIME, OMEGA, GOAL, RATIO, ALONG, LENGTH, SQUARE, FRESH, SIZE, WIDEST, NORMS, BOUND, TOTAL = range(13)
NUMBERS = TOTAL + 2
"""Numbers ``[NUMBERS,LANES]`` of the systems; the last two are sums over the pairs of a vertex."""


# rows: generic
LANES, PARTS = 1, 2  # systems side by side, and reals of each of their numbers


# rows: end
@njit(**PART, fastmath=FLAGS)
def add_pair(total, a, b, row):
    """Add factor ``a + ib`` times a row of numbers, ``[PARTS,LANES]``."""
    if PARTS == 2:
        for c in range(LANES):
            total[0, c] += a * row[0, c] - b * row[1, c]
            total[1, c] += a * row[1, c] + b * row[0, c]
    else:
        for c in range(LANES):
            total[0, c] += a * row[0, c]


@njit(**PART, fastmath=FLAGS)
def from_above(stencil, base, fields, lanes):
    """Compute ``p = r + ratio p``, and ``q = H (D + U)^-1 p``, by rows from the last to the first."""
    start, columns, values = stencil
    residual, p, q, h = fields[R], fields[P], fields[Q], fields[H]
    ratio, time, omega, total = lanes[RATIO], lanes[TIME], lanes[OMEGA], lanes[TOTAL : TOTAL + 2]
    for v in range(p.shape[0] - 1, -1, -1):
        for i in range(PARTS):
            for c in range(LANES):
                total[i, c] = 0
        e = start[base + v + 1] - 1
        while columns[e] > base + v:
            add_pair(total, values[e, 0, 0], values[e, 0, 1], q[columns[e] - base])
            e -= 1
        for i in range(PARTS):
            for c in range(LANES):
                p[v, i, c] = residual[v, i, c] + ratio[c] * p[v, i, c]
                q[v, i, c] = h[v, 0, c] * omega[c] * (p[v, i, c] - time[c] * h[v, 0, c] * total[i, c])


@njit(**PART, fastmath=FLAGS)
def from_below(stencil, base, fields, lanes):
    """Compute ``image = A p`` in the preconditioned system, by rows from the first to the last.

    ``along = p . image``.
    """
    start, columns, values = stencil
    p, q, k, image, h = fields[P], fields[Q], fields[K], fields[IMAGE], fields[H]
    along, time, omega, total = lanes[ALONG], lanes[TIME], lanes[OMEGA], lanes[TOTAL : TOTAL + 2]
    for c in range(LANES):
        along[c] = 0
    for v in range(p.shape[0]):
        for i in range(PARTS):
            for c in range(LANES):
                total[i, c] = 0
        e = start[base + v]
        while columns[e] < base + v:
            add_pair(total, values[e, 0, 0], values[e, 0, 1], k[columns[e] - base])
            e += 1
        for i in range(PARTS):
            for c in range(LANES):
                z = q[v, i, c] / h[v, 0, c]
                m = omega[c] * (p[v, i, c] - time[c] * h[v, 0, c] * total[i, c]) + (omega[c] - 2) * z
                k[v, i, c] = h[v, 0, c] * m
                image[v, i, c] = z + m
                along[c] += p[v, i, c] * (z + m)


@njit(**PART, fastmath=FLAGS)
def advance(fields, lanes):
    """Go ``length`` along the direction: solution and residual; ``fresh``: square of the new residual."""
    residual, q, image, x = fields[R], fields[Q], fields[IMAGE], fields[X]
    length, fresh = lanes[LENGTH], lanes[FRESH]
    for c in range(LANES):
        fresh[c] = 0
    for v in range(x.shape[0]):
        for i in range(PARTS):
            for c in range(LANES):
                x[v, i, c] += length[c] * q[v, i, c]
                r = residual[v, i, c] - length[c] * image[v, i, c]
                residual[v, i, c] = r
                fresh[c] += r * r


@njit(**PART, fastmath=FLAGS)
def begin(stencil, base, diagonal, tolerance, fields, lanes):
    """Compute scales ``H``, relaxation, first residual ``(D + L)^-1 H right`` and the squared norm to be reached.

    The norm of what is left in the equation itself is at most that residual's times the norms of ``D + L`` and ``1/H``.
    The right-hand side is in the field of the solution, which becomes zero.
    """
    start, columns, values = stencil
    residual, k, x, h = fields[R], fields[K], fields[X], fields[H]
    time, omega, goal, total = lanes[TIME], lanes[OMEGA], lanes[GOAL], lanes[TOTAL : TOTAL + 2]
    size, widest, norms, bound = lanes[SIZE], lanes[WIDEST], lanes[NORMS], lanes[BOUND]
    count, mean = x.shape[0], 0.0
    for v in range(count):
        mean += diagonal[base + v] / count
    for c in range(LANES):
        size[c], widest[c], norms[c] = 0, 1, 0
        omega[c] = min(max(2 / (1 + np.sqrt(2 / (1 + time[c] * mean))), 1.0), 1.95)
    for v in range(count):
        for c in range(LANES):
            bound[c] = 0
            h[v, 0, c] = 1 / np.sqrt(1 + time[c] * diagonal[base + v])
            for i in range(PARTS):
                total[i, c] = 0
        e = start[base + v]
        while columns[e] < base + v:
            w, a, b = columns[e] - base, values[e, 0, 0], values[e, 0, 1]
            add_pair(total, a, b, k[w])
            for c in range(LANES):
                bound[c] += np.sqrt(a * a + b * b) * h[w, 0, c]
            e += 1
        for c in range(LANES):
            norms[c] = max(norms[c], time[c] * h[v, 0, c] * bound[c])
            widest[c] = max(widest[c], 1 / h[v, 0, c])
            for i in range(PARTS):
                right = x[v, i, c]
                x[v, i, c] = 0
                size[c] += right * right
                residual[v, i, c] = omega[c] * h[v, 0, c] * (right - time[c] * total[i, c])
                k[v, i, c] = h[v, 0, c] * residual[v, i, c]
    for c in range(LANES):
        factor = min(widest[c] * (1 / omega[c] + norms[c]), 1e3)
        goal[c] = size[c] * (tolerance / factor) ** 2


@njit(**PART)
def solve_part(stencil, base, diagonal, tolerance, most, fields, lanes):
    """Solve the systems of one mesh, whose first vertex is ``base``.

    ``fields[X]`` holds the right-hand sides and then the solutions.
    """
    x, goal, ratio, along = fields[X], lanes[GOAL], lanes[RATIO], lanes[ALONG]
    length, square, fresh = lanes[LENGTH], lanes[SQUARE], lanes[FRESH]
    for v in range(x.shape[0]):
        for i in range(PARTS):
            for c in range(LANES):
                fields[P, v, i, c], fields[Q, v, i, c], fields[IMAGE, v, i, c] = 0, 0, 0
    begin(stencil, base, diagonal, tolerance, fields, lanes)
    for c in range(LANES):
        length[c], ratio[c] = 0, 0
    advance(fields, lanes)
    for c in range(LANES):
        square[c] = fresh[c]
    for _ in range(most):
        going = False
        for c in range(LANES):
            going = going or square[c] > goal[c]
        if not going:
            break
        from_above(stencil, base, fields, lanes)
        from_below(stencil, base, fields, lanes)
        for c in range(LANES):
            length[c] = square[c] / max(along[c], 1e-300) if square[c] > goal[c] else 0.0
        advance(fields, lanes)
        for c in range(LANES):
            ratio[c] = fresh[c] / max(square[c], 1e-300) if length[c] != 0 else 0.0
            square[c] = fresh[c] if length[c] != 0 else square[c]
    for c in range(LANES):
        if not np.isfinite(goal[c]):  # NaN throughout a system whose right-hand side is not finite
            for v in range(x.shape[0]):
                for i in range(PARTS):
                    x[v, i, c] = np.nan


@njit(**ENTRY)
def solve(room, lanes, right, time, order, stencil, diagonal, tolerance, most, bounds, out, first, last):
    """Compute items ``first`` to ``last``: signals, meshes and groups of LANES channels of right and out [B,V,PARTS,C].

    ``time [C]``; ``order``: the channels by their times, for those alike end together; ``bounds``: the first vertex of
    every mesh and their number. ``room`` and ``lanes`` are room for FIELDS numbers of each vertex and NUMBERS of each
    system.
    """
    meshes, channels = bounds.size - 1, right.shape[3]
    groups, lanes = -(-channels // LANES), lanes.reshape(NUMBERS, LANES)
    for item in range(first, last):
        b, mesh, low = item // groups // meshes, item // groups % meshes, item % groups * LANES
        base, count = bounds[mesh], bounds[mesh + 1] - bounds[mesh]
        fields = room[: FIELDS * count * PARTS * LANES].reshape(FIELDS, count, PARTS, LANES)
        for lane in range(LANES):  # lanes without a channel solve for zero
            c = order[low + lane] if low + lane < channels else -1
            lanes[TIME, lane] = time[c] if c >= 0 else 1.0
            for v in range(count):
                for k in range(PARTS):
                    fields[X, v, k, lane] = right[b, base + v, k, c] if c >= 0 else 0.0
        solve_part(stencil, base, diagonal, tolerance, count + most, fields, lanes)
        for c in range(low, min(low + LANES, channels)):
            for v in range(count):
                for k in range(PARTS):
                    out[b, base + v, k, order[c]] = fields[X, v, k, c - low]
