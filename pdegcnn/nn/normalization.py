"""Normalise the channels of a signal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage] - what torch's batch norms share

from pdegcnn import _checks, _transforms
from pdegcnn._derived import Derived, Table
from pdegcnn._dtypes import HALF, wide_dtype, widen
from pdegcnn._typing import Device, DType, Function, linalg
from pdegcnn.nn._processes import Normalisation, StandIn, sum_over
from pdegcnn.spaces import Space

"""What torch's batch norm takes beside statistics of float32."""


def _per_channel(value: Tensor, u: Tensor) -> Tensor:
    return value.view(1, -1, *(1,) * (u.ndim - 2))


def _moments(u: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return means ``[C]`` of ``u [B,C,...,*base]`` by ``weights [*base]`` of mean 1, centred u, and variances."""
    line = weights.expand(u.shape[2:]).flatten()
    mean = (u.flatten(2) @ line).mean(0) / len(line)
    centred = u - _per_channel(mean, u)
    return mean, centred, (centred.square().flatten(2) @ line).mean(0) / len(line)


class _WeightedNorm(Function):
    """``scale (u - mean)/sqrt(variance + eps) + shift``, mean and variance, with the gradient in closed form.

    Autograd's own chain of the same operations takes more than twice the passes over memory.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, centred, variance = _moments(u, weights)
        factor = _per_channel(scale * (variance + eps).rsqrt(), u)
        return torch.addcmul(_per_channel(shift, u), centred, factor), mean, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        u, weights, scale, _, ctx.eps = inputs
        _, mean, variance = output
        ctx.mark_non_differentiable(mean, variance)
        ctx.save_for_backward(u, weights, scale, mean, variance)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        _transforms.refuse_batches("BatchNorm(space=...)", grad)
        u, weights, scale, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives need these dependencies
            _, centred, variance = _moments(u, weights)
        else:
            centred = u - _per_channel(mean, u)
        rate, count = (variance + ctx.eps).rsqrt(), u.numel() // u.shape[1]
        total = grad.flatten(2).sum((0, 2))
        along = linalg.vecdot(grad.flatten(2), centred.flatten(2)).sum(0)
        constant, slope = scale * rate * total / -count, scale * rate**3 * along / -count
        back = torch.addcmul(_per_channel(constant, u), centred, _per_channel(slope, u)) * weights
        grad_u = torch.addcmul(back, grad, _per_channel(scale * rate, u))
        return grad_u, None, rate * along, total, None


def _between_processes(
    u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `_WeightedNorm` does over all processes of ``group``, and the count of numbers per channel."""
    line = weights.expand(u.shape[2:]).flatten()
    count = u.new_tensor([u.shape[0] * len(line)])
    sums = sum_over(group, torch.cat(((u.flatten(2) @ line).sum(0), count)))
    count = sums[-1].detach().clamp_min(1)
    mean = sums[:-1] / count
    centred = u - _per_channel(mean, u)
    variance = sum_over(group, (centred.square().flatten(2) @ line).sum(0)) / count
    factor = _per_channel(scale * (variance + eps).rsqrt(), u)
    return torch.addcmul(_per_channel(shift, u), centred, factor), mean, variance, count


class BatchNorm(Derived, Normalisation, _NormBase):
    """``torch.nn.BatchNorm2d`` for signals ``[B,C,...]`` of any rank: one mean and variance per channel.

    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` keeps this module and makes it average over all processes.

    Args:
        num_features: channels C.
        space: where the signals live; if the areas of its points differ, as on the sphere, means and variances are
            integrals, so that rotating a signal does not change them.
        eps: added to variances.
        momentum: weight of a batch in the running statistics; None: the mean over all batches.
        affine: learn a scale and a shift.
        track_running_stats: keep statistics for evaluation.
        device: where parameters and statistics live.
        dtype: their dtype.

    Raises:
        TypeError: if ``space`` is not a space, or ``eps`` or ``momentum`` is not a number.
        ValueError: if ``eps`` is not positive, or ``momentum`` is not in [0, 1].
    """

    point_weights: Tensor | None
    weight: nn.Parameter | None  # pyright: ignore[reportIncompatibleVariableOverride] - torch's is None if not affine
    bias: nn.Parameter | None  # pyright: ignore[reportIncompatibleVariableOverride] - as above

    def __init__(
        self,
        num_features: int,
        space: Space | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        _checks.positive_int("num_features", num_features)
        if space is not None:
            _checks.kind("space", space, Space, "a space or None")
        _checks.number("eps", eps, 0.0, math.inf, open_low=True)
        if momentum is not None:
            _checks.number("momentum", momentum, 0.0, 1.0)
        _checks.flag("affine", affine)
        _checks.flag("track_running_stats", track_running_stats)
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - torch gives device and dtype no types
            num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype
        )
        self.space = space
        self.register_buffer("point_weights", None, persistent=False)
        self._build(torch.empty(0, device=device, dtype=dtype))
        self.stand_in = StandIn(self)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return wide_dtype(dtype)

    def _tables(self) -> list[Table]:
        space = self.space
        if space is None or space.point_weights is None:
            return []
        return [("point_weights", None, lambda: cast(Tensor, space.point_weights))]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalise ``input`` by the statistics of the batch (training) or the running ones (evaluation).

        Args:
            input: a signal ``[B,C,...]``.
        """
        like = self.weight if self.running_mean is None else self.running_mean
        if like is None or getattr(input, "dtype", None) in HALF and input.device == like.device:
            _checks.channels("input", _checks.tensor("input", input), self.num_features)
        else:
            _checks.weighted("input", input, self.num_features, like)
        if input.ndim < 3:
            self._check_input_dim(input)
        takes = self._takes_statistics()
        training = takes or self.running_mean is None
        group = self._processes() if training else None
        if group is None and (self.point_weights is None or not training or not input.shape[0]):
            return self._evenly(input, training, takes)
        if _checks.autocasts(input.device):
            with torch.autocast(input.device.type, enabled=False):  # as in torch; half precision would be inaccurate
                return self._by_area(input, group)
        return self._by_area(input, group)

    def _by_area(self, input: Tensor, group: dist.ProcessGroup | None) -> Tensor:  # noqa: A002
        """Normalise by the batch's own statistics, or those of the processes of ``group``; in float32 at least."""
        u = widen(input)
        weights = u.new_ones(()) if self.point_weights is None else self.point_weights.to(u.dtype)
        scale = u.new_ones(u.shape[1]) if self.weight is None else self.weight.to(u.dtype)
        shift = u.new_zeros(u.shape[1]) if self.bias is None else self.bias.to(u.dtype)
        count: int | Tensor = u.numel() // u.shape[1]
        if group is None:
            norm: Callable[..., tuple[Tensor, Tensor, Tensor]] = (
                _WeightedNorm.forward if _transforms.has_tangent(u, scale, shift) else _WeightedNorm.apply
            )
            normal, mean, variance = norm(u, weights, scale, shift, self.eps)
        else:
            normal, mean, variance, count = _between_processes(u, weights, scale, shift, self.eps, group)
        if self.running_mean is not None and self.running_var is not None:
            self._remember(mean.detach(), variance.detach(), count)
        return normal.to(input.dtype)

    def _evenly(self, u: Tensor, training: bool, takes: bool) -> Tensor:
        """Apply torch's batch norm: points have equal weights or statistics are given."""
        kept = (self.running_mean, self.running_var) if not takes or self.track_running_stats else (None, None)
        share = self._share() if takes and self.track_running_stats else 0.0
        return F.batch_norm(u, *kept, self.weight, self.bias, training, share, self.eps)

    def _share(self) -> float:
        """Count a batch, and give its share in the running statistics."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum

    def _remember(self, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
        """Update running statistics as ``torch.nn.BatchNorm2d`` does."""
        assert self.running_mean is not None and self.running_var is not None
        share = self._share()
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.ndim < 3:
            raise ValueError(f"u: expected a signal [B,C,...] of rank at least three, got shape {tuple(input.shape)}")
        if input.shape[1] != self.num_features:
            raise ValueError(f"u: expected {self.num_features} channels, got shape {tuple(input.shape)}")

    def __repr__(self) -> str:
        return f"{self._get_name()}({self.extra_repr()})"
