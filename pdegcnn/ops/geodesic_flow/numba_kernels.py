"""Straightest geodesics and what is read at their ends, compiled by Numba: the unfolding of ``geodesic_tracing.py``,
one path at a time.

What is done for each path is written into the loops (``inline``): calls would pass every table.
``keys``, ``fans``, ``links``, ``edges`` and ``points`` are ``numba_impl.HalfEdgeTables``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, INSIDE, PART

FULL = 2 * np.pi
FIRST, SCALE, GAUGE = 0, 1, 2
"""Columns of ``points``."""
TIE = 1e-9
"""As in ``geodesic_tracing.py``: rounding must not decide on which side of an edge, or of a direction, a path is."""


@njit(**INSIDE, error_model="numpy")
def find_wedge(keys, fans, key, low, high):
    """Compute the half-edge right of a direction, by bisection of the keys ``low`` to ``high``."""
    while low < high:
        middle = (low + high) // 2
        if keys[middle] <= key:
            low = middle + 1
        else:
            high = middle
    return fans[max(low - 1, 0)]


@njit(**INSIDE, error_model="numpy")
def follow(keys, fans, links, edges, points, v, radius, direction, most, vertices, corners):
    """Follow one path and fill vertices [3] and corners [3,3] (position, turn) of its last triangle.

    Returns the half-edge right of the start, -1 outside the surface, and the end in the plane of the unfolded
    triangles.
    """
    low, high = np.int64(points[v, FIRST]), np.int64(points[v + 1, FIRST])
    h = find_wedge(keys, fans, v * 8.0 + direction, low, high)
    inside = direction <= edges[h, 4] and links[h, 0] == v
    alpha = direction - edges[h, 3]
    alpha = (alpha if alpha >= 0 else alpha + FULL) / points[v, SCALE]
    px, py = radius * np.cos(alpha), radius * np.sin(alpha)
    ahead, back, long = links[h, 1], links[h, 2], edges[h, 0]
    rx, ry, lx, ly = long, 0.0, long * (1 - edges[h, 1]), long * edges[h, 2]
    right_turn, left_turn = edges[h, 5], -edges[back, 5]
    vertices[0], vertices[1], vertices[2] = v, links[ahead, 0], links[back, 0]
    corners[0, 0], corners[0, 1], corners[0, 2] = 0.0, 0.0, 0.0
    corners[1, 0], corners[1, 1], corners[1, 2] = rx, ry, right_turn
    corners[2, 0], corners[2, 1], corners[2, 2] = lx, ly, left_turn
    for _ in range(most if inside else 0):
        ex, ey, entry = lx - rx, ly - ry, links[ahead, 3]
        if ex * (py - ry) - ey * (px - rx) >= 0 or entry < 0:
            break
        one, two = links[entry, 1], links[entry, 2]
        foot, height = edges[entry, 1], edges[entry, 2]
        ax, ay = rx + foot * ex + height * ey, ry + foot * ey - height * ex
        apex_turn = left_turn - edges[two, 5]
        between = right_turn + edges[one, 5] - apex_turn
        apex_turn += (between - FULL * np.floor(between / FULL + 0.5)) / 2  # half-way between the two directions
        vertices[0], vertices[1], vertices[2] = links[entry, 0], links[one, 0], links[two, 0]
        corners[0, 0], corners[0, 1], corners[0, 2] = lx, ly, left_turn
        corners[1, 0], corners[1, 1], corners[1, 2] = rx, ry, right_turn
        corners[2, 0], corners[2, 1], corners[2, 2] = ax, ay, apex_turn
        if px * ay - py * ax > 0:
            lx, ly, left_turn, ahead = ax, ay, apex_turn, one
        else:
            rx, ry, right_turn, ahead = ax, ay, apex_turn, two
    return h if inside else -1, px, py


@njit(**ENTRY, error_model="numpy")
def land(keys, fans, links, edges, points, vertex, radius, angle, most, wedge, vertices, corners, first, last):
    """Trace paths ``first`` to ``last``.

    The results are the right half-edge of the start, and vertices and corners of the last triangle.
    """
    for n in range(first, last):
        direction = angle[n] % FULL
        h, _, _ = follow(
            keys, fans, links, edges, points, vertex[n], radius[n], direction, most, vertices[n], corners[n]
        )
        wedge[n] = h


@njit(**INSIDE, error_model="numpy")
def weigh(corners, px, py, ends):
    """Compute barycentric weights ``ends[1]`` of a point, in ``ends[2]`` before negative ones are raised.

    Return their sum.
    """
    ax, ay, bx, by = corners[0, 0], corners[0, 1], corners[1, 0], corners[1, 1]
    cx, cy = corners[2, 0], corners[2, 1]
    double = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    ends[2, 0] = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / double
    ends[2, 1] = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / double
    ends[2, 2] = 1 - ends[2, 0] - ends[2, 1]
    total = max(ends[2, 0], 0.0) + max(ends[2, 1], 0.0) + max(ends[2, 2], 0.0)
    for k in range(3):
        ends[1, k] = max(ends[2, k], 0.0) / total
    return total


@njit(**PART, error_model="numpy")
def arrive(keys, fans, links, edges, points, v, path, most, read, corners, ends, plane):
    """Write the ends of the paths of all directions of vertex v.

    ``read [N,2,3]`` gets the vertices and the directions below, ``corners [N,3,3]`` those of the last triangle,
    ``ends [N,3,3]`` places between two directions, weights, and weights before they are lifted, ``plane [N,4]`` the
    half-edge of the start, the end in the plane and the sum of the lifted weights.
    """
    count = read.shape[0]
    step = FULL / count
    for i in range(count):
        angle = path[1] + i * step + points[v, GAUGE]
        angle -= FULL * np.floor(angle / FULL)
        if angle > FULL - TIE or angle < 0:
            angle = 0.0
        h, px, py = follow(keys, fans, links, edges, points, v, path[0], angle, most, read[i, 0], corners[i])
        total = 1.0
        if h >= 0:
            total = weigh(corners[i], px, py, ends[i])
        else:
            ends[i, 1, 0], ends[i, 1, 1], ends[i, 1, 2] = 1.0, 0.0, 0.0
        plane[i, 0], plane[i, 1], plane[i, 2], plane[i, 3] = h, px, py, total
        for k in range(3):
            place = i * step + path[2] - corners[i, k, 2] - (points[read[i, 0, k], GAUGE] - points[v, GAUGE])
            place /= step
            near = np.floor(place + 0.5)
            if abs(place - near) < TIE:
                place = near
            whole = np.floor(place)
            ends[i, 0, k] = place - whole
            read[i, 1, k] = np.int64(whole - count * np.floor(whole / count))


@njit(**ENTRY, error_model="numpy")
def forward(read, corners, ends, plane, u, keys, fans, links, edges, points, paths, most, out, first, last):
    """Compute vertices ``first`` to ``last`` of out [B,V,C,N]: u at the ends of the paths [C,3].

    The arrays before u are room for what :func:`arrive` writes.
    """
    batch, _, channels, count = u.shape
    read, corners, ends = read.reshape(count, 2, 3), corners.reshape(count, 3, 3), ends.reshape(count, 3, 3)
    plane, one = plane.reshape(count, 4), u.dtype.type(1)
    for v in range(first, last):
        for c in range(channels):
            arrive(keys, fans, links, edges, points, v, paths[c], most, read, corners, ends, plane)
            for b in range(batch):
                for i in range(count):
                    total = u.dtype.type(0)
                    for k in range(3):
                        w, j = read[i, 0, k], read[i, 1, k]
                        rest, weight = u.dtype.type(ends[i, 0, k]), u.dtype.type(ends[i, 1, k])
                        total += u[b, w, c, j] * (weight * (one - rest))
                        total += u[b, w, c, j + 1 if j + 1 < count else 0] * (weight * rest)
                    out[b, v, c, i] = total


@njit(**INSIDE, error_model="numpy")
def spread(flow, u, b, c, read, ends, learn, out, gain):
    """Send the gradient of one signal to the six numbers that were read; add what places [0] and weights [1] gain."""
    count, one = u.shape[3], u.dtype.type(1)
    for k in range(3):
        w, j = read[0, k], read[1, k]
        after = j + 1 if j + 1 < count else 0
        rest, weight = u.dtype.type(ends[0, k]), u.dtype.type(ends[1, k])
        out[b, w, c, j] += flow * (weight * (one - rest))
        out[b, w, c, after] += flow * (weight * rest)
        if learn:
            low, rise = np.float64(u[b, w, c, j]), np.float64(u[b, w, c, after]) - np.float64(u[b, w, c, j])
            gain[0, k] += flow * ends[1, k] * rise
            gain[1, k] += flow * (low + ends[0, k] * rise)


@njit(**INSIDE, error_model="numpy")
def add_end(scale, radius, px, py, lifted, corners, ends, gain, total):
    """Add to ``total`` (radius, heading) the gradient that comes through the weights."""
    ax, ay, bx, by = corners[0, 0], corners[0, 1], corners[1, 0], corners[1, 1]
    cx, cy = corners[2, 0], corners[2, 1]
    double = lifted * ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    mean = gain[1, 0] * ends[1, 0] + gain[1, 1] * ends[1, 1] + gain[1, 2] * ends[1, 2]
    last = gain[1, 2] - mean if ends[2, 2] >= 0 else 0.0
    zero = (gain[1, 0] - mean if ends[2, 0] >= 0 else 0.0) - last
    one = (gain[1, 1] - mean if ends[2, 1] >= 0 else 0.0) - last
    gx = (zero * (by - cy) + one * (cy - ay)) / double
    gy = (zero * (cx - bx) + one * (ax - cx)) / double
    if radius > 0:
        total[0] += (gx * px + gy * py) / radius
    total[1] += (gy * px - gx * py) / scale


@njit(**ENTRY, error_model="numpy")
def backward(
    read,
    corners,
    ends,
    plane,
    gain,
    grad,
    u,
    keys,
    fans,
    links,
    edges,
    points,
    paths,
    most,
    learn,
    out,
    sums,
    first,
    last,
):
    """Add up gradients of channels ``first`` to ``last``.

    ``out [B,V,C,N]`` is the one in the signal; with ``learn``, ``sums [C,3]`` is that in the paths.
    """
    batch, size, _, count = u.shape
    read, corners, ends = read.reshape(count, 2, 3), corners.reshape(count, 3, 3), ends.reshape(count, 3, 3)
    plane, gain = plane.reshape(count, 4), gain.reshape(2, 3)
    for v in range(size):
        for c in range(first, last):
            arrive(keys, fans, links, edges, points, v, paths[c], most, read, corners, ends, plane)
            for i in range(count):
                for k in range(3):
                    gain[0, k], gain[1, k] = 0, 0
                for b in range(batch):
                    spread(grad[b, v, c, i], u, b, c, read[i], ends[i], learn, out, gain)
                if learn:
                    sums[c, 2] += (gain[0, 0] + gain[0, 1] + gain[0, 2]) * count / FULL
                    if plane[i, 0] >= 0:
                        px, py, total = plane[i, 1], plane[i, 2], plane[i, 3]
                        add_end(points[v, SCALE], paths[c, 0], px, py, total, corners[i], ends[i], gain, sums[c])
