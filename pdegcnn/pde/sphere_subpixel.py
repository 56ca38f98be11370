"""One Newton step from the best sample: dilation and erosion between the points of a grid.

On a grid the supremum of ``f(h) - k(h^-1 g)`` is taken over samples h, which breaks the symmetry of dilation
under rotations. Both terms are smooth, so from the best sample one step of Newton's method towards the maximum, with
exact derivatives of the band-limited f and of the kernel, recovers most of what lies between samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pdegcnn import sphere
from pdegcnn._typing import Factory, Floats, from_numpy, linalg
from pdegcnn.kernels.metric import ENTRIES, Metric
from pdegcnn.kernels.morphological import cost_law
from pdegcnn.kernels.rotation_distance import COORDINATES
from pdegcnn.ops.newton_gain import StepTables, newton_gain
from pdegcnn.ops.ring_morphology import winning_taps
from pdegcnn.pde.sphere_spectral import FrameGenerators
from pdegcnn.pde.sphere_window import Neighbours
from pdegcnn.spaces.s2 import point_spacing
from pdegcnn.sphere._tables import Tables

CAP = 0.75
"""Greatest step in units of the grid's steps: the maximum is nearer, or another sample would be greater."""
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
        fibre, spacing = self.space.orientations, point_spacing(self.space.grid)
        angle = np.arange(fibre) * (2 * math.pi / fibre)
        reach = CAP * np.array((spacing, spacing, 2 * math.pi / fibre)[: self.dims])
        return [
            ("table", (len(self._elements), 1 + self.dims + len(self.pairs), 6), self._jets),
            ("turn", (2, fibre), lambda: np.stack((np.cos(angle), np.sin(angle)))),
            ("reach", (self.dims,), lambda: reach),
        ]

    def _jets(self) -> Floats:
        """Return the squared norm's six monomials at every tap h and their derivatives as it moves to ``h exp(delta)``.

        Values, first and second derivatives at delta = 0, ``[S,1+dims+pairs,6]``.
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
        monomials: list[Tensor] = []
        for i, j in ENTRIES:
            share = 1.0 if i == j else 2.0
            slope = first[:, i] * v[:, j, None] + v[:, i, None] * first[:, j]
            mixed = first[:, i, :, None] * first[:, j, None] + first[:, j, :, None] * first[:, i, None]
            bent = second[:, i] * v[:, j, None, None] + v[:, i, None, None] * second[:, j]
            curvature = torch.stack([(mixed + bent)[:, a, b] for a, b in self.pairs], -1)
            monomials.append(share * torch.cat((v[:, i, None] * v[:, j, None], slope, curvature), dim=1))
        return torch.stack(monomials, -1).numpy()

    def signal_jets(self, u: Tensor) -> Tensor:
        """Return frame derivatives of the band-limited u, first and second ones, ``[B,C,dims+pairs,F,*grid]``."""
        columns = self.analysis(u)
        if not self.space.has_orientations:
            nmax = self.generators.nmax
            columns = torch.nn.functional.pad(columns[..., None], (nmax, nmax))
        first, second = self.generators.frame()
        which = [ENTRIES.index(p) for p in self.pairs]
        # X_i f = -(d/dt) f(R exp(-t e_i)), and the generators are those of f(R exp(-t c)) = exp(-t Z) W
        every = torch.cat((first[: self.dims], second[which])).to(columns.dtype)
        values = self.synthesis(torch.einsum("ilkn,bclmn->bcilmk", every, columns))
        return values if self.space.has_orientations else values[:, :, :, :1]

    def forward(
        self,
        u: Tensor,
        kernel: Tensor,
        metric: Metric,
        lists: Neighbours,
        alpha: float | Tensor,
        time: float,
        sign: int,
    ) -> Tensor:
        """Return what the step adds to dilation (sign +1) or takes from erosion (-1) at every point, laid out as u.

        Args:
            u: signal.
            kernel: costs of the taps, ``[C,F,S]``, of F fibre samples after which they repeat.
            metric: the metric they come from.
            lists: the taps.
            alpha: power of the kernel, above 1/2.
            time: length of the time step.
            sign: +1 or -1.
        """
        rings, costs, count = lists.as_rings(u.detach()), lists.repeated(kernel.detach()), len(kernel)
        places = winning_taps(rings, costs, lists.taps, lists.start, lists.longest, sign)
        position, tap = (x.flatten(2) for x in places)
        entries, least = lists.entries(metric).expand(count, -1, -1), self._least(metric).expand(count)
        tables = StepTables(*(self.get_buffer(name) for name in StepTables._fields))
        signal = self.signal_jets(u).flatten(3)
        gain = newton_gain(signal, position, tap, tables, entries, least, cost_law(alpha, time), sign)
        return gain.view(rings.shape).reshape(u.shape)

    def _least(self, metric: Metric) -> Tensor:
        """Return the squared distance ``[C]`` of half a grid step.

        Kernels flatter than a parabola have no curvature at the centre: that at this distance is taken.
        """
        gram, reach = metric.gram(), self.get_buffer("reach")
        gram = gram.expand(-1, 2, 2) * torch.eye(2).to(gram) if gram.shape[-1] == 1 else gram
        return torch.einsum("i,cij,j->c", reach, gram, reach) / (4 * CAP**2)
