"""Pool signals over windows or over the whole space."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import widen
from pdegcnn._typing import Device, DType, Function
from pdegcnn.pde.sphere_oversample import Finer
from pdegcnn.spaces import S2, RotationSpace


class MaxPool(nn.Module):
    """Maximum over windows of the image axes of ``[B,...,H,W]``.

    Sizes for which it would not commute with rotations by 90 degrees raise ``ValueError``.

    Args:
        kernel_size: width of the windows.
        stride: step from window to window; None: ``kernel_size``.
        dims: number of axes that are pooled: 2 for images, 3 for volumes ``[B,...,D,H,W]``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.MaxPool(2)(torch.rand(1, 4, 8, 16, 16)).shape
        torch.Size([1, 4, 8, 8, 8])
    """

    def __init__(self, kernel_size: int, stride: int | None = None, *, dims: int = 2) -> None:
        super().__init__()
        self.dims = _checks.choice("dims", dims, (2, 3))
        self.kernel_size = _checks.positive_int("kernel_size", kernel_size)
        self.stride = _checks.positive_int("stride", kernel_size if stride is None else stride)

    def forward(self, u: Tensor) -> Tensor:
        """Pool ``u`` over its last axes.

        Args:
            u: ``[B,...,H,W]``, or ``[B,...,D,H,W]`` for ``dims=3``.
        """
        layout = "[B,...,H,W]" if self.dims == 2 else "[B,...,D,H,W]"
        if _checks.tensor("u", u).ndim < 1 + self.dims:
            raise ValueError(f"u: expected a tensor {layout}, got shape {tuple(u.shape)}")
        _checks.signal("u", u, u.ndim, layout)
        for n in u.shape[-self.dims :]:
            if n < self.kernel_size or (n - self.kernel_size) % self.stride:
                raise ValueError(
                    f"u: expected sizes that windows of {self.kernel_size} at stride {self.stride} fill to the last "
                    f"pixel, so that pooling is centred, got shape {tuple(u.shape)}; resample first"
                )
        if not u.numel():  # torch's pooling takes no empty batch of some ranks
            kept = [slice((n - self.kernel_size) // self.stride + 1) for n in u.shape[-self.dims :]]
            return u[(..., *kept)]
        pool, most = (F.max_pool2d, 4) if self.dims == 2 else (F.max_pool3d, 5)
        pooled = pool(u.flatten(0, -most) if u.ndim > most else u, self.kernel_size, self.stride)
        return pooled.reshape(*u.shape[: -self.dims], *pooled.shape[-self.dims :])

    def extra_repr(self) -> str:
        """Return the window and stride."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, dims={self.dims}"


class GlobalPool(nn.Module):
    """Reduce signals to invariants ``[B,C]``: the area-weighted mean or the maximum over the sphere and the fibre.

    Args:
        space: S2 or SO(3).
        mode: ``"mean"`` (exactly invariant for band-limited signals) or ``"max"`` (invariant up to sampling).
        oversample: for the maximum, factor by which sphere and fibre are interpolated first by their coefficients: the
            maximum of the samples is then nearer to that of the function, which rotations do not change.
        device: where the tables of ``oversample`` live.
        dtype: dtype of the signals, for ``oversample``.
    """

    def __init__(
        self,
        space: RotationSpace,
        mode: str = "mean",
        *,
        oversample: int = 1,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, RotationSpace, "S2 or SO3")
        self.mode = _checks.choice("mode", mode, ("mean", "max"))
        self.oversample = _checks.positive_int("oversample", oversample)
        if oversample > 1 and mode != "max":
            raise ValueError(f"oversample: expected 1 for mode='mean', which is exact, got {oversample}")
        self.finer = None
        if oversample > 1:
            self.finer = Finer(space, (oversample, oversample), device=device, dtype=dtype, back=False)

    def forward(self, u: Tensor) -> Tensor:
        """Reduce ``u``, on SO(3) (unless ``oversample > 1``) also a spherical signal ``[B,C,*grid.shape]``.

        Args:
            u: ``[B,C,*grid.shape]`` or, on SO(3), ``[B,C,fibre,*grid.shape]``.

        Returns:
            ``[B,C]``.
        """
        if self.finer is not None:
            self.space.check_signal("u", u)
            return _greatest(self.finer.up(u).to(u.dtype))
        if _checks.tensor("u", u).ndim == self.space.signal_ndim:
            self.space.check_signal("u", u)
        else:
            S2(self.space.grid).check_signal("u", u)
        if self.mode == "max":
            return _greatest(u)
        share = self.space.grid.weights.to(widen(u)) / (4 * math.pi)
        mean = (widen(u) * share).flatten(-len(self.space.grid.shape)).sum(-1)  # shares may be below the least half
        return (mean if mean.ndim == 2 else mean.mean(2)).to(u.dtype)

    def extra_repr(self) -> str:
        """Return the space, mode and oversampling."""
        return f"{self.space}, mode={self.mode!r}, oversample={self.oversample}"


def _greatest(u: Tensor) -> Tensor:
    """Return the maximum ``[B,C]`` of signals ``[B,C,...]``; places that attain it share its gradient."""
    records = torch.is_grad_enabled() and u.requires_grad and u.device.type == "cpu" and u.numel()
    if not records or _transforms.in_forward_mode() or not _checks.has_values(u):
        return _amax(u)
    return _Greatest.apply(u)


def _amax(u: Tensor) -> Tensor:
    return u.flatten(2).amax(2)


class _Greatest(Function):
    """The maximum; its backward pass looks only at lines that attain it, which takes half as long as that of amax."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        (u,) = arguments
        lines = u.reshape(u.shape[0] * u.shape[1], -1, u.shape[-1]).amax(2)
        out = lines.amax(1)
        ctx.save_for_backward(u, lines, out)
        return out.view(u.shape[:2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (u, lines, out) = grads, ctx.saved_tensors
        if torch.is_grad_enabled() or _transforms.is_batched(grad):  # further derivatives need a formula
            return _transforms.pull(_amax, grad, (u,), (True,))
        channel, line = (lines == out[:, None]).nonzero().unbind(1)
        near = u.reshape(*lines.shape, -1)[channel, line]
        which, place = (near == out[channel, None]).nonzero().unbind(1)
        channel, line = channel[which], line[which]
        count = torch.bincount(channel, minlength=len(out))
        to_u = grad.new_zeros(*lines.shape, u.shape[-1])
        to_u[channel, line, place] = (grad.flatten() / count)[channel]
        to_u[count == 0] = torch.nan  # as torch has it where the maximum is NaN
        return (to_u.view(u.shape),)
