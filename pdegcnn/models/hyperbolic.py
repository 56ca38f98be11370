"""Fully hyperbolic networks: an opening, one reversible stack with its coarsenings, a closing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks as check
from pdegcnn.reversible import (
    CyclicSpaceToDepth,
    Inverse,
    ReversibleStack,
    SymmetricConv,
    SymmetricGroupConv,
    Wavelet,
)
from pdegcnn.reversible.symmetric_group import turning

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class HyperbolicNetwork(nn.Module):
    """``closing(stack(opening(x)))`` with space padded to what the coarsenings can split, and cropped again.

    Args:
        opening: module from the image to the first state.
        stack: a `ReversibleStack`.
        closing: module from the last state to the answer.
        multiple: space sizes are padded (nearest pixel) to a multiple of it.
        dims: number of space axes.
        dense: whether the answer has the image's space axes (then it is cropped).
    """

    def __init__(
        self, opening: nn.Module, stack: ReversibleStack, closing: nn.Module, multiple: int, dims: int, dense: bool
    ) -> None:
        super().__init__()
        self.opening, self.stack, self.closing = opening, stack, closing
        self.multiple, self.dims, self.dense = multiple, dims, dense

    def extra_repr(self) -> str:
        """Padding and number of axes."""
        return f"multiple={self.multiple}, dims={self.dims}"

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,C,*space] to [B,classes,*space] or, for a classifier, [B,classes]."""
        check.signal("x", x, self.dims + 2, "[B,C,*space]")
        sizes = x.shape[2:]
        pads = [amount for size in reversed(sizes) for amount in (0, -size % self.multiple)]
        y, _ = self.stack(self.opening(F.pad(x, pads, mode="replicate") if any(pads) else x))
        out = self.closing(y)
        if not self.dense:
            return out
        for axis, size in enumerate(sizes, 2):
            out = out.narrow(axis, 0, size)
        return out


class _Pooled(nn.Module):
    """Mean over space, then a linear map."""

    def __init__(self, channels: int, classes: int, device, dtype) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes, device=device, dtype=dtype)

    def forward(self, y: Tensor) -> Tensor:
        """Map [B,C,*space] to [B,classes]."""
        return self.linear(y.flatten(2).mean(2))


def _levels(width: int, depth: int, levels: int, dims: int, rank: int | None, h: float, up: bool, **kind) -> list:
    """Layers going down ``levels`` coarsenings and, with ``up``, back again."""

    def layers(channels: int) -> list[nn.Module]:
        r = None if rank is None else min(rank, channels)
        norm = 0.05**0.5 / h
        return [SymmetricConv(channels, 3, dims, r, init_norm=norm, **kind) for _ in range(depth)]

    split = Wavelet("haar", dims, device=kind.get("device"))
    out = layers(width)
    for level in range(1, levels + 1):
        out += [split, *layers(width * 2 ** (dims * level))]
    for level in range(levels - 1, -1, -1) if up else ():
        out += [Inverse(split), *layers(width * 2 ** (dims * level))]
    return out


def _sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        check.positive_int(name, value)


