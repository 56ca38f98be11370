"""The exact distance against known cases, bounds, symmetries, and an independent upper bound by shortest paths."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from pdegcnn.kernels.exact import _solve, exact_distance

METRICS = [(1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 8.0, 1.0), (0.5, 4.0, 2.0)]


def random_points(count: int, radius: float = 3.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    r, phi = radius * np.sqrt(rng.random(count)), rng.uniform(-np.pi, np.pi, count)
    return np.stack([r * np.cos(phi), r * np.sin(phi), rng.uniform(-np.pi, np.pi, count)], axis=1)


def inverse(g: np.ndarray) -> np.ndarray:
    c, s = np.cos(g[:, 2]), np.sin(g[:, 2])
    return np.stack([-c * g[:, 0] - s * g[:, 1], s * g[:, 0] - c * g[:, 1], -g[:, 2]], axis=1)


def product_of(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    c, s = np.cos(g[:, 2]), np.sin(g[:, 2])
    return np.stack([g[:, 0] + c * h[:, 0] - s * h[:, 1], g[:, 1] + s * h[:, 0] + c * h[:, 1], g[:, 2] + h[:, 2]], 1)


def logarithm(g: np.ndarray) -> np.ndarray:
    half = g[:, 2] / 2
    scale, c, s = 1 / np.sinc(half / np.pi), np.cos(half), np.sin(half)
    return np.stack([scale * (c * g[:, 0] + s * g[:, 1]), scale * (c * g[:, 1] - s * g[:, 0]), g[:, 2]], axis=1)


@pytest.mark.parametrize("plane, turn", [(1.0, 1.0), (2.0, 0.5)])
def test_isotropic_metric_is_the_product_distance(plane: float, turn: float) -> None:
    p = random_points(16)
    expected = np.sqrt(plane**2 * (p[:, 0] ** 2 + p[:, 1] ** 2) + turn**2 * p[:, 2] ** 2)
    np.testing.assert_allclose(exact_distance(p, [plane, plane, turn]), expected, rtol=1e-9)


def test_pure_forward_and_pure_turning_motion() -> None:
    p = np.array([[2.5, 0, 0], [-1.0, 0, 0], [0, 0, 2.0], [0, 0, -0.3], [0, 0, 0]])
    np.testing.assert_allclose(exact_distance(p, [1.5, 3, 0.7]), [3.75, 1.5, 1.4, 0.21, 0], rtol=1e-9, atol=0)


@pytest.mark.parametrize("w", METRICS)
def test_bounds_and_symmetries(w: tuple[float, float, float]) -> None:
    p = random_points(16, seed=1)
    d, back = (_solve(q.T, np.diag(np.square(w))) for q in (p, inverse(p)))  # exact_distance takes the least
    square = p[:, 0] ** 2 + p[:, 1] ** 2
    slack = 1 + 1e-6
    assert (np.sqrt(w[0] ** 2 * square + w[2] ** 2 * p[:, 2] ** 2) <= d * slack).all()
    assert (d <= slack * np.sqrt(w[1] ** 2 * square + w[2] ** 2 * p[:, 2] ** 2)).all()
    assert (d <= slack * np.sqrt((np.square(w) * logarithm(p) ** 2).sum(axis=1))).all()
    np.testing.assert_allclose(back, d, rtol=1e-6)


def test_triangle_inequality() -> None:
    g, h, w = random_points(16, 1.5, seed=2), random_points(16, 1.5, seed=3), (1.0, 4.0, 1.0)
    assert (exact_distance(product_of(g, h), w) <= (1 + 1e-6) * (exact_distance(g, w) + exact_distance(h, w))).all()


def test_full_metric_agrees_with_weights_and_with_turned_axes() -> None:
    p, w, angle = random_points(16, seed=4), np.array([1.0, 3.0, 0.8]), 0.6
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    d = exact_distance(p, w)
    np.testing.assert_allclose(exact_distance(p, np.diag(w**2)), d, rtol=1e-12)
    np.testing.assert_allclose(exact_distance(p @ turn.T, turn @ np.diag(w**2) @ turn.T), d, rtol=1e-6)


def shortest_paths(w: tuple[float, float, float], spacing: float, orientations: int, reach: int) -> np.ndarray:
    """Graph distances [2R+1, 2R+1, Or] from the centre: edges are straight moves that turn at an even rate."""
    size, step = 2 * reach + 1, 2 * np.pi / orientations
    grid = np.arange(size * size * orientations).reshape(size, size, orientations)
    rows, columns, costs = [], [], []
    for dx, dy, dt in product(range(-4, 5), range(-4, 5), range(-2, 3)):
        if np.gcd.reduce([dx, dy, dt]) != 1:
            continue
        a, b = slice(max(0, -dx), size - max(0, dx)), slice(max(0, -dy), size - max(0, dy))
        a2, b2 = slice(max(0, dx), size + min(0, dx)), slice(max(0, dy), size + min(0, dy))
        along = step * (np.arange(orientations)[:, None] + dt * (np.arange(16) + 0.5) / 16)
        forward = spacing * (np.cos(along) * dx + np.sin(along) * dy)
        lateral = spacing * (np.cos(along) * dy - np.sin(along) * dx)
        cost = np.sqrt((w[0] * forward) ** 2 + (w[1] * lateral) ** 2 + (w[2] * step * dt) ** 2).mean(axis=1)
        start = grid[a, b]
        rows.append(start.ravel())
        columns.append(np.roll(grid, -dt, axis=2)[a2, b2].ravel())
        costs.append(np.broadcast_to(cost, start.shape).ravel())
    entries = (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns)))
    graph = coo_matrix(entries, shape=(grid.size, grid.size)).tocsr()
    return dijkstra(graph, indices=grid[reach, reach, 0]).reshape(grid.shape)


def test_agrees_with_shortest_paths_on_a_graph() -> None:
    """Every path of the graph is a curve of the group, so its length bounds d from above; the gap is small."""
    w, spacing, orientations, reach = (1.0, 3.0, 1.0), 0.2, 24, 10
    graph = shortest_paths(w, spacing, orientations, reach)
    rng = np.random.default_rng(5)
    i, j = rng.integers(3, 2 * reach - 2, (2, 24))
    t = rng.integers(0, orientations, 24)
    points = np.stack([spacing * (i - reach), spacing * (j - reach), 2 * np.pi * t / orientations], axis=1)
    d = exact_distance(points, w)
    ratio = graph[i, j, t][d > 0] / d[d > 0]
    assert ratio.min() >= 1 - 1e-3
    assert ratio.max() <= 1.08


def test_takes_and_returns_tensors() -> None:
    points = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    d = exact_distance(points, torch.tensor([1.0, 2.0, 3.0]))
    assert d.shape == (2, 1)
    assert d.dtype == torch.float64
    torch.testing.assert_close(d, torch.tensor([[1.0], [3.0]], dtype=torch.float64), rtol=1e-9, atol=0)
    assert exact_distance(np.zeros((0, 3)), [1, 1, 1]).shape == (0,)


@pytest.mark.parametrize(
    "points, metric, name",
    [
        (np.zeros((4, 2)), [1, 1, 1], "points"),
        (np.full((1, 3), np.nan), [1, 1, 1], "points"),
        (np.zeros((1, 3)), [1, 1], "metric"),
        (np.zeros((1, 3)), [1, 0, 1], "metric"),
        (np.zeros((1, 3)), [1, np.nan, 1], "metric"),
        (np.zeros((1, 3)), -np.eye(3), "metric"),
        (np.zeros((1, 3)), [[1, 1, 0], [0, 1, 0], [0, 0, 1]], "metric"),
    ],
)
def test_bad_arguments_are_refused(points: np.ndarray, metric: object, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        exact_distance(points, metric)
