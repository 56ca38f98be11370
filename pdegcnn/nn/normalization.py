"""Normalise the channels of a signal."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage] - what torch's batch norms share

from pdegcnn import _checks, _transforms
from pdegcnn._derived import Derived, Table
from pdegcnn._dtypes import HALF, wide_dtype, widen
from pdegcnn._typing import Device, DType
from pdegcnn.nn._processes import Normalisation, StandIn, sum_over
from pdegcnn.ops.backend import choose
from pdegcnn.ops.weighted_norm import weighted_norm
from pdegcnn.ops.weighted_norm.reference import per_channel
from pdegcnn.spaces import Mesh, Space


def _is_faster(u: Tensor, weight: Tensor) -> bool:
    """Return whether ``weighted_norm`` is faster than torch's batch norm, which compilers fuse with what is around."""
    if u.dtype != weight.dtype or u.dtype in HALF or u.numel() <= u.shape[1] or _checks.is_compiling():
        return False
    if _transforms.is_wrapped(u) or _transforms.differentiated(u, weight):
        return False
    return choose("weighted_norm", u, None) == "numba"


def _between_processes(
    u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what ``weighted_norm`` does over all processes of ``group``, and the count of numbers per channel."""
    line = weights.expand(u.shape[2:]).flatten()
    count = u.new_full((1,), u.shape[0] * len(line))
    sums = sum_over(group, torch.cat(((u.flatten(2) @ line).sum(0), count)))
    count = sums[-1].detach().clamp_min(1)
    mean = sums[:-1] / count
    centred = u - per_channel(mean, u)
    variance = sum_over(group, (centred.square().flatten(2) @ line).sum(0)) / count
    factor = per_channel(scale * (variance + eps).rsqrt(), u)
    return torch.addcmul(per_channel(shift, u), centred, factor), mean, variance, count


class BatchNorm(Derived, Normalisation, _NormBase):
    """``torch.nn.BatchNorm2d`` for signals ``[B,C,...]`` of any rank: one mean and variance per channel.

    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` keeps this module and makes it average over all processes.

    Args:
        num_features: channels C.
        space: where the signals live, which is checked except on meshes; if the areas of its points differ, as on the
            sphere, means and variances are integrals, so that rotating a signal does not change them.
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
        if self.space is not None and not isinstance(self.space, Mesh):  # a layer serves any mesh
            self.space.check_signal("input", input)
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
            normal, mean, variance = weighted_norm(u, weights, scale, shift, self.eps)
        else:
            normal, mean, variance, count = _between_processes(u, weights, scale, shift, self.eps, group)
        if self.running_mean is not None and self.running_var is not None:
            self._remember(mean.detach(), variance.detach(), count, self._share())
        return normal.to(input.dtype)

    def _evenly(self, u: Tensor, training: bool, takes: bool) -> Tensor:
        """Normalise where points have equal weights or statistics are given; without a space as torch, to the bit."""
        kept = (self.running_mean, self.running_var) if not takes or self.track_running_stats else (None, None)
        share = self._share() if takes and self.track_running_stats else 0.0
        weight, bias = self.weight, self.bias
        if self.space is None or not training or weight is None or bias is None or not _is_faster(u, weight):
            return F.batch_norm(u, *kept, weight, bias, training, share, self.eps)
        normal, mean, variance = weighted_norm(u, u.new_ones(()), weight, bias, self.eps)
        if kept[0] is not None:
            self._remember(mean, variance, u.numel() // u.shape[1], share)
        return normal

    def _share(self) -> float:
        """Count a batch, and give its share in the running statistics."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum

    def _remember(self, mean: Tensor, variance: Tensor, count: int | Tensor, share: float) -> None:
        """Update running statistics as ``torch.nn.BatchNorm2d`` does."""
        assert self.running_mean is not None and self.running_var is not None
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