def hyperbolic_classifier(
    in_channels: int,
    classes: int,
    width: int = 8,
    depth: int = 3,
    levels: int = 2,
    *,
    dims: int = 2,
    rank: int | None = None,
    h: float = 0.5,
    exact: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HyperbolicNetwork:
    """A fully hyperbolic classifier, [B,in_channels,*space] to [B,classes].

    ``depth`` symmetric layers per level (``rank``: block-low-rank), Haar coarsening between ``levels`` + 1 levels,
    channels times 2^dims each. Source: arXiv 1905.10484, figure 2. Raises ValueError or TypeError for sizes < 1.
    """
    _sizes(in_channels=in_channels, classes=classes, width=width, depth=depth, levels=levels)
    kind = {"device": device, "dtype": dtype}
    stack = ReversibleStack(_levels(width, depth, levels, dims, rank, h, False, **kind), h, exact)
    opening = CONV[dims](in_channels, width, 1, **kind)
    closing = _Pooled(width * 2 ** (dims * levels), classes, device, dtype)
    return HyperbolicNetwork(opening, stack, closing, 2**levels, dims, dense=False)


def hyperbolic_segmenter(
    in_channels: int,
    classes: int,
    width: int = 8,
    depth: int = 2,
    levels: int = 2,
    *,
    dims: int = 2,
    rank: int | None = None,
    h: float = 0.5,
    exact: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HyperbolicNetwork:
    """A fully hyperbolic U shape without concatenation, [B,in_channels,*space] to [B,classes,*space].

    Down by Haar, up by its inverse, all in one reversible stack: nothing in between is stored. Arguments and errors
    as in `hyperbolic_classifier`; ``classes=1`` gives a regressor (depth). Source: arXiv 1905.10484, section 4.
    """
    _sizes(in_channels=in_channels, classes=classes, width=width, depth=depth, levels=levels)
    kind = {"device": device, "dtype": dtype}
    stack = ReversibleStack(_levels(width, depth, levels, dims, rank, h, True, **kind), h, exact)
    opening, closing = CONV[dims](in_channels, width, 1, **kind), CONV[dims](width, classes, 1, **kind)
    return HyperbolicNetwork(opening, stack, closing, 2**levels, dims, dense=True)


def video_segmenter(
    in_channels: int, classes: int, width: int = 4, depth: int = 2, levels: int = 2, rank: int = 8, **options
) -> HyperbolicNetwork:
    """A whole video at once, [B,in_channels,T,H,W] to [B,classes,T,H,W], with symmetric block-low-rank layers.

    `hyperbolic_segmenter` with ``dims=3`` and ``rank``. Source: Peters, Haber, Lensink, arXiv 1912.12137.
    """
    _sizes(rank=rank)
    return hyperbolic_segmenter(in_channels, classes, width, depth, levels, dims=3, rank=rank, **options)


class _Lift(nn.Module):
    """Correlation with one filter bank turned to every orientation: [B,Cin,H,W] to [B,C,Or,H,W]."""

    turn: Tensor

    def __init__(self, in_channels: int, channels: int, orientations: int, device, dtype) -> None:
        super().__init__()
        self.size = 5
        self.weight = nn.Parameter(torch.empty(channels, in_channels, self.size**2, device=device, dtype=dtype))
        turn = turning(orientations, self.size).to(device=device, dtype=self.weight.dtype)
        self.register_buffer("turn", turn, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform filters, scaled by their size."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,Cin,H,W] to [B,C,Or,H,W]."""
        bank = torch.einsum("opq,rcq->rocp", self.turn, self.weight).flatten(0, 1)
        out = F.conv2d(x, bank.unflatten(-1, (self.size, self.size)), padding=self.size // 2)
        return out.unflatten(1, (self.weight.shape[0], -1))


class _Project(nn.Module):
    """Maximum over the orientations, then a 1x1 convolution: [B,C,Or,H,W] to [B,classes,H,W]."""

    def __init__(self, channels: int, classes: int, device, dtype) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, classes, 1, device=device, dtype=dtype)

    def forward(self, u: Tensor) -> Tensor:
        """Map [B,C,Or,H,W] to [B,classes,H,W]."""
        return self.mix(u.amax(2))


def equivariant_hyperbolic_segmenter(
    in_channels: int,
    classes: int,
    width: int = 4,
    depth: int = 2,
    levels: int = 1,
    *,
    orientations: int = 4,
    rank: int | None = None,
    h: float = 0.5,
    exact: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HyperbolicNetwork:
    """A segmenter on SE(2), equivariant to quarter turns, fully reversible and coarsening: [B,Cin,H,W] to [B,K,H,W].

    Lift, symmetric group convolutions with cyclic space-to-depth down and up, maximum over orientations. Equivariance
    is exact when H and W are multiples of 2^levels (else padding on one side breaks it at the border).

    Raises:
        ValueError: a size < 1, or orientations that 4 does not divide.
    """
    _sizes(in_channels=in_channels, classes=classes, width=width, depth=depth, levels=levels)
    kind = {"device": device, "dtype": dtype}
    split = CyclicSpaceToDepth(orientations)

    def layers(level: int) -> list[nn.Module]:
        channels = width * 4**level
        r = None if rank is None else min(rank, channels)
        norm = 0.05**0.5 / h
        return [SymmetricGroupConv(channels, orientations, 3, r, init_norm=norm, **kind) for _ in range(depth)]

    down = [m for level in range(1, levels + 1) for m in (split, *layers(level))]
    up = [m for level in range(levels - 1, -1, -1) for m in (Inverse(split), *layers(level))]
    stack = ReversibleStack([*layers(0), *down, *up], h, exact)
    opening = _Lift(in_channels, width, orientations, device, dtype)
    return HyperbolicNetwork(opening, stack, _Project(width, classes, device, dtype), 2**levels, 2, dense=True)
