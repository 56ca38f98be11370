"""Loops of the gain of a Newton step, compiled by Numba once per dtype (see ``numba_impl.py``).

Each item is the plane of a signal and a channel. Points are computed one by one in double precision: vectors are tuples
of three numbers and forms of six, in the order of a metric's entries. On the sphere, which has two dimensions, the
third one has a bowl of one and no slope.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART
from pdegcnn.ops.newton_gain.reference import LENGTHS, SCALES

HOW: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}
INNER: dict[str, Any] = {**PART, **HOW, "forceinline": True}
"""Options of the functions of one point: calls that hand tuples on would take a tenth of the time."""
PARTS = len(LENGTHS)


@njit(**INNER)
def dot(a, b):
    """Compute the product of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(**INNER)
def add(a, factor, b):
    """Compute ``a + factor * b``."""
    return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]


@njit(**INNER)
def add_form(a, factor, b):
    """Compute ``a + factor * b`` for forms."""
    x, y, z, u, v, w = a
    x, y, z = x + factor * b[0], y + factor * b[1], z + factor * b[2]
    return x, y, z, u + factor * b[3], v + factor * b[4], w + factor * b[5]


@njit(**INNER)
def apply(form, v):
    """Compute the product of a form and a vector."""
    a, b, d, c, e, f = form
    return a * v[0] + c * v[1] + e * v[2], c * v[0] + b * v[1] + f * v[2], e * v[0] + f * v[1] + d * v[2]


@njit(**INNER)
def product(a, b):
    """Compute the gradient of ``a . form b`` in the form."""
    x, y, z = a
    u, v, w = b
    return x * u, y * v, z * w, x * v + y * u, x * w + z * u, y * w + z * v


@njit(**INNER)
def scaled(factor, form):
    """Compute a multiple of a form."""
    return add_form((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), factor, form)


@njit(**INNER)
def square_of(v):
    """Compute the form whose entries are products of the numbers of a vector."""
    x, y, z = v
    return x * x, y * y, z * z, x * y, x * z, y * z


@njit(**INNER)
def pair(a, b):
    """Compute the sum of the products of entries."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] + a[4] * b[4] + a[5] * b[5]


@njit(**INNER)
def push_square(form, v):
    """Compute the gradient of ``pair(form, square_of(v))`` in the vector."""
    a, b, d, c, e, f = form
    return apply((2 * a, 2 * b, 2 * d, c, e, f), v)


@njit(**INNER)
def six(x):
    """Read the six entries of a metric."""
    return np.float64(x[0]), np.float64(x[1]), np.float64(x[2]), np.float64(x[3]), np.float64(x[4]), np.float64(x[5])


@njit(**INNER)
def reach_of(x):
    """Read the reach along two or three axes."""
    return x[0] * 1.0, x[1] * 1.0, x[2] * 1.0 if x.size > 2 else 1.0


@njit(**INNER)
def entry(table, tap, k, e):
    """Compute number ``k`` of a tap from the metric's entries ``e``."""
    value = 0.0
    for i in range(6):
        value += e[i] * table[tap, k, i]
    return value


@njit(**INNER)
def tap_jet(table, t, e, deep):
    """Compute squared distance, slopes and second derivatives of tap ``t`` from the metric's entries ``e``."""
    squared, x, y = entry(table, t, 0, e), entry(table, t, 1, e), entry(table, t, 2, e)
    if not deep:
        xx, yy, xy = entry(table, t, 3, e), entry(table, t, 4, e), entry(table, t, 5, e)
        return squared, (x, y, 0.0), (xx, yy, 0.0, xy, 0.0, 0.0)
    xx, yy, zz = entry(table, t, 4, e), entry(table, t, 5, e), entry(table, t, 6, e)
    xy, xz, yz = entry(table, t, 7, e), entry(table, t, 8, e), entry(table, t, 9, e)
    return squared, (x, y, entry(table, t, 3, e)), (xx, yy, zz, xy, xz, yz)


