"""The log-plus convolution of images, orientation scores and volumes, from their linear convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops._log_plus import Taps
from pdegcnn.ops.group_convolution import group_convolution, pull


@dataclass(frozen=True)
class GridTaps(Taps):
    """Taps of kernels ``[C,Or,KO,KH,KW]``, or ``[C,1,KD,KH,KW]`` where planes are not periodic.

    Args:
        backend: name of the linear convolution's version, None for the default.
        maximum: the max-plus convolution, ``(u, kernel)``.
        periodic: whether the first plane follows the last.
    """

    backend: str | None
    maximum: Callable[[Tensor, Tensor], Tensor]
    periodic: bool

    def add(self, u: Tensor, weights: Tensor) -> Tensor:
        """Return the linear convolution with zeros outside."""
        return group_convolution(u, weights, "zeros", self._chosen(u), periodic=self.periodic)

    def pull(self, grad: Tensor, u: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return its gradients."""
        return pull(grad, u, weights, self._chosen(u), periodic=self.periodic)

    def largest(self, u: Tensor, costs: Tensor) -> Tensor:
        """Return the max-plus convolution."""
        return self.maximum(u, costs if self.periodic else costs.expand(-1, u.shape[2], -1, -1, -1))

    def total(self, u: Tensor, weights: Tensor) -> Tensor:
        """Return the sum of the weights inside, ``[C,Or,H,W]``."""
        return self._beside_the_border(u, weights, lambda ones: self.add(ones, weights))

    def cheapest(self, u: Tensor, costs: Tensor) -> Tensor:
        """Return the least cost inside, reversed, ``[C,Or,H,W]``."""
        return self._beside_the_border(u, costs, lambda ones: self.largest(0 * ones, costs))

    def extra_cost(self, costs: Tensor) -> Tensor:
        """Return zero where the centre, which is never outside, costs least; else twice the range of the costs."""
        finite = torch.where(costs == torch.inf, -torch.inf, costs).flatten(2)
        least, centre = costs.flatten(2).amin(2), finite[..., finite.shape[2] // 2]
        return torch.where(centre == least, 0, 2 * (finite.amax(2) - least)).amax(1)

    def _chosen(self, u: Tensor) -> str | None:
        """Return the version to take; conv2d may take algorithms whose errors are those of the greatest value near."""
        if self.backend is None and u.is_cuda and not _backend.refusal("group_convolution", "triton", "cuda", u.dtype):
            return "triton"
        return self.backend

    def _beside_the_border(self, u: Tensor, kernel: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``run`` of a signal of ones, on few pixels, because all away from the border are equal."""
        if _transforms.is_tracing():  # sizes are tensors here and cannot be reduced
            return run(torch.ones_like(u[:1]))[0]
        axes = range(2 if self.periodic else 1, 4)
        sizes, shape = kernel.shape[1:], list(u.shape[1:])
        for axis in axes:
            shape[axis] = cast("int", torch.sym_min(shape[axis], sizes[axis]))
        found = run(u.new_ones(1, *shape))[0]
        for axis in axes:
            n, k = u.shape[1 + axis], sizes[axis]
            index = torch.arange(n, device=u.device)
            found = found.index_select(axis, index - (index - k // 2).clamp_min(0).clamp_max(n - shape[axis]))
        return found
