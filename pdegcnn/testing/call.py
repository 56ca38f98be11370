"""One call of a layer, with what is needed to repeat it on other inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn.testing.between_pixels import TurnedInput, outputs_between_pixels
from pdegcnn.testing.motion import GridMotion, Motion, UnknownSignal, tensors


@dataclass
class Call:
    """A layer, its arguments and its output.

    Attributes:
        module: the layer, or a function.
        names: keywords of the last arguments.
        args: all arguments.
        output: its result.
        motion: what it should commute with.
    """

    module: Any
    names: tuple[str, ...]
    args: tuple[Any, ...]
    output: Any
    motion: Motion

    @property
    def x(self) -> Tensor | None:
        """The first argument, if it is a real tensor."""
        first = self.args[0] if self.args else None
        return first if isinstance(first, Tensor) and first.is_floating_point() else None

    @property
    def grid_axes(self) -> int:
        """Number of last axes over which points lie."""
        return self.motion.spaces[0].base_ndim

    def run(self, args: tuple[Any, ...], motion: Motion | None = None) -> Any:
        """Run the layer on other arguments; as the motion leaves it, if one is given."""
        moved = motion is not None and isinstance(self.module, nn.Module)
        layer = motion.module(self.module) if moved else self.module  # pyright: ignore[reportOptionalMemberAccess]
        args, split = copied(args), len(args) - len(self.names)
        return layer(*args[:split], **dict(zip(self.names, args[split:])))

    def _between_pixels(self, motion: Motion, args: tuple[Any, ...]) -> list[tuple[Tensor, Tensor]] | None:
        """Return output and expected output for one image or lifted signal turned between the pixels; else None."""
        image = len(args) == 1 and isinstance(args[0], Tensor) and args[0].ndim >= 4 and isinstance(self.output, Tensor)
        if not image or not isinstance(motion, GridMotion) or motion.folded or "angle" not in motion.options:
            return None
        signal = TurnedInput(args[0], (args[0].shape[-2], args[0].shape[-1]), motion.turn)
        return None if signal.on_pixels else [outputs_between_pixels(lambda x: self.run((x,)), signal)]

    def _pairs(self, motion: Motion, args: tuple[Any, ...]) -> list[tuple[Tensor, Tensor]]:
        """Return what comes out for moved arguments, and the moved output, times the weights of the comparison."""
        if (between := self._between_pixels(motion, args)) is not None:
            return between
        given = motion.move(args, motion.resolve)
        expected = list(tensors(motion.move(self.run(given))))
        moved = list(tensors(motion.move(self.run(motion.move(given), motion), motion.resolve)))
        weights = [motion.weight(e) for e in expected]
        if any(a.shape != b.shape for a, b in zip(expected, moved)):
            return [(torch.ones(()), torch.zeros(()))]
        return [(b * w, a * w) for a, b, w in zip(expected, moved, weights)]

    def error(self, motion: Motion | None = None, args: tuple[Any, ...] | None = None) -> float:
        """Return the relative error of commuting with a motion (by default the call's); NaN if it is unknown."""
        try:
            pairs = self._pairs(motion or self.motion, self.args if args is None else args)
        except UnknownSignal:
            return float("nan")
        return relative(pairs)


def copied(value: Any) -> Any:
    """Return the same structure with copies of its tensors, because layers may work in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(copied(v) for v in value)
    return value


def relative(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Return the norm of the difference between found and expected tensors, relative to the expected ones."""
    square = sum(float((a - b).abs().double().square().sum()) for a, b in pairs)
    scale = sum(float(b.abs().double().square().sum()) for _, b in pairs)
    if square == 0:
        return 0.0
    return (square / scale) ** 0.5 if scale > 0 else float("inf")