@njit(**INNER)
def push_tap(total, table, t, squared, p, q, deep):
    """Add to ``total [6]`` the gradient in the metric's entries of what :func:`tap_jet` computes."""
    x, y, z = p
    xx, yy, zz, xy, xz, yz = q
    given = (squared, x, y, z, xx, yy, zz, xy, xz, yz) if deep else (squared, x, y, xx, yy, xy, z, zz, xz, yz)
    for i in range(6):
        value = 0.0
        for k in range(10 if deep else 6):
            value += given[k] * table[t, k, i]
        total[i] += value


@njit(**INNER)
def signal_jet(signal, n, turn, f, sign, deep):
    """Read ``sign`` times slopes and second derivatives of ``signal [J,N]`` in the frame of the first fibre sample."""
    k, c, s = 3 if deep else 2, np.float64(turn[0, f]), np.float64(turn[1, f])
    x, y = sign * signal[0, n], sign * signal[1, n]
    xx, yy, xy = sign * signal[k, n], sign * signal[k + 1, n], sign * signal[2 * k, n]
    z, zz, xz, yz = 0.0, -1.0, 0.0, 0.0
    if deep:
        z, zz, xz, yz = sign * signal[2, n], sign * signal[5, n], sign * signal[7, n], sign * signal[8, n]
    cc, ss, cs = c * c, s * s, c * s
    xx, yy, xy = cc * xx + ss * yy - 2 * cs * xy, ss * xx + cc * yy + 2 * cs * xy, cs * (xx - yy) + (cc - ss) * xy
    return (c * x - s * y, s * x + c * y, z), (xx, yy, zz, xy, c * xz - s * yz, s * xz + c * yz)


@njit(**INNER)
def push_signal(grad, n, turn, f, sign, slope, bend, deep):
    """Add to ``grad [J,N]`` the gradient of what :func:`signal_jet` reads."""
    k, c, s = 3 if deep else 2, np.float64(turn[0, f]), np.float64(turn[1, f])
    cc, ss, cs = c * c, s * s, c * s
    xx, yy, zz, xy, xz, yz = bend
    grad[0, n] += sign * (c * slope[0] + s * slope[1])
    grad[1, n] += sign * (c * slope[1] - s * slope[0])
    grad[k, n] += sign * (cc * xx + ss * yy + cs * xy)
    grad[k + 1, n] += sign * (ss * xx + cc * yy - cs * xy)
    grad[2 * k, n] += sign * (2 * cs * (yy - xx) + (cc - ss) * xy)
    if deep:
        grad[2, n] += sign * slope[2]
        grad[5, n] += sign * zz
        grad[7, n] += sign * (c * xz + s * yz)
        grad[8, n] += sign * (c * yz - s * xz)


@njit(**INNER)
def cost_at(squared, law):
    """Compute the kernel at a squared distance."""
    factor, unit, power, limit, _ = law
    base = squared / unit
    if base <= 0:
        return 0.0
    if power == 1:
        return factor * base
    return np.inf if base > limit else factor * base**power


@njit(**INNER)
def slope_at(squared, cost, law):
    """Compute the derivative of the kernel where its value is ``cost``."""
    factor, unit, power, _, _ = law
    if squared / unit <= 0:
        return factor / unit if power == 1 and squared == 0 else 0.0
    return power * cost / squared if cost < np.inf else 0.0


@njit(**INNER)
def slopes_at(squared, cost, law):
    """Compute two derivatives of the kernel, which are cut, the derivatives of both, and whether they are not cut."""
    factor, unit, power, limit, most = law
    base = squared / unit
    if base <= 0:
        first = factor / unit if power == 1 else 0.0
        return min(first, most), 0.0, 0.0, 0.0, first <= most, False
    if base > limit:
        return most, most, 0.0, 0.0, False, False
    first = power * cost / squared
    second = (power - 1) * first / squared
    low, flat = not first > most, not second > most
    rate, bend = second if low else 0.0, (power - 2) * second / squared if flat else 0.0
    return first if low else most, second if flat else most, rate, bend, low, flat


