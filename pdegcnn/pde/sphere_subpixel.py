"""One Newton step from the best sample: dilation and erosion between the points of a grid.

On a grid the supremum of ``f(h) - k(h^-1 g)`` is taken over samples h, which breaks the symmetry of dilation
under rotations. Both terms are smooth, so from the best sample one step of Newton's method towards the maximum, with
exact derivatives of the band-limited f and of the kernel, recovers most of what lies between samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from pdegcnn import sphere
from pdegcnn._typing import Factory, Floats, from_numpy, linalg
from pdegcnn.kernels.metric import Metric
from pdegcnn.kernels.morphological import kernel_slopes, morphological_kernel
from pdegcnn.kernels.rotation_distance import COORDINATES
from pdegcnn.ops.ring_morphology import winning_taps
from pdegcnn.pde.sphere_spectral import FrameGenerators
from pdegcnn.pde.sphere_window import ENTRIES, Neighbours
from pdegcnn.spaces.s2 import point_spacing
from pdegcnn.sphere._tables import Tables

CAP = 0.75
"""Greatest step in units of the grid's steps: the maximum is nearer, or another sample would be greater."""
LENGTHS = (0.25, 0.5, 0.75, 1.0)
"""Parts of the step that are tried: where the kernel steepens on the way, a shorter one gains more."""
SCALES = 45
"""Greatest power of two of the units in which a quadratic form is inverted."""
CHUNK = 2**13
"""So many taps are differentiated at once, to save memory."""
NEAR = 1e-6
"""Below this distance from the unit element coordinates are their argument."""


