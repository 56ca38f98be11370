"""Tracing of straightest geodesics, compiled by Numba: the unfolding of ``geodesic_tracing.py``, one path at a time."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def find_wedge(keys, fans, angles, corner, scale, vertex, angle):
    """Half-edge right of a direction, -1 outside the surface; keys are searched by bisection."""
    key, low, high = vertex * 8.0 + angle, 0, keys.size
    while low < high:
        middle = (low + high) // 2
        if keys[middle] <= key:
            low = middle + 1
        else:
            high = middle
    h = fans[max(low - 1, 0)]
    return h, angle - angles[h] <= corner[h] * scale[vertex] + 1e-9


@njit(cache=True, nogil=True)
def land(tables, vertex, radius, angle, most, wedge, vertices, positions, turn, first, last):
    """Paths ``first`` to ``last``: right half-edge of the start, and last triangle with positions and transports."""
    keys, fans, tail, following, previous, twin, length, corner, angles, transport, scale, _ = tables
    full = 2 * np.pi
    for n in range(first, last):
        v, direction = vertex[n], angle[n] % full
        h, inside = find_wedge(keys, fans, angles, corner, scale, v, direction)
        inside = inside and tail[h] == v
        wedge[n] = h if inside else -1
        alpha = (direction - angles[h]) % full / scale[v]
        px, py = radius[n] * np.cos(alpha), radius[n] * np.sin(alpha)
        back = previous[h]
        rx, ry = length[h], 0.0
        lx, ly = length[back] * np.cos(corner[h]), length[back] * np.sin(corner[h])
        right_turn, left_turn = transport[h], -transport[back]
        vertices[n, 0], vertices[n, 1], vertices[n, 2] = v, tail[following[h]], tail[back]
        positions[n, 0], positions[n, 1], positions[n, 2] = (0.0, 0.0), (rx, ry), (lx, ly)
        turn[n, 0], turn[n, 1], turn[n, 2] = 0.0, right_turn, left_turn
        ahead = following[h]
        for _ in range(most if inside else 0):
            ex, ey = lx - rx, ly - ry
            if ex * (py - ry) - ey * (px - rx) >= 0 or twin[ahead] < 0:
                break
            entry = twin[ahead]
            one, two = following[entry], previous[entry]
            base, side = length[entry], length[one]
            along = (base**2 + side**2 - length[two] ** 2) / (2 * base)
            across = np.sqrt(max(side**2 - along**2, 0.0))
            ux, uy = ex / base, ey / base
            ax, ay = rx + along * ux + across * uy, ry + along * uy - across * ux
            a, b = right_turn + transport[one], left_turn - transport[two]
            apex_turn = np.arctan2(np.sin(a) + np.sin(b), np.cos(a) + np.cos(b))
            vertices[n, 0], vertices[n, 1], vertices[n, 2] = tail[entry], tail[one], tail[two]
            positions[n, 0], positions[n, 1], positions[n, 2] = (lx, ly), (rx, ry), (ax, ay)
            turn[n, 0], turn[n, 1], turn[n, 2] = left_turn, right_turn, apex_turn
            if px * ay - py * ax > 0:
                lx, ly, left_turn, ahead = ax, ay, apex_turn, one
            else:
                rx, ry, right_turn, ahead = ax, ay, apex_turn, two