@njit(**INNER)
def push_slopes(one, two, squared, cost, slopes, law, learned):
    """Compute gradients of the first two derivatives of the kernel.

    These are the gradient in the squared distance, the one in the factor, times it, and where ``learned`` that in the
    power.
    """
    first, second, rate, bend, low, flat = slopes
    one, two = one if low else 0.0, two if flat else 0.0
    power, along = law[2], 0.0
    if learned:
        log = math.log(squared / law[1]) if squared > 0 else 0.0
        along = one * first * (1 / power + log)
        if flat:
            along += two * cost / (squared * squared) * (2 * power - 1 + power * (power - 1) * log)
    return one * rate + two * bend, one * first + two * second, along


@njit(**INNER)
def greatest(v, reach):
    """Compute the greatest part of the reach that a vector takes along an axis."""
    a, b, c = abs(v[0]) / reach[0], abs(v[1]) / reach[1], abs(v[2]) / reach[2]
    total = a + b + c
    return max(a, max(b, c)) if total == total else total


@njit(**INNER)
def push_greatest(grad, v, reach, most, total):
    """Add to ``total`` the gradient of what :func:`greatest` computes: equal parts share it."""
    a, b, c = abs(v[0]) / reach[0] == most, abs(v[1]) / reach[1] == most, abs(v[2]) / reach[2] == most
    share = grad / (int(a) + int(b) + int(c)) if a or b or c else np.nan
    x = share / math.copysign(reach[0], v[0]) if a and most > 0 else 0.0
    y = share / math.copysign(reach[1], v[1]) if b and most > 0 else 0.0
    z = share / math.copysign(reach[2], v[2]) if c and most > 0 else 0.0
    return total[0] + x, total[1] + y, total[2] + z


@njit(**INNER)
def unit_of(x):
    """Compute a power of two, near the inverse of the root of ``x``."""
    half = (((np.float64(x).view(np.int64) >> 52) & 2047) - 1022) >> 1
    return np.int64((1023 - min(max(half, -SCALES), SCALES)) << 52).view(np.float64)


@njit(**INNER)
def between(x):
    """Cut a number at two."""
    return -2.0 if x < -2 else 2.0 if x > 2 else x


@njit(**INNER)
def inverse_of(bowl, size):
    """Compute adjugate and determinant of a form in units of ``size``, and whether it is definite up to rounding."""
    u, v, w = size
    a, b, d = between(bowl[0] * (u * u)), between(bowl[1] * (v * v)), between(bowl[2] * (w * w))
    c, e, f = between(bowl[3] * (u * v)), between(bowl[4] * (u * w)), between(bowl[5] * (v * w))
    adjugate = b * d - f * f, a * d - e * e, a * b - c * c, e * f - c * d, c * f - b * e, c * e - a * f
    determinant = a * adjugate[0] + c * adjugate[3] + e * adjugate[4]
    return adjugate, determinant, min(a, adjugate[2]) > 0


@njit(**INNER)
def newton_step(slope, bowl, reach, eps, tiny):
    """Compute a step from slopes and minus second derivatives, and what its gradient needs.

    That is the step before it is cut and its greatest part of the reach; whether the form is definite; units, adjugate
    and determinant, or the vector uphill and its greatest part.
    """
    size = unit_of(bowl[0]), unit_of(bowl[1]), unit_of(bowl[2])
    adjugate, scale, definite = inverse_of(bowl, size)
    definite = definite and scale > eps
    if definite:
        x, y, z = apply(adjugate, (slope[0] * size[0], slope[1] * size[1], slope[2] * size[2]))
        whole = x / scale * size[0], y / scale * size[1], z / scale * size[2]
    else:
        size = slope[0] * reach[0] ** 2, slope[1] * reach[1] ** 2, slope[2] * reach[2] ** 2
        scale = greatest(size, reach)
        length = scale if scale > tiny else 1.0
        whole = size[0] / length, size[1] / length, size[2] / length
    longest = greatest(whole, reach)
    cut = 1.0 if longest < 1 else longest
    return (whole[0] / cut, whole[1] / cut, whole[2] / cut), whole, longest, definite, size, adjugate, scale


