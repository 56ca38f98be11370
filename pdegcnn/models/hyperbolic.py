"""Fully hyperbolic networks: an opening layer, one reversible stack with its coarsenings, and a closing layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from pdegcnn import _checks as check
from pdegcnn._typing import Device, DType, Factory
from pdegcnn.models.planar import USUAL, as_published
from pdegcnn.nn import ChannelLinear, Lift, PDELayer, Project
from pdegcnn.nn.lift import GridLift
from pdegcnn.reversible import (
    CyclicSpaceToDepth,
    Inverse,
    NormalizedSymmetricConv,
    ReversibleStack,
    SymmetricConv,
    SymmetricGroupConv,
    Wavelet,
)
from pdegcnn.reversible.contracts import hooked
from pdegcnn.reversible.engine import values_can_be_read
from pdegcnn.reversible.strips import assembled, in_strips, least_rows
from pdegcnn.spaces import SE2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pdegcnn.nn.layer import LayerOptions

__all__ = [
    "HyperbolicNetwork",
    "equivariant_hyperbolic_segmenter",
    "hyperbolic_classifier",
    "hyperbolic_segmenter",
    "video_segmenter",
]

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
STABLE_START = 0.05**0.5
"""First bound of ``h |K|``, for which a stack of layers that vary in depth is stable."""
NORMALIZED_START = 4 * STABLE_START
"""The same with batch norm: what a layer adds to a state then grows with ``|K|``, not with its square."""


class HyperbolicNetwork(nn.Module):
    """Network ``closing(stack(opening(x)))`` on inputs padded to sizes that the coarsenings can halve.

    Args:
        opening: module from the input to the first state.
        stack: a `ReversibleStack`.
        closing: module from the last state to the output.
        multiple: space sizes are padded (nearest pixel) to a multiple of it.
        dims: number of space axes.
        dense: whether the output has the space axes of the input (then it is cropped to its size).
        of_velocity: module from the last velocity to what is added to the output; None: the velocity is not read.
    """

    def __init__(
        self,
        opening: nn.Module,
        stack: ReversibleStack,
        closing: nn.Module,
        multiple: int,
        dims: int,
        dense: bool,
        of_velocity: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.opening, self.stack, self.closing, self.of_velocity = opening, stack, closing, of_velocity
        self.multiple, self.dims, self.dense = multiple, dims, dense

    def extra_repr(self) -> str:
        """Return padding and number of axes."""
        return f"multiple={self.multiple}, dims={self.dims}"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B,C,*space]`` to ``[B,classes,*space]`` or, for a classifier, to ``[B,classes]``.

        Args:
            x: images, volumes or signals on SE(2), as the builder of the network says.
        """
        check.signal("x", x, self.dims + 2, "[B,C,*space]")
        first = self.opening[0] if isinstance(self.opening, nn.Sequential) else self.opening
        if isinstance(wanted := getattr(first, "in_channels", None), int):
            check.channels("x", x, wanted, "[B,C,*space]")
        for weight in itertools.islice(self.opening.parameters(), 1):
            check.for_weights("x", x, weight)
        sizes = x.shape[2:]
        pads = [amount for size in reversed(sizes) for amount in (0, -size % self.multiple)]
        x = F.pad(x, pads, mode="replicate") if any(pads) else x
        y, own = _in_strips(self.opening, x, self.dims)
        states = list(self.stack(y, overwrite=own))
        del y
        if self.of_velocity is None:
            del states[1]  # it would take memory while the output is computed
        out, _ = _in_strips(self.closing, states.pop(0), self.dims)
        if self.of_velocity is not None:
            out = out + _in_strips(self.of_velocity, states.pop(), self.dims)[0]
        if not self.dense:
            return out
        for axis, size in enumerate(sizes, 2):
            out = out.narrow(axis, 0, size)
        return out


def _halo(module: nn.Module) -> int | None:
    """Return how many pixels around an output pixel a module looks at, for the modules of ready networks."""
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() if type(module) in CONV.values():
            return _margin(module)
        case GridLift() if type(module) is GridLift:
            local = module.padding == "same" and module.filters != "cake" and module.boundary != "periodic"
            return module.kernel_size // 2 if local and module.stride == 1 else None
        case nn.Sequential() if type(module) is nn.Sequential:
            halos = [_halo(part) for part in module.children()]
            return None if None in halos else sum(halo or 0 for halo in halos)
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d() if type(module) in NORM.values():
            return None if module.training else 0
        case nn.ReLU() if type(module) is nn.ReLU:
            return 0
        case Project() | ChannelLinear() if type(module) in (Project, ChannelLinear):
            return 0 if getattr(module, "mode", "max") == "max" else None
        case _:
            return None


