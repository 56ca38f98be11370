r"""The exact left-invariant Riemannian distance on SE(2), by geodesic shooting: slow and reliable, for tests and plots.

Geodesics are the flow of :math:`H = \tfrac12 p\, G^{-1} p`, where p is the momentum in the left-invariant frame A1
(forward), A2 (lateral), A3 (turn), with [A3,A1] = A2, [A3,A2] = -A1, [A1,A2] = 0. The part of p in the plane keeps its
direction in space, :math:`(p_1, p_2) = R(-\theta) P` with constant P, and :math:`\dot p_3 = v_2 p_1 - v_1 p_2` with
:math:`v = G^{-1} p` (Euler-Poincare equations). For every point a fan of geodesics is shot in all directions. A damped
Newton iteration makes the best few end in the point, and the shortest that arrives gives the distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from pdegcnn._typing import Reals, from_numpy

__all__ = ["exact_distance"]

FAN_DIRECTIONS = 6000
FAN_STEPS = 64
STARTS = 6  # geodesics of the fan that pass a point best are bent towards it, and the best of each sector
SECTORS = 8  # sectors of the angle in the (forward, turn) plane of momenta, times the sign of the lateral momentum
CHUNK = 16  # points that share a fan; the fan reaches as far as the farthest of them
COARSE_STEPS, COARSE_ROUNDS = 80, 24
FINE_STEPS, FINE_ROUNDS, FINALISTS = 320, 12, 4
STUCK = 1e4  # damping at which a geodesic is given up
ARRIVED = 1e-9  # largest miss of a geodesic that counts as arrived, relative to the size of the point


def _wrap(theta: Reals) -> Reals:
    """Return the angle in [-pi, pi)."""
    return (theta + np.pi) % (2 * np.pi) - np.pi


def _speed(state: Reals, plane: Reals, inverse: Reals) -> Reals:
    """Return the time derivative of states [4,N] = (x, y, theta, p3).

    ``plane`` [2,N] is the momentum P, ``inverse`` is G^-1.
    """
    c, s = np.cos(state[2]), np.sin(state[2])
    p1, p2 = c * plane[0] + s * plane[1], c * plane[1] - s * plane[0]
    v1, v2, v3 = (row[0] * p1 + row[1] * p2 + row[2] * state[3] for row in inverse)
    return np.stack([c * v1 - s * v2, s * v1 + c * v2, v3, v2 * p1 - v1 * p2])


def _shoot(momentum: Reals, inverse: Reals, steps: int, keep: bool = False) -> Reals:
    """End points [3,N] of unit-time geodesics with initial momenta [3,N]; all points [steps,3,N] with ``keep``."""
    plane, h = momentum[:2], 1.0 / steps
    state = np.zeros((4, momentum.shape[1]))
    state[3] = momentum[2]
    path: list[Reals] = []
    for _ in range(steps):
        a = _speed(state, plane, inverse)
        b = _speed(state + h / 2 * a, plane, inverse)
        c = _speed(state + h / 2 * b, plane, inverse)
        d = _speed(state + h * c, plane, inverse)
        state = state + h / 6 * (a + 2 * b + 2 * c + d)
        if keep:
            path.append(state[:3])
    return np.stack(path) if keep else state[:3]


def _log(points: Reals) -> Reals:
    """Return logarithmic coordinates [3,N] of points [3,N]."""
    half = points[2] / 2
    scale = 1 / np.sinc(half / np.pi)
    c, s = np.cos(half), np.sin(half)
    return np.stack([scale * (c * points[0] + s * points[1]), scale * (c * points[1] - s * points[0]), points[2]])


def _norm(vectors: Reals, metric: Reals) -> Reals:
    """Return the length [...] of vectors [3,...] in the metric [3,3]."""
    return np.sqrt(np.maximum(np.einsum("i...,ij,j...->...", vectors, metric, vectors), 0))


def _reach(points: Reals, metric: Reals) -> Reals:
    """Return an upper bound [N] of the distances: the exponential curve, or turn, walk straight (or back), turn."""
    x, y, theta = points
    bound = _norm(_log(points), metric)
    heading = np.arctan2(y, x)
    for flip in (0.0, np.pi):
        turn = _wrap(heading + flip)
        turns = np.abs(turn) + np.abs(_wrap(theta - turn))
        bound = np.minimum(bound, np.sqrt(metric[0, 0]) * np.hypot(x, y) + np.sqrt(metric[2, 2]) * turns)
    return bound


def _sphere(count: int) -> Reals:
    """Return ``count`` directions [3,count], denser at small lateral momentum, as near sub-Riemannian geodesics."""
    index = np.arange(count) + 0.5
    z, angle = (1 - 2 * index / count) ** 3, np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), z, radius * np.sin(angle)])


def _starts(points: Reals, metric: Reals, root: Reals) -> Reals:
    """Return whitened initial momenta [3,N,tries]: the members of a fan that pass each point best, and the logarithm.

    The best of every sector is among them, lest one family of geodesics crowd out a shorter one.
    """
    inverse = np.linalg.inv(metric)
    length = 1.05 * float(_reach(points, metric).max())
    directions = _sphere(FAN_DIRECTIONS)
    fan = _shoot(length * (root @ directions), inverse, FAN_STEPS, keep=True)
    angle = np.arctan2(directions[2], directions[0])
    sector = np.floor((angle / (2 * np.pi) + 0.5) * SECTORS).clip(0, SECTORS - 1) + SECTORS * (directions[1] > 0)
    members = [np.flatnonzero(sector == k) for k in range(2 * SECTORS)]
    tries = STARTS + len(members) + 1
    times = length * np.arange(1, FAN_STEPS + 1) / FAN_STEPS
    out = np.empty((3, points.shape[1], tries))
    for n, (x, y, theta) in enumerate(np.transpose(points)):
        # the point seen from each point of the fan, in half-angle coordinates
        dx, dy, turn = x - fan[:, 0], y - fan[:, 1], _wrap(theta - fan[:, 2])
        frame = fan[:, 2] + turn / 2
        c, s = np.cos(frame), np.sin(frame)
        miss = _norm(np.stack([c * dx + s * dy, c * dy - s * dx, turn]), metric)
        score = times[:, None] + 2 * miss
        when = score.argmin(axis=0)
        lowest = score.min(axis=0)
        champions = [group[lowest[group].argmin()] for group in members]
        best = np.concatenate([np.argsort(lowest)[:STARTS], champions])
        out[:, n, :-1] = directions[:, best] * times[when[best]]
    out[..., -1] = np.transpose(root) @ _log(points)
    return out


def _miss(q: Reals, points: Reals, root: Reals, inverse: Reals, steps: int) -> Reals:
    """End minus target [3,N] of the geodesics with whitened momenta q [3,N]."""
    miss = _shoot(root @ q, inverse, steps) - points
    miss[2] = _wrap(miss[2])
    return miss


def _bend(q: Reals, points: Reals, root: Reals, steps: int, rounds: int) -> tuple[Reals, Reals]:
    """Run Levenberg-Marquardt from whitened momenta q [3,N] to points [3,N]; return momenta and misses [N]."""
    inverse = np.linalg.inv(root @ np.transpose(root))
    q, damping = np.copy(q, order="C"), np.full(q.shape[1], 1e-3)
    goal = (1e-11 * np.linalg.norm(points, axis=0)) ** 2
    miss = _miss(q, points, root, inverse, steps)
    for _ in range(rounds):
        go = np.flatnonzero(((miss**2).sum(0) > goal) & (damping < STUCK))
        if not len(go):
            break
        old, end, target = q[:, go], miss[:, go], points[:, go]
        size = 1e-7 * np.maximum(np.linalg.norm(old, axis=0), 1e-6)
        moved = np.concatenate([old + size * np.eye(3)[:, i : i + 1] for i in range(3)], axis=1)
        ends = np.reshape(_miss(moved, np.tile(target, 3), root, inverse, steps), (3, 3, -1))
        change = ends - end[:, None]
        change[2] = _wrap(change[2])
        jacobian = np.moveaxis(change / size, -1, 0)
        normal: Reals = np.einsum("nki,nkj->nij", jacobian, jacobian)
        scale = np.trace(normal, axis1=1, axis2=2) * damping[go]
        right: Reals = np.einsum("nki,kn->ni", jacobian, end)
        damped: Reals = normal + (scale + 1e-300)[:, None, None] * np.eye(3)
        step = np.transpose(np.linalg.solve(damped, right[..., None])[..., 0])
        new = _miss(old - step, target, root, inverse, steps)
        better = (new**2).sum(0) < (end**2).sum(0)
        q[:, go], miss[:, go] = np.where(better, old - step, old), np.where(better, new, end)
        damping[go] = np.where(better, damping[go] * 0.02, damping[go] * 20)
    return q, np.linalg.norm(miss, axis=0)


def _solve(points: Reals, metric: Reals) -> Reals:
    """Return lengths [N] of the shortest geodesics found to points [3,N] except the unit; inf where none is found."""
    root = np.linalg.cholesky(metric)
    count = points.shape[1]
    size = np.linalg.norm(points, axis=0)
    starts = np.reshape(_starts(points, metric, root), (3, -1))
    tries = starts.shape[1] // count
    q, miss = _bend(starts, np.repeat(points, tries, axis=1), root, COARSE_STEPS, COARSE_ROUNDS)
    q, miss = np.reshape(q, (3, count, tries)), np.reshape(miss, (count, tries))
    length = np.where(miss < 1e-4 * size[:, None], np.linalg.norm(q, axis=0), np.inf)
    best = np.argsort(length, axis=1)[:, :FINALISTS]
    q = np.reshape(np.take_along_axis(q, best[None], axis=2), (3, -1))
    q, miss = _bend(q, np.repeat(points, FINALISTS, axis=1), root, FINE_STEPS, FINE_ROUNDS)
    arrived = np.reshape(miss, (count, FINALISTS)) < ARRIVED * size[:, None]
    return np.where(arrived, np.linalg.norm(q, axis=0).reshape(count, FINALISTS), np.inf).min(axis=1)


def _inverse(points: Reals) -> Reals:
    """Group inverses [3,N] of points [3,N]: as far from the unit, but reached by geodesics from the other end."""
    x, y, theta = points
    c, s = np.cos(theta), np.sin(theta)
    return np.stack([-c * x - s * y, s * x - c * y, -theta])


def _metric_matrix(metric: Any) -> Reals:
    """Return the metric as an SPD matrix [3,3], from weights [3] or a matrix; raises ValueError."""
    g = np.asarray(metric.detach().cpu() if isinstance(metric, Tensor) else metric, dtype=np.float64)
    if g.shape not in ((3,), (3, 3)):
        raise ValueError(f"metric: expected weights [3] or a matrix [3,3], got shape {g.shape}")
    if not np.isfinite(g).all():
        raise ValueError(f"metric: expected finite values, got {g.tolist()}")
    if g.ndim == 1:
        if not (g > 0).all():
            raise ValueError(f"metric: expected positive weights (w1, w2, w3), got {g.tolist()}")
        return np.diagflat(g**2)
    if not np.allclose(g, np.transpose(g), rtol=1e-6, atol=0) or np.linalg.eigvalsh(g).min() <= 0:
        raise ValueError(f"metric: expected a symmetric positive definite matrix, got {g.tolist()}")
    return (g + np.transpose(g)) / 2


def _turned(points: Reals, metric: Reals) -> tuple[Reals, Reals]:
    """Return points [3,N] and metric in turned axes in which moving forward is cheapest, with equal distances."""
    axes = np.eye(3)
    axes[:2, :2] = np.linalg.eigh(metric[:2, :2])[1]
    if np.linalg.det(axes) < 0:
        axes[:, 1] *= -1
    turned = np.transpose(axes) @ points
    turned[2] = _wrap(turned[2])
    return turned, np.transpose(axes) @ metric @ axes


def exact_distance(points: Any, metric: Any) -> Any:
    r"""Return the exact Riemannian distance on SE(2) from the unit element.

    Many geodesics are tried, but not all. If the metric is nearly sub-Riemannian and the point is far on the scale of
    turning (say w2/w1 = 8 and w1 abs(x) / w3 near 10), the result may be the length of a geodesic that is not the
    shortest. Up to w1 abs(x) / w3 = 6, finer searches found no such case.

    Sources: Bellaard, Bon, Pai, Smets, Duits, *Analysis of (sub-)Riemannian PDE-G-CNNs* (JMIV 2023) for the metric; the
    geodesic equations are the Euler-Poincare equations on se(2).

    Args:
        points: ``[..., 3]`` = (x, y, theta) in pixels, pixels and radians; a torch tensor or an array.
        metric: weights ``[3]`` of forward, lateral and turning motion, :math:`G = \operatorname{diag}(w^2)`, or a
            symmetric positive definite matrix G ``[3,3]`` in the frame (A1 forward, A2 lateral, A3 turn).

    Returns:
        Distances ``[...]`` in float64: a torch tensor (on the CPU, without gradient) if ``points`` is one, else an
        array.

    Raises:
        ValueError: for a wrong shape, a value that is not finite, or a metric that is not positive definite.
        RuntimeError: if no geodesic to a point was found (points far beyond the scale of the metric).

    Example:
        >>> from pdegcnn.kernels.exact import exact_distance
        >>> round(float(exact_distance([3.0, 4.0, 0.0], [1.0, 1.0, 1.0])), 6)
        5.0
    """
    g = _metric_matrix(metric)
    array = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != 3:
        raise ValueError(f"points: expected shape [..., 3] = (x, y, theta), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("points: expected finite values, got NaN or infinity")
    flat, g = _turned(np.transpose(np.reshape(array, (-1, 3))), g)
    out = np.zeros(flat.shape[1])
    away = np.flatnonzero(np.abs(flat).max(axis=0, initial=0) > 0)
    away = away[np.argsort(_reach(flat[:, away], g))]
    for chunk in np.array_split(away, max(1, -(-len(away) // CHUNK))):
        if len(chunk):
            there = flat[:, chunk]
            out[chunk] = np.minimum(_solve(there, g), _solve(_inverse(there), g))
    if not np.isfinite(out).all():
        bad = np.reshape(array, (-1, 3))[~np.isfinite(out)].tolist()
        raise RuntimeError(f"points: no geodesic was found to {bad[:4]}, {len(bad)} points in all")
    out = np.reshape(out, array.shape[:-1])
    return from_numpy(out) if isinstance(points, Tensor) else out