@njit(**INNER)
def push_step(grad, found, bowl, reach, tiny):
    """Compute the gradient of :func:`newton_step` in slopes and bowl."""
    step, whole, longest, definite, size, adjugate, scale = found
    if longest >= 1:
        flow = grad[0] / longest, grad[1] / longest, grad[2] / longest
        flow = push_greatest(-dot(step, grad) / longest, whole, reach, longest, flow)
    else:
        flow = grad
    if not definite:
        if scale > tiny:
            along = -dot(whole, flow) / scale
            flow = push_greatest(along, size, reach, scale, (flow[0] / scale, flow[1] / scale, flow[2] / scale))
        up = flow[0] * reach[0] ** 2, flow[1] * reach[1] ** 2, flow[2] * reach[2] ** 2
        return up, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    u, v, w = size
    x, y, z = apply(adjugate, (flow[0] * u, flow[1] * v, flow[2] * w))
    back = x / scale * u, y / scale * v, z / scale * w
    a, b, d, c, e, f = product(back, whole)
    a = -a if abs(bowl[0] * (u * u)) <= 2 else 0.0
    b = -b if abs(bowl[1] * (v * v)) <= 2 else 0.0
    d = -d if abs(bowl[2] * (w * w)) <= 2 else 0.0
    c = -c if abs(bowl[3] * (u * v)) <= 2 else 0.0
    e = -e if abs(bowl[4] * (u * w)) <= 2 else 0.0
    f = -f if abs(bowl[5] * (v * w)) <= 2 else 0.0
    return back, (a, b, d, c, e, f)


@njit(**INNER)
def bowl_of(first, second, p, q, bend):
    """Compute minus the second derivatives of signal minus kernel."""
    return add_form(add_form(scaled(second, square_of(p)), first, q), -1.0, bend)


@njit(**INNER)
def gains(slope, bend, squared, p, q, step, cost, law):
    """Compute the greatest gain along a step, and a bit for no step and for each part of it that attains it."""
    linear, quadratic = dot(slope, step), dot(step, apply(bend, step))
    away, bent = dot(p, step), dot(step, apply(q, step))
    best, bits, whole = 0.0, 1, True
    for k in range(1, PARTS + 1):
        t = LENGTHS[k - 1]
        moved = squared + t * away + 0.5 * t * t * bent
        gain = t * linear + 0.5 * t * t * quadratic - cost_at(moved, law) + cost
        whole = whole and gain == gain
        bits = 1 << k if gain > best else bits | (1 << k) if gain == best else bits
        best = gain if gain > best else best
    return best if whole else np.nan, bits if whole else 0


@njit(**INNER)
def push_gains(grad, bits, slope, bend, squared, p, q, step, law, learned):
    """Compute gradients of the greatest gain.

    These are the gradients in linear and quadratic part of the signal and of the distance, the sum over the lengths
    that attain the gain, and the gradients in the squared distance, in the factor, times it, and in the power.
    """
    count = 0
    for k in range(PARTS + 1):
        count += (bits >> k) & 1
    share = grad / count if count else np.nan
    away, bent = dot(p, step), dot(step, apply(q, step))
    linear, quadratic, total = 0.0, 0.0, 0.0
    near, far, middle, factor, power = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(1, PARTS + 1):
        if (bits >> k) & 1 or count == 0:
            t = LENGTHS[k - 1]
            moved = squared + t * away + 0.5 * t * t * bent
            cost = cost_at(moved, law)
            back = -share * slope_at(moved, cost, law)
            linear, quadratic, total = linear + t * share, quadratic + 0.5 * t * t * share, total + share
            near, far, middle = near + t * back, far + 0.5 * t * t * back, middle + back
            factor -= share * cost
            if learned and 0 < cost < np.inf:
                power -= share * cost * math.log(moved / law[1])
    return linear, quadratic, near, far, total, middle, factor, power


