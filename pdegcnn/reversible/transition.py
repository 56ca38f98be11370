"""Invertible maps between the levels of a reversible network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdegcnn.reversible.contracts import describes_forward

GROUP = 1 << 17
"""Numbers of a group of channels: half a megabyte in float32."""


class Transition(nn.Module):
    """An invertible map that a `ReversibleStack` applies to both of its states, y and v.

    Subclasses define ``forward`` and ``inverse``; both must be linear in their argument and differentiable. Source:
    Lensink, Peters, Haber, *Fully Hyperbolic Convolutional Neural Networks*, arXiv 1905.10484, section 3.

    Attributes:
        bit_exact: ``inverse_on_grid(on_grid(x))`` equals ``x`` bit for bit, which ``exact=True`` needs.
        headroom: factor by which numbers inside ``on_grid`` may exceed the largest entry of ``x``.
        bands: number n if ``forward`` maps every channel separately to n channels, in the order [n,C]; the map is then
            applied to a few channels at a time, in place.
        orthogonal: the inverse is the transpose, which the backward pass then uses.
    """

    bit_exact: bool = False
    headroom: float = 1.0
    bands: int | None = None
    orthogonal: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Map a state to the next level.

        Args:
            x: ``[B,C,*space]``.
        """
        raise NotImplementedError

    def inverse(self, x: Tensor) -> Tensor:
        """Map a state of the next level back.

        Args:
            x: what `forward` returned.
        """
        raise NotImplementedError

    def on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Map a state whose entries are multiples of ``grid`` to such a state, bit-exactly invertibly.

        Args:
            x: ``[B,C,*space]``, entries multiples of ``grid``.
            grid: a power of two.
        """
        return self.forward(x)

    def inverse_on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Undo `on_grid` bit for bit.

        Args:
            x: what `on_grid` returned.
            grid: the same power of two.
        """
        return self.inverse(x)


def apply_to_channels(module: Transition, x: Tensor, grid: float | None, inverse: bool, own: bool) -> Tensor:
    """Apply a transition of known ``bands`` or its inverse, a few channels at a time; over ``x`` if ``own``."""
    if isinstance(module, Inverse):
        module, inverse = module.transition, not inverse
    own = own and x.is_contiguous()
    return (_merge if inverse else _split)(module, x, grid, own)


def _groups(x: Tensor, channels: int) -> list[tuple[int, int]]:
    """Return the first and last channel of groups that the processor's cache holds."""
    size = max(1, GROUP * channels // max(1, x.numel()))
    return [(first, min(first + size, channels)) for first in range(0, channels, size)]


def _order(groups: list[tuple[int, int]], bands: int) -> list[int]:
    """Return where in the order (group, band, channel of the group) the blocks of the order (band, channel) are."""
    return [bands * a + band * (b - a) + c for band in range(bands) for a, b in groups for c in range(b - a)]


def _reorder(blocks: Tensor, order: list[int]) -> None:
    """Apply ``blocks[:, i] <- blocks[:, order[i]]`` on [B,blocks,size], a slab of the blocks at a time."""
    places = torch.tensor(order, device=blocks.device)
    slab = max(1, GROUP // max(1, blocks.shape[0] * blocks.shape[1]))
    for part in blocks.split(slab, 2):
        part.copy_(part.index_select(1, places))


def _split(module: Transition, x: Tensor, grid: float | None, own: bool) -> Tensor:
    n, channels = module.bands or 1, x.shape[1]
    groups = _groups(x, channels)
    flat, out = x.flatten(1), x
    step = x[0, :1].numel() if len(x) else 0
    for a, b in groups:
        part = module.forward(x[:, a:b]) if grid is None else module.on_grid(x[:, a:b], grid)
        if own:
            flat[:, a * step : b * step] = part.flatten(1)
            shape = part.shape[2:]
            continue
        out = x.new_empty(len(x), n * channels, *part.shape[2:]) if out is x else out
        out.unflatten(1, (n, channels))[:, :, a:b] = part.unflatten(1, (n, b - a))
    if own:
        out = x.view(len(x), n * channels, *shape)
        _reorder(out.flatten(2), _order(groups, n))
    return out


def _merge(module: Transition, x: Tensor, grid: float | None, own: bool) -> Tensor:
    n = module.bands or 1
    channels = x.shape[1] // n
    groups = _groups(x, channels)
    bands, flat, out = x.unflatten(1, (n, channels)), x.flatten(1), x
    step = x[0, :n].numel() if len(x) else 0
    if own:
        order = _order(groups, n)
        _reorder(x.flatten(2), sorted(range(len(order)), key=order.__getitem__))
    for a, b in groups:
        if own:
            part = flat[:, a * step : b * step].unflatten(1, (n * (b - a), *x.shape[2:]))
        else:
            part = bands[:, :, a:b].flatten(1, 2)
        part = module.inverse(part) if grid is None else module.inverse_on_grid(part, grid)
        if own:
            flat[:, a * step : b * step] = part.flatten(1)
            shape = part.shape[2:]
            continue
        out = x.new_empty(len(x), channels, *part.shape[2:]) if out is x else out
        out[:, a:b] = part
    return x.view(len(x), channels, *shape) if own else out


class Inverse(Transition):
    """The inverse of a transition: refinement is ``Inverse(coarsening)``, with the same parameters.

    Args:
        transition: the `Transition` to invert. It is a submodule: parameters are shared, not copied.
    """

    def __init__(self, transition: Transition) -> None:
        super().__init__()
        if not isinstance(transition, Transition):
            raise TypeError(f"transition: expected a Transition, got {type(transition).__name__}")
        self.transition = transition
        self.bit_exact, self.headroom = transition.bit_exact, transition.headroom

    @property
    def bands(self) -> int | None:  # pyright: ignore
        """The number of bands of the transition that this one inverts."""
        return self.transition.bands if describes_forward(self.transition, "bands") else None

    @property
    def orthogonal(self) -> bool:  # pyright: ignore
        """Whether the transition is orthogonal, and so its inverse."""
        return self.transition.orthogonal and describes_forward(self.transition, "orthogonal")

    def forward(self, x: Tensor) -> Tensor:
        """Map a coarse state to the fine level.

        Args:
            x: a state as ``transition.forward`` returns.
        """
        return self.transition.inverse(x)

    def inverse(self, x: Tensor) -> Tensor:
        """Map a fine state back to the coarse level.

        Args:
            x: a state as ``transition.forward`` takes.
        """
        return self.transition.forward(x)  # not a call: hooks belong to the forward direction

    def on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Refine bit-exactly on the grid.

        Args:
            x: a coarse state whose entries are multiples of ``grid``.
            grid: a power of two.
        """
        return self.transition.inverse_on_grid(x, grid)

    def inverse_on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Undo `on_grid` bit for bit.

        Args:
            x: what `on_grid` returned.
            grid: the same power of two.
        """
        return self.transition.on_grid(x, grid)


def round_to(x: Tensor, grid: float, scale: float = 1.0) -> Tensor:
    """Round ``scale x`` to the nearest multiple of ``grid``; the derivative is ``scale`` (rounding has one)."""
    return _Round.apply(x, grid, scale)  # pyright: ignore


class _Round(torch.autograd.Function):
    """Rounding to a grid, a power of two, with derivative one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, grid: float, scale: float) -> Tensor:  # pyright: ignore
        return x.mul(scale / grid).round_().mul_(grid)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.scale = inputs[2]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        return (grad if ctx.scale == 1.0 else grad * ctx.scale), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_rest: None) -> Tensor:  # pyright: ignore
        return tangent * ctx.scale