def _margin(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> int | None:
    """Return how many pixels around its own a convolution reads, if it keeps the size and puts zeros outside."""
    size, padding = conv.kernel_size[0], conv.padding
    regular = {*conv.stride, *conv.dilation} == {1} and {*conv.kernel_size} == {size} and conv.padding_mode == "zeros"
    return size // 2 if regular and size % 2 and {*padding} == {size // 2} else None


def _in_strips(module: nn.Module, x: Tensor, dims: int) -> tuple[Tensor, bool]:
    """Return ``module(x)``, without gradients by strips if possible, and whether the result is a new tensor."""
    dual = cast("int", forward_ad._current_level) >= 0  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    quiet = values_can_be_read(x) and not torch.is_grad_enabled() and not dual
    if not quiet or hooked(module) or any("forward" in vars(part) for part in module.modules()):
        return module(x), False
    halo = _halo(module)
    if halo is None:
        return module(x), False
    least = least_rows(x.shape, math.prod(x.shape[1:-dims]), dims)
    return assembled(in_strips(module, x, -dims, halo, least), x, -dims), True


class _Pooled(nn.Module):
    """Mean over space, then a linear map."""

    def __init__(self, channels: int, classes: int, device: Device, dtype: DType) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes, device=device, dtype=dtype)

    def forward(self, y: Tensor) -> Tensor:
        """Map [B,C,*space] to [B,classes]."""
        return self.linear(y.flatten(2).mean(2))


def _levels(
    width: int,
    depth: int,
    levels: int,
    dims: int,
    rank: int | Sequence[int] | None,
    h: float,
    batch_norm: bool,
    up: bool,
    kind: Factory,
) -> list[nn.Module]:
    """Return layers going down ``levels`` coarsenings and, with ``up``, back again."""
    normalized = check.flag("batch_norm", batch_norm)
    one, start = (NormalizedSymmetricConv, NORMALIZED_START) if normalized else (SymmetricConv, STABLE_START)
    ranks = _ranks(rank, levels)

    def layers(level: int) -> list[nn.Module]:
        channels, r, norm = width * 2 ** (dims * level), ranks[level], start / h
        r = None if r is None else min(r, channels)
        return [one(channels, 3, dims, r, init_norm=norm, **kind) for _ in range(depth)]

    split = Wavelet("haar", dims, device=kind["device"])
    out = layers(0)
    for level in range(1, levels + 1):
        out += [split, *layers(level)]
    for level in range(levels - 1, -1, -1) if up else ():
        out += [Inverse(split), *layers(level)]
    return out


def _ranks(rank: Any, levels: int) -> list[int | None]:
    """Return the rank of each level, the finest first."""
    if rank is None:
        return [None] * (levels + 1)
    if not isinstance(rank, Sequence) or isinstance(rank, str):
        return [check.positive_int("rank", rank)] * (levels + 1)
    given = cast("Sequence[object]", rank)
    if len(given) != levels + 1:
        raise ValueError(f"rank: expected one number or one for each of {levels + 1} levels, got {len(given)}")
    return [check.positive_int("rank", one) for one in given]