@njit(**ENTRY, **HOW)
def forward(signal, position, tap, turn, entries, table, reach, least, law, limits, sign, out, won, start, stop):
    """Compute planes ``start`` to ``stop`` of B*C of the gains ``out [B*C,N]``, and which lengths attain them.

    ``signal [B*C,J,N]``, ``position`` and ``tap [B*C,N]``, ``entries [C,R,6]``, ``least [C]``; ``limits``: the least
    determinant and the least length uphill.
    """
    fibre, deep = turn.shape[1], signal.shape[1] == 9
    count, ends = out.shape[1] // fibre, reach_of(reach)
    for plane in range(start, stop):
        c = plane % entries.shape[0]
        floor = np.float64(least[c])
        low = slopes_at(floor, cost_at(floor, law), law)
        for f in range(fibre):
            e = six(entries[c, f % entries.shape[1]])
            for n in range(f * count, (f + 1) * count):
                slope, bend = signal_jet(signal[plane], np.uint64(position[plane, n]), turn, f, sign, deep)
                squared, p, q = tap_jet(table, np.uint64(tap[plane, n]), e, deep)
                cost = cost_at(squared, law)
                now = slopes_at(squared, cost, law)
                near = low if squared < floor else now
                bowl = bowl_of(near[0], near[1], p, q, bend)
                step = newton_step(add(slope, -now[0], p), bowl, ends, limits[0], limits[1])[0]
                gain, won[plane, n] = gains(slope, bend, squared, p, q, step, cost, law)
                out[plane, n] = sign * gain


@njit(**ENTRY, **HOW)
def backward(
    signal, position, tap, turn, entries, table, reach, least, law, limits, sign, won, grad, learned, found, start, stop
):
    """Add gradients of planes ``start`` to ``stop`` to those ``found``, which begin with zeros.

    That is in the signal, and for each plane in the entries ``[B*C,R,6]``, and in ``least``, in the factor, times it,
    and in the power, ``[B*C,3]``.
    """
    to_signal, to_entries, to_rest = found
    fibre, deep = turn.shape[1], signal.shape[1] == 9
    count, ends = grad.shape[1] // fibre, reach_of(reach)
    for plane in range(start, stop):
        c = plane % entries.shape[0]
        floor = np.float64(least[c])
        bottom = cost_at(floor, law)
        low = slopes_at(floor, bottom, law)
        for f in range(fibre):
            r = f % entries.shape[1]
            e = six(entries[c, r])
            for n in range(f * count, (f + 1) * count):
                bits = won[plane, n]
                if bits == 1:  # the step gains nothing
                    continue
                here, t = np.uint64(position[plane, n]), np.uint64(tap[plane, n])
                slope, bend = signal_jet(signal[plane], here, turn, f, sign, deep)
                squared, p, q = tap_jet(table, t, e, deep)
                cost = cost_at(squared, law)
                now = slopes_at(squared, cost, law)
                near = low if squared < floor else now
                bowl = bowl_of(near[0], near[1], p, q, bend)
                way = newton_step(add(slope, -now[0], p), bowl, ends, limits[0], limits[1])
                step, g = way[0], sign * grad[plane, n]
                one = push_gains(g, bits, slope, bend, squared, p, q, step, law, learned)
                push = add(add((0.0, 0.0, 0.0), one[0], slope), 2 * one[1], apply(bend, step))
                push = add(add(push, one[2], p), 2 * one[3], apply(q, step))
                back, form = push_step(push, way, bowl, ends, limits[1])
                square = product(step, step)
                to_slope, to_p = add(back, one[0], step), add((0.0, 0.0, 0.0), one[2], step)
                to_p = add(to_p, -now[0], back)
                to_p = add(to_p, near[1], push_square(form, p))
                to_bend, to_q = add_form(scaled(one[1], square), -1.0, form), scaled(one[3], square)
                to_q = add_form(to_q, near[0], form)
                two = push_slopes(-dot(back, p), 0.0, squared, cost, now, law, learned)
                middle, height = (floor, bottom) if squared < floor else (squared, cost)
                three = push_slopes(pair(form, q), pair(form, square_of(p)), middle, height, near, law, learned)
                part = 0.0 if squared < floor else 0.5 if squared == floor else 1.0
                to_squared = one[5] + one[4] * slope_at(squared, cost, law) + two[0] + part * three[0]
                along = one[7] + two[2] + three[2]
                if learned and cost > 0:
                    along += one[4] * cost * math.log(squared / law[1])
                push_tap(to_entries[plane, r], table, t, to_squared, to_p, to_q, deep)
                push_signal(to_signal[plane], here, turn, f, sign, to_slope, to_bend, deep)
                to_rest[plane, 0] += (1 - part) * three[0]
                to_rest[plane, 1] += one[6] + one[4] * cost + two[1] + three[1]
                to_rest[plane, 2] += along
