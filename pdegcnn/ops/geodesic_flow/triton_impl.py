# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Tracing of straightest geodesics in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

The same unfolding as in ``geodesic_tracing.py``: each lane follows one path, and a program ends when all of its paths
have ended. Paths that start side by side cross about as many triangles.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64
"""Paths of a program."""
FULL: tl.constexpr = tl.constexpr(6.283185307179586)


@triton.jit
def _positive(angle):
    """Return the angle in [0, 2 pi)."""
    rest = angle % FULL
    return tl.where(rest < 0, rest + FULL, rest)


@triton.jit
def _near_zero(angle):
    """Return the angle between -pi and pi."""
    return angle - FULL * tl.floor(angle / FULL + 0.5)


@triton.jit
def _between(a, b):
    """Return the direction half-way between two."""
    return _near_zero(b + _near_zero(a - b) / 2)


@triton.jit
def _store(corners, positions, turn, n, real, v0, v1, v2, x0, y0, x1, y1, x2, y2, t0, t1, t2):
    """Compute vertices, positions and turns of the corners of the triangle where a path ends."""
    tl.store(corners + 3 * n, v0, mask=real)
    tl.store(corners + 3 * n + 1, v1, mask=real)
    tl.store(corners + 3 * n + 2, v2, mask=real)
    tl.store(positions + 6 * n, x0, mask=real)
    tl.store(positions + 6 * n + 1, y0, mask=real)
    tl.store(positions + 6 * n + 2, x1, mask=real)
    tl.store(positions + 6 * n + 3, y1, mask=real)
    tl.store(positions + 6 * n + 4, x2, mask=real)
    tl.store(positions + 6 * n + 5, y2, mask=real)
    tl.store(turn + 3 * n, t0, mask=real)
    tl.store(turn + 3 * n + 1, t1, mask=real)
    tl.store(turn + 3 * n + 2, t2, mask=real)


@triton.jit
def _count_below(keys, key, size, bits, BLOCK: tl.constexpr):
    """Count how many of the ascending keys are at most ``key``, by bisection."""
    low, high = tl.zeros([BLOCK], tl.int32), tl.full([BLOCK], 0, tl.int32) + size
    for _ in range(bits):
        middle = (low + high) // 2
        open = low < high
        less = open & (tl.load(keys + middle, mask=open, other=0.0) <= key)
        low, high = tl.where(less, middle + 1, low), tl.where(open & ~less, middle, high)
    return low


@triton.jit
def _apex(length, entry, one, two, rx, ry, ex, ey, going):
    """Return the third corner of the triangle of half-edges ``entry``, ``one``, ``two`` beyond an edge."""
    base, side = tl.load(length + entry, mask=going, other=1.0), tl.load(length + one, mask=going, other=1.0)
    third = tl.load(length + two, mask=going, other=1.0)
    along = (base * base + side * side - third * third) / (2 * base)
    across = tl.sqrt(tl.maximum(side * side - along * along, 0.0))
    ux, uy = ex / base, ey / base
    return rx + along * ux + across * uy, ry + along * uy - across * ux


@triton.jit(do_not_specialize=["count", "size", "bits", "most"])
def _land(
    keys,
    fans,
    tail,
    following,
    previous,
    twin,
    length,
    corner,
    angles,
    transport,
    scale,
    vertex,
    radius,
    angle,
    wedge,
    corners,
    positions,
    turn,
    count,
    size,
    bits,
    most,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = n < count
    v = tl.load(vertex + n, mask=real, other=0)
    direction = _positive(tl.load(angle + n, mask=real, other=0.0))
    key = v.to(tl.float64) * 8 + direction
    h = tl.load(fans + tl.maximum(_count_below(keys, key, size, bits, BLOCK) - 1, 0))
    first, wide = tl.load(angles + h), tl.load(scale + v)
    inside = real & (direction - first <= tl.load(corner + h) * wide + 1e-9) & (tl.load(tail + h) == v)
    alpha = _positive(direction - first) / wide
    far = tl.load(radius + n, mask=real, other=0.0)
    px, py = far * tl.cos(alpha), far * tl.sin(alpha)
    back, ahead = tl.load(previous + h), tl.load(following + h)
    rx, ry = tl.load(length + h), tl.zeros([BLOCK], tl.float64)
    lx, ly = tl.load(length + back) * tl.cos(tl.load(corner + h)), tl.load(length + back) * tl.sin(tl.load(corner + h))
    right_turn, left_turn = tl.load(transport + h), -tl.load(transport + back)
    v0, v1, v2 = v, tl.load(tail + ahead), tl.load(tail + back)
    x0, y0, x1, y1, x2, y2 = ry, ry, rx, ry, lx, ly
    t0, t1, t2 = ry, right_turn, left_turn
    going, steps = inside, most
    while (tl.max(going.to(tl.int32), 0) > 0) & (steps > 0):
        steps -= 1
        ex, ey = lx - rx, ly - ry
        entry = tl.load(twin + ahead, mask=going, other=-1)
        going = going & (ex * (py - ry) - ey * (px - rx) < 0) & (entry >= 0)
        one, two = tl.load(following + entry, mask=going, other=0), tl.load(previous + entry, mask=going, other=0)
        ax, ay = _apex(length, entry, one, two, rx, ry, ex, ey, going)
        a = right_turn + tl.load(transport + one, mask=going, other=0.0)
        apex = _between(a, left_turn - tl.load(transport + two, mask=going, other=0.0))
        v0, v1 = (
            tl.where(going, tl.load(tail + entry, mask=going, other=0), v0),
            tl.where(going, tl.load(tail + one), v1),
        )
        v2 = tl.where(going, tl.load(tail + two, mask=going, other=0), v2)
        x0, y0, t0 = tl.where(going, lx, x0), tl.where(going, ly, y0), tl.where(going, left_turn, t0)
        x1, y1, t1 = tl.where(going, rx, x1), tl.where(going, ry, y1), tl.where(going, right_turn, t1)
        x2, y2, t2 = tl.where(going, ax, x2), tl.where(going, ay, y2), tl.where(going, apex, t2)
        to_left, to_right = going & (px * ay - py * ax > 0), going & (px * ay - py * ax <= 0)
        lx, ly, left_turn = tl.where(to_left, ax, lx), tl.where(to_left, ay, ly), tl.where(to_left, apex, left_turn)
        rx, ry, right_turn = (
            tl.where(to_right, ax, rx),
            tl.where(to_right, ay, ry),
            tl.where(to_right, apex, right_turn),
        )
        ahead = tl.where(to_left, one, tl.where(to_right, two, ahead))
    tl.store(wedge + n, tl.where(inside, h, -1), mask=real)
    _store(corners, positions, turn, n, real, v0, v1, v2, x0, y0, x1, y1, x2, y2, t0, t1, t2)


def land(tables: Sequence[Tensor], paths: Sequence[Tensor], end: Sequence[Tensor], most: int) -> None:
    """Follow the paths (vertex, radius, angle, each [M]) over at most ``most`` triangles and fill ``end``.

    Args:
        tables: half-edge tables of the mesh, without its gauge.
        paths: vertex, radius and angle of each path.
        end: tensors of a ``GeodesicEndpoint``.
        most: triangles that a path may cross.
    """
    count, size = paths[0].numel(), tables[0].numel()
    with torch.cuda.device_of(paths[0]):
        _land[(triton.cdiv(count, BLOCK),)](
            *(x.contiguous() for x in (*tables, *paths)),
            *(*end, count, size, size.bit_length(), most),
            BLOCK=BLOCK,
            num_warps=BLOCK // 32,
        )