def _step(h: Any) -> None:
    check.number("h", h, 0.0, math.inf, open_low=True)


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
    rank: int | Sequence[int] | None = None,
    h: float = 0.5,
    batch_norm: bool = False,
    exact: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HyperbolicNetwork:
    """Build a fully hyperbolic classifier: ``[B,in_channels,*space] -> [B,classes]``.

    Each of ``levels + 1`` levels has ``depth`` symmetric layers; Haar coarsening between them multiplies channels by
    ``2**dims``. Source: arXiv 1905.10484, figure 2.

    Args:
        in_channels: channels of the input.
        classes: number of logits.
        width: channels of the finest level.
        depth: layers of each level.
        levels: number of coarsenings.
        dims: axes of the input, 1 to 3.
        rank: rank of block-low-rank layers, one number or one for each level, the finest first; None: full kernels.
        h: step of the telegraph equation.
        batch_norm: put batch norm into each layer and start from kernels four times as large, which learns much faster
            from images.
        exact: rebuild states to the bit in backward.
        device: where the parameters live.
        dtype: their dtype.

    Raises:
        ValueError: if a size is below 1.
        TypeError: if a size is not an int.
    """
    _sizes(in_channels=in_channels, classes=classes, width=width, depth=depth, levels=levels)
    _step(h)
    kind: Factory = {"device": device, "dtype": dtype}
    stack = ReversibleStack(_levels(width, depth, levels, dims, rank, h, batch_norm, False, kind), h, exact)
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
    rank: int | Sequence[int] | None = None,
    h: float = 0.5,
    batch_norm: bool = False,
    opening: str = "linear",
    closing: str = "linear",
    exact: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HyperbolicNetwork:
    """Build a fully hyperbolic U shape without concatenation: ``[B,in_channels,*space] -> [B,classes,*space]``.

    Haar coarsenings and their inverses are in one reversible stack, so no state in between is stored. Errors are as in
    :func:`hyperbolic_classifier`; ``classes=1`` is a regression, such as depth. Source: arXiv 1905.10484, section 4.

    Args:
        in_channels: channels of the input.
        classes: channels of the output.
        width: channels of the finest level.
        depth: layers of each level, on the way down and on the way up.
        levels: number of coarsenings.
        dims: axes of the input, 1 to 3.
        rank: rank of block-low-rank layers, one number or one for each level, the finest first; None: full kernels.
        h: step of the telegraph equation.
        batch_norm: put batch norm into each layer and start from kernels four times as large, which learns much faster
            from images.
        opening: ``"linear"``: the first state is a linear map of the input, pixel by pixel. ``"normalized"``: a
            convolution of size 3, batch norm and ReLU, which make networks for images more accurate.
        closing: ``"linear"``: the output is a linear map of the last state, pixel by pixel. ``"normalized"``: batch
            norm, ReLU and a convolution of size 3 of the state, plus the same of its velocity. It smooths the blocks
            of the coarsenings and makes networks for images more accurate.
        exact: rebuild states to the bit in backward.
        device: where the parameters live.
        dtype: their dtype.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.models.hyperbolic_segmenter(3, classes=5, width=4)(torch.rand(1, 3, 18, 20)).shape
        torch.Size([1, 5, 18, 20])
    """
    _sizes(in_channels=in_channels, classes=classes, width=width, depth=depth, levels=levels)
    _step(h)
    for name, given in (("opening", opening), ("closing", closing)):
        check.choice(name, given, ("linear", "normalized"))
    kind: Factory = {"device": device, "dtype": dtype}
    stack = ReversibleStack(_levels(width, depth, levels, dims, rank, h, batch_norm, True, kind), h, exact)
    first: nn.Module
    if opening == "linear":
        first = CONV[dims](in_channels, width, 1, **kind)
    else:
        convolution = CONV[dims](in_channels, width, 3, padding=1, bias=False, **kind)
        first = nn.Sequential(convolution, NORM[dims](width, **kind), nn.ReLU())
    of_state: nn.Module
    if closing == "linear":
        of_state, of_velocity = CONV[dims](width, classes, 1, **kind), None
    else:
        last = [CONV[dims](width, classes, 3, padding=1, bias=bias, **kind) for bias in (True, False)]
        of_state, of_velocity = (nn.Sequential(NORM[dims](width, **kind), nn.ReLU(), one) for one in last)
    return HyperbolicNetwork(first, stack, of_state, 2**levels, dims, dense=True, of_velocity=of_velocity)


