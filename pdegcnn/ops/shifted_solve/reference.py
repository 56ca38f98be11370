"""Specification of the shifted solve, and its portable version: conjugate gradients in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pdegcnn.ops.transport_gather import Stencil, transport_gather

MORE = 20
"""So many more steps than vertices are allowed for: without rounding, the vertices would do."""


def diagonal_of(stencil: Stencil) -> Tensor:
    """Return the diagonal of a Hermitian stencil of one field, ``[V]``."""
    count = stencil.start.numel() - 1
    own = torch.repeat_interleave(torch.arange(count, device=stencil.columns.device), stencil.start.diff())
    values = stencil.values[:, 0, 0]
    return values.new_zeros(count).index_add_(0, own, torch.where(own == stencil.columns, values, 0))


class _Parts:
    """Sums over the vertices of each mesh of a batch, for rows ``[B,V,2,C]``: ``[B,meshes,2,C]``, or ``[B,meshes,1,C]``
    where ``axes`` holds the third one.
    """

    def __init__(self, sizes: Sequence[int], axes: tuple[int, ...], like: Tensor) -> None:
        self.sizes, self.axes = list(sizes), axes
        self.several = len(self.sizes) > 1
        if self.several:
            count = torch.tensor(self.sizes, device=like.device)
            self.part = torch.repeat_interleave(torch.arange(len(self.sizes), device=like.device), count)
            self.most = (count + MORE)[:, None, None]

    def sum(self, rows: Tensor) -> Tensor:
        """Sum each mesh in the order in which it would be summed alone."""
        if not self.several:
            return rows.sum(self.axes, keepdim=True)
        return torch.cat([p.sum(self.axes, keepdim=True) for p in torch.split(rows, self.sizes, dim=1)], dim=1)

    def spread(self, sums: Tensor) -> Tensor:
        """Return the number of each mesh at its vertices, to multiply rows by."""
        return sums.index_select(1, self.part) if self.several else sums

    def going(self, wanted: Tensor, steps: int) -> Tensor:
        """Return which systems need more steps and are on meshes that allow for them."""
        return wanted & (self.most > steps) if self.several else wanted


def conjugate_gradients(
    right: Tensor, time: Tensor, stencil: Stencil, tolerance: float, sizes: Sequence[int]
) -> Tensor:
    """Solve ``(1 + t S) x = right`` for rows ``[B,V,2,C]`` to a residual of ``tolerance`` times the right-hand side.

    Every system has its own t, its own step lengths and its own end: complex channels for times ``[C]``, real ones for
    ``[2,C]``, each on every mesh by itself; ``sizes`` are the vertex counts of the meshes. Preconditioned by the
    diagonal.
    """
    parts = _Parts(sizes, (1, 2) if time.ndim == 1 else (1,), right)
    inverse = 1 / (1 + time * diagonal_of(stencil)[:, None, None])
    x = right * inverse
    residual = right - x - time * transport_gather(x.unsqueeze(2), stencil)
    step = residual * inverse
    square = parts.sum(residual * step)
    goal = tolerance**2 * parts.sum(right * right)
    for steps in range(max(sizes) + MORE):
        going = parts.going(parts.sum(residual * residual) > goal, steps)
        if not bool(going.any()):  # systems with a NaN stop, the others continue
            break
        image = step + time * transport_gather(step.unsqueeze(2), stencil)
        along = parts.sum(step * image)
        length = parts.spread(torch.where(going, square / along.clamp_min(1e-300), 0))
        x = torch.addcmul(x, length, step)
        residual = torch.addcmul(residual, length, image, value=-1)
        near = residual * inverse
        fresh = parts.sum(residual * near)
        step = torch.addcmul(near, parts.spread(fresh / square.clamp_min(1e-300)), step)
        square = fresh
    return x + parts.spread(0 * goal)  # NaN throughout a system whose right-hand side is not finite
