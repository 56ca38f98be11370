"""The log-plus convolution of signals on rings, from their linear convolution."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pdegcnn.ops._log_plus import Taps, soft_extremum
from pdegcnn.ops.ring_convolution import pull, ring_convolution
from pdegcnn.ops.ring_morphology import ring_morphology


@dataclass(frozen=True)
class RingTaps(Taps):
    """Lists of taps of :func:`pdegcnn.ops.ring_morphology.ring_morphology`, the centre first.

    Args:
        taps: ``[S,3]``.
        start: ``[G+1]``.
        longest: length of the longest list.
        backend: name of the versions that run, None for the default.
    """

    taps: Tensor
    start: Tensor
    longest: int
    backend: str | None = None

    def add(self, u: Tensor, weights: Tensor) -> Tensor:
        """Return the linear convolution."""
        return ring_convolution(u, weights, self.taps, self.start, self.longest, self.backend)

    def pull(self, grad: Tensor, u: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return its gradients."""
        return pull(grad, u, weights, self.taps, self.start, self.longest, self.backend)

    def largest(self, u: Tensor, costs: Tensor) -> Tensor:
        """Return the max-plus convolution."""
        return ring_morphology(u, costs, self.taps, self.start, self.longest, 1, self.backend)

    def total(self, u: Tensor, weights: Tensor) -> Tensor:
        """Return the sum of the weights of each ring, ``[C,1 or F,G,1]``."""
        return self._alike().add(self._points(u, weights) + 1, weights)[0]

    def cheapest(self, u: Tensor, costs: Tensor) -> Tensor:
        """Return the least cost of each ring, reversed, ``[C,1 or F,G,1]``."""
        return self._alike().largest(self._points(u, costs), costs)[0]

    def extra_cost(self, costs: Tensor) -> Tensor:
        """Return twice the difference between the largest cost of a centre and the least cost of a tap."""
        return 2 * (costs[..., self.start[:-1]].flatten(1).amax(1) - costs.flatten(1).amin(1))

    def _alike(self) -> RingTaps:
        """Return the same taps for signals that are constant on each ring and fibre."""
        return RingTaps(self.taps * self.taps.new_tensor([1, 0, 0]), self.start, self.longest, self.backend)

    def _points(self, u: Tensor, kernel: Tensor) -> Tensor:
        """Return zeros on one point of each ring."""
        return u.new_zeros(1, u.shape[1], kernel.shape[1], u.shape[3], 1)


def log_plus_mean(u: Tensor, costs: Tensor, temperature: Tensor | float, taps: RingTaps, sign: int = +1) -> Tensor:
    """Return ``t log(sum exp((u - k) / t) / sum exp(-k / t))`` over the taps of each ring: constants are kept.

    Args:
        u: signal [B,C,F,G,n].
        costs: [C,F,S] or [C,1,S], of the dtype and device of ``u``; those of the centres are finite.
        temperature: t > 0, a number or a tensor [] or [C] of the dtype of ``u``.
        taps: lists of taps.
        sign: +1 for dilation, -1 for erosion.

    Returns:
        Tensor of the shape and dtype of ``u``, between its least and greatest value.
    """
    return soft_extremum(u, costs, temperature, sign, taps, mean=True)