def video_segmenter(
    in_channels: int,
    classes: int,
    width: int = 4,
    depth: int = 2,
    levels: int = 2,
    rank: int = 8,
    *,
    h: float = 0.5,
    batch_norm: bool = False,
    exact: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HyperbolicNetwork:
    """Build a network for videos with symmetric block-low-rank layers: ``[B,in_channels,T,H,W] -> [B,classes,T,H,W]``.

    It is :func:`hyperbolic_segmenter` with ``dims=3`` and ``rank``. Source: Peters, Haber, Lensink, arXiv 1912.12137.

    Args:
        in_channels: channels of the video.
        classes: number of logits at each pixel.
        width: channels of the finest level.
        depth: layers of each level.
        levels: number of coarsenings.
        rank: rank of the block-low-rank layers.
        h: step of the telegraph equation.
        batch_norm: put batch norm into each layer.
        exact: rebuild states to the bit in backward.
        device: where the parameters live.
        dtype: their dtype.
    """
    _sizes(rank=rank)
    own: dict[str, Any] = {"h": h, "batch_norm": batch_norm, "exact": exact, "device": device, "dtype": dtype}
    return hyperbolic_segmenter(in_channels, classes, width, depth, levels, dims=3, rank=rank, **own)


def equivariant_hyperbolic_segmenter(
    in_channels: int,
    classes: int,
    width: int = 4,
    depth: int = 2,
    levels: int = 1,
    *,
    orientations: int = 8,
    layer: str = "pde",
    terms: Sequence[str] = ("convection", "dilation", "erosion"),
    kernel_size: int = 5,
    alpha: float = 0.65,
    metric: str = "diagonal",
    rank: int | None = None,
    h: float = 0.5,
    exact: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> HyperbolicNetwork:
    """Build a reversible segmenter on SE(2), equivariant to quarter turns: ``[B,Cin,H,W] -> [B,classes,H,W]``.

    A lift, a stack of PDE layers or symmetric group convolutions with cyclic space-to-depth down and up, the maximum
    over orientations, and mixing. Quarter turns are exact if H and W are multiples of ``2**levels``. Sources: Smets et
    al., arXiv 2001.09046; Lensink, Peters, Haber, arXiv 1905.10484.

    Args:
        in_channels: channels of the image.
        classes: number of logits at each pixel.
        width: channels at the finest level; four times as many at each coarser one.
        depth: layers of each level.
        levels: number of coarsenings.
        orientations: orientations of SE(2), a multiple of 4.
        layer: ``"pde"``: :class:`~pdegcnn.nn.PDELayer`; ``"symmetric"``: `SymmetricGroupConv`.
        terms: terms of the PDE layers.
        kernel_size: size of the layers in pixels, odd.
        alpha: power of the PDE layers.
        metric: form of the metrics of the PDE layers.
        rank: channels inside the symmetric layers; None: as many as outside.
        h: step of the telegraph equation.
        exact: rebuild states to the bit in backward.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of the PDE layers, by default those of the published networks.

    Raises:
        ValueError: for a size below 1, orientations that 4 does not divide, or a rank or option that the layer lacks.
    """
    _sizes(in_channels=in_channels, classes=classes, width=width, depth=depth, levels=levels)
    _step(h)
    if rank is not None:
        check.positive_int("rank", rank)
    _check_layer(layer, rank, [*options, *_changed(alpha=(alpha, 0.65), metric=(metric, "diagonal"))])
    kind: dict[str, Any] = {"device": device, "dtype": dtype}
    given = {"kernel_size": kernel_size, "alpha": alpha, "metric": metric, **options}
    split, space = CyclicSpaceToDepth(orientations), SE2(orientations)

    def one(channels: int) -> nn.Module:
        if layer == "pde":
            return PDELayer(space, channels, channels, terms, **as_published(space, terms, USUAL, given), **kind)
        norm = STABLE_START / h
        return SymmetricGroupConv(channels, orientations, kernel_size, rank, init_norm=norm, **kind)

    closing = nn.Sequential(Project(space, mode="max"), ChannelLinear(width, classes, **kind))
    opening = Lift(space, in_channels, width, kernel_size=5, **kind)
    layers = _down_and_up(one, split, width, depth, levels)
    return HyperbolicNetwork(opening, ReversibleStack(layers, h, exact), closing, 2**levels, 2, dense=True)


def _changed(**values: tuple[object, object]) -> list[str]:
    """Return the names of values, given as (value, default), that are not their defaults."""
    return [name for name, (value, usual) in values.items() if type(value) is not type(usual) or value != usual]


def _check_layer(layer: str, rank: int | None, options: list[str]) -> None:
    """Raise unless a kind of layer has a rank and the options that were given."""
    check.choice("layer", layer, ("pde", "symmetric"))
    if layer == "pde" and rank is not None:
        raise ValueError(f"rank: expected None with layer='pde', got {rank}")
    if layer == "symmetric" and options:
        raise ValueError(f"options: expected none with layer='symmetric', got {sorted(options)}")


def _down_and_up(
    one: Callable[[int], nn.Module], split: CyclicSpaceToDepth, width: int, depth: int, levels: int
) -> list[nn.Module]:
    """Return ``depth`` layers at every level on the way to the coarsest one and back, with the steps between levels."""
    down = [one(width) for _ in range(depth)]
    up: list[nn.Module] = []
    for level in range(1, levels + 1):
        down += [split, *(one(width * 4**level) for _ in range(depth))]
        up = [Inverse(split), *(one(width * 4 ** (level - 1)) for _ in range(depth)), *up]
    return [*down, *up]