class NewtonStep(Tables):
    """Derivatives of the taps' squared distances, and transforms for those of the signal; no table is saved.

    Args:
        neighbours: the lists of taps.
        like: a tensor of the wanted dtype and device.
    """

    def __init__(self, neighbours: Neighbours, like: Tensor) -> None:
        super().__init__()
        if neighbours.exact:
            raise ValueError("distance: expected 'logarithmic' or 'tilt_twist' for subgrid='newton', got 'exact'")
        self.space, self._elements = neighbours.space, neighbours.elements
        self._distance = neighbours.distance if self.space.has_orientations else "tilt_twist"
        self.dims = 3 if self.space.has_orientations else 2
        self.pairs = [p for p in ENTRIES if max(p) < self.dims]
        self._build(like)
        kind: Factory = {"device": like.device, "dtype": like.dtype}
        grid, group = self.space.grid, self.space.has_orientations
        fibre = self.space.orientations if self.space.has_orientations else 5
        self.analysis = sphere.SO3FFT(grid, fibre, **kind) if group else sphere.RealSHT(grid, **kind)
        nmax = min((fibre - 1) // 2, grid.band)
        self.synthesis = sphere.InverseSO3FFT(grid, fibre, nmax=nmax, **kind)
        self.generators = FrameGenerators(grid, nmax, like)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Floats]]]:
        count, jets = len(self._elements), lru_cache(maxsize=1)(self._jets)
        return [
            ("slopes", (6, count * self.dims), lambda: np.reshape(jets()[0], (6, -1))),
            ("curvatures", (6, count * len(self.pairs)), lambda: np.reshape(jets()[1], (6, -1))),
        ]

    def _jets(self) -> tuple[Floats, Floats]:
        """Return derivatives of the squared norm's six monomials as a tap h moves to ``h exp(delta)``.

        First ``[6,S,dims]`` and second ``[6,S,pairs]`` ones at delta = 0.
        """
        elements = from_numpy(self._elements)
        coordinates = COORDINATES[self._distance]

        def moved(delta: Tensor, element: Tensor) -> Tensor:
            back = (1 - (delta**2).sum(-1, keepdim=True) / 8, -delta / 2, delta.new_zeros(3 - self.dims))
            return coordinates(self.space, self.space.compose(torch.cat(back), element))  # exp(-delta) to second order

        zero = elements.new_zeros(len(elements), self.dims)
        every = partial(torch.func.vmap, chunk_size=CHUNK)
        first = every(torch.func.jacfwd(moved))(zero, elements)  # [S,coordinate,delta]
        second = every(torch.func.jacfwd(torch.func.jacfwd(moved)))(zero, elements)
        v = coordinates(self.space, elements)
        near = linalg.vector_norm(v, dim=-1) < NEAR
        first[near], second[near] = -torch.eye(3, dtype=first.dtype)[:, : self.dims], 0.0
        slopes: list[Tensor] = []
        curvatures: list[Tensor] = []
        for i, j in ENTRIES:
            share = 1.0 if i == j else 2.0
            slopes.append(share * (first[:, i] * v[:, j, None] + v[:, i, None] * first[:, j]))
            mixed = first[:, i, :, None] * first[:, j, None] + first[:, j, :, None] * first[:, i, None]
            bent = second[:, i] * v[:, j, None, None] + v[:, i, None, None] * second[:, j]
            curvatures.append(share * (mixed + bent))
        slope, curvature = torch.stack(slopes), torch.stack(curvatures)
        return slope.numpy(), torch.stack([curvature[..., i, j] for i, j in self.pairs], -1).numpy()

    def signal_jets(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return frame derivatives of the band-limited u, ``[B,C,dims,F,*grid]`` and ``[B,C,pairs,F,*grid]``."""
        columns = self.analysis(u)
        if not self.space.has_orientations:
            nmax = self.generators.nmax
            columns = torch.nn.functional.pad(columns[..., None], (nmax, nmax))
        first, second = self.generators.frame()
        # X_i f = -(d/dt) f(R exp(-t e_i)), and the generators are those of f(R exp(-t c)) = exp(-t Z) W
        slopes = torch.einsum("ilkn,bclmn->bcilmk", first[: self.dims].to(columns.dtype), columns)
        which = [ENTRIES.index(p) for p in self.pairs]
        curvatures = torch.einsum("ilkn,bclmn->bcilmk", second[which].to(columns.dtype), columns)
        values = self.synthesis(torch.cat((slopes, curvatures), dim=2))
        if not self.space.has_orientations:
            values = values[:, :, :, :1]
        return values[:, :, : self.dims], values[:, :, self.dims :]

    def forward(
        self,
        u: Tensor,
        squared: Tensor,
        metric: Metric,
        lists: Neighbours,
        alpha: float | Tensor,
        time: float,
        sign: int,
    ) -> Tensor:
        """Return what the step adds to dilation (sign +1) or takes from erosion (-1) at every point, laid out as u.

        Args:
            u: signal.
            squared: squared distances of the taps, ``[C,F,S]``, of F fibre samples after which they repeat.
            metric: the metric they are measured by.
            lists: the taps.
            alpha: power of the kernel, above 1/2.
            time: length of the time step.
            sign: +1 or -1.
        """
        rings, kernel = lists.as_rings(u.detach()), morphological_kernel(squared.detach(), alpha, time)
        kernel = lists.repeated(kernel.detach())
        position, tap = winning_taps(rings, kernel, lists.taps, lists.start, lists.longest, sign)
        first, second = (x.flatten(3) for x in self.signal_jets(u))
        where = position.flatten(2)[:, :, None]
        first = sign * first.gather(3, where.expand(-1, -1, first.shape[2], -1))
        second = sign * second.gather(3, where.expand(-1, -1, second.shape[2], -1))
        fibre = rings.shape[2]
        angle = torch.arange(fibre, dtype=u.dtype, device=u.device) * (2 * math.pi / fibre)
        angle = angle[:, None].expand(fibre, first.shape[3] // fibre).flatten()
        jets = _turned(first, second, angle, self.pairs)
        row = torch.arange(fibre, device=u.device)[:, None, None] % squared.shape[1]
        entry = (row * squared.shape[2] + tap).flatten(2)
        gain = self._gain(jets, self._distance_jets(squared, lists.entries(metric), entry), metric, alpha, time)
        return sign * gain.view(rings.shape).reshape(u.shape)

    def _distance_jets(self, squared: Tensor, entries: Tensor, entry: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the squared distance ``[B,C,N]`` of the winning taps and its first two derivatives."""
        channels, batch = squared.shape[0], entry.shape[0]
        entries = entries.expand(channels, squared.shape[1], 6)
        p = torch.unflatten(entries @ self.get_buffer("slopes"), -1, (-1, self.dims)).flatten(1, 2).mT
        q = torch.unflatten(entries @ self.get_buffer("curvatures"), -1, (-1, len(self.pairs))).flatten(1, 2).mT
        every = torch.cat((squared.flatten(1)[:, None], p, q), dim=1).expand(batch, -1, -1, -1)
        picked = every.gather(3, entry[:, :, None].expand(-1, -1, every.shape[2], -1))
        return picked[:, :, 0], picked[:, :, 1 : 1 + self.dims], picked[:, :, 1 + self.dims :]

    def _gain(
        self,
        signal: tuple[Tensor, Tensor],
        distance: tuple[Tensor, Tensor, Tensor],
        metric: Metric,
        alpha: float | Tensor,
        time: float,
    ) -> Tensor:
        """Return the best gain ``[B,C,N]`` along the Newton step, never below zero."""
        (slope, bend), (squared, p, q) = signal, distance
        reach = self._reach(slope)
        # kernels flatter than a parabola have no curvature at the centre: take that of half a grid step away
        gram = metric.gram()
        gram = gram.expand(-1, 2, 2) * torch.eye(2).to(gram) if gram.shape[-1] == 1 else gram
        typical = torch.einsum("i,cij,j->c", reach, gram, reach)[:, None] / (4 * CAP**2)
        now, _ = kernel_slopes(squared, alpha, time)
        first, second = kernel_slopes(torch.maximum(squared, typical), alpha, time)
        product = torch.stack([p[:, :, i] * p[:, :, j] for i, j in self.pairs], dim=2)
        bowl = second[:, :, None] * product + first[:, :, None] * q - bend
        step = _newton_step(slope - now[:, :, None] * p, bowl, reach)
        linear, quadratic = (slope * step).sum(2), _quadratic(bend, step)
        away, bent = (p * step).sum(2), _quadratic(q, step)
        cost = morphological_kernel(squared, alpha, time)
        gains = [torch.zeros_like(cost)]
        for t in LENGTHS:
            moved = (squared + t * away + 0.5 * t * t * bent).clamp_min(0)
            gains.append(t * linear + 0.5 * t * t * quadratic - morphological_kernel(moved, alpha, time) + cost)
        return torch.stack(gains).amax(0)

    def _reach(self, u: Tensor) -> Tensor:
        """Return the greatest step along each frame vector."""
        if self.space.has_orientations:
            return CAP * self.space.grid_spacing.to(u)
        return torch.full((2,), CAP * point_spacing(self.space.grid), dtype=u.dtype, device=u.device)


def _turned(first: Tensor, second: Tensor, angle: Tensor, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return derivatives ``[B,C,dims,N]`` and ``[B,C,pairs,N]`` in the frame of the first fibre sample."""
    c, s = torch.cos(angle), torch.sin(angle)
    x, y, *rest = first.unbind(2)
    turned = torch.stack((c * x - s * y, s * x + c * y, *rest), dim=2)
    of = {pair: second[:, :, k] for k, pair in enumerate(pairs)}
    xx, yy, xy = of[0, 0], of[1, 1], of[0, 1]
    new = {
        (0, 0): c * c * xx + s * s * yy - 2 * c * s * xy,
        (1, 1): s * s * xx + c * c * yy + 2 * c * s * xy,
        (0, 1): c * s * (xx - yy) + (c * c - s * s) * xy,
    }
    if (2, 2) in of:
        new[2, 2] = of[2, 2]
        new[0, 2] = c * of[0, 2] - s * of[1, 2]
        new[1, 2] = s * of[0, 2] + c * of[1, 2]
    return turned, torch.stack([new[pair] for pair in pairs], dim=2)


def _newton_step(slope: Tensor, bowl: Tensor, reach: Tensor) -> Tensor:
    """Step ``[B,C,dims,N]`` from slopes, likewise, and minus the second derivatives ``[B,C,pairs,N]``.

    Uphill where those are not positive definite; shortened to ``reach [dims]`` along each axis.
    """
    shift, size = _balance(bowl)
    slope_there = slope * size  # in units in which the diagonal is near one: its determinant does not overflow
    if slope.shape[2] == 2:
        (a, b, c), (x, y) = shift.unbind(2), slope_there.unbind(2)
        minor, determinant = a, a * b - c * c
        solution = torch.stack((b * x - c * y, a * y - c * x), dim=2)
    else:
        (a, b, d, c, e, f), (x, y, z) = shift.unbind(2), slope_there.unbind(2)
        minor = torch.minimum(a, a * b - c * c)
        p, q, r, s, t, w = b * d - f * f, e * f - c * d, c * f - b * e, a * d - e * e, c * e - a * f, a * b - c * c
        determinant = a * p + c * q + e * r
        solution = torch.stack((p * x + q * y + r * z, q * x + s * y + t * z, r * x + t * y + w * z), dim=2)
    definite = (minor > 0) & (determinant > torch.finfo(determinant.dtype).eps)
    safe = torch.where(definite, determinant, torch.ones_like(determinant))
    uphill = slope * reach[:, None] ** 2
    length = (uphill.abs() / reach[:, None]).amax(2, keepdim=True)
    uphill = uphill / torch.where(length > torch.finfo(length.dtype).tiny ** 0.3, length, torch.ones_like(length))
    step = torch.where(definite[:, :, None], solution / safe[:, :, None] * size, uphill)
    longest = (step.abs() / reach[:, None]).amax(2, keepdim=True)
    return step / longest.clamp_min(1)


def _balance(bowl: Tensor) -> tuple[Tensor, Tensor]:
    """Return forms ``[B,C,pairs,N]`` in units of powers of two, so without rounding, and the units ``[B,C,dims,N]``.

    A definite one then has a diagonal near one, and no entry above two; the entries of others are cut there.
    """
    pairs = [p for p in ENTRIES if max(p) < (2 if bowl.shape[2] == 3 else 3)]
    diagonal = bowl[:, :, [k for k, (i, j) in enumerate(pairs) if i == j]].detach()
    half = torch.frexp(diagonal).exponent.div(2, rounding_mode="floor").clamp(-SCALES, SCALES)
    size = torch.ldexp(torch.ones_like(diagonal), -half)
    factors = torch.stack([size[:, :, i] * size[:, :, j] for i, j in pairs], dim=2)
    return (bowl * factors).clamp(-2, 2), size


def _quadratic(form: Tensor, step: Tensor) -> Tensor:
    """Return the value ``[B,C,N]`` of quadratic forms ``[B,C,pairs,N]`` at steps ``[B,C,dims,N]``."""
    pairs = [p for p in ENTRIES if max(p) < step.shape[2]]
    parts = [(1 if i == j else 2) * form[:, :, k] * step[:, :, i] * step[:, :, j] for k, (i, j) in enumerate(pairs)]
    return torch.stack(parts).sum(0)
