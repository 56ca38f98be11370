"""One call of a layer, with what is needed to repeat it on other inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pdegcnn.testing.motion import Motion, UnknownSignal, tensors


@dataclass
class Call:
    """A layer, its arguments and its output.

    Attributes:
        module: the layer, or a function.
        names: keywords of the last arguments.
        args: all arguments.
        output: what it gave.
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
        """The layer on other arguments; as the motion leaves it, if one is given."""
        moved = motion is not None and isinstance(self.module, nn.Module)
        layer = motion.module(self.module) if moved else self.module  # pyright: ignore[reportOptionalMemberAccess]
        split = len(args) - len(self.names)
        return layer(*args[:split], **dict(zip(self.names, args[split:])))

    def error(self, motion: Motion | None = None, args: tuple[Any, ...] | None = None) -> float:
        """Relative error of commuting with a motion (the call's by default); NaN where nobody knows what moves."""
        motion = motion or self.motion
        try:
            given = motion.move(self.args if args is None else args, motion.resolve)
            expected = list(tensors(motion.move(self.run(given))))
            moved = list(tensors(motion.move(self.run(motion.move(given), motion), motion.resolve)))
            weights = [motion.weight(e) for e in expected]
        except UnknownSignal:
            return float("nan")
        if any(a.shape != b.shape for a, b in zip(expected, moved)):
            return float("inf")
        square = sum(float(((a - b) * w).abs().double().square().sum()) for a, b, w in zip(expected, moved, weights))
        scale = sum(float((a * w).abs().double().square().sum()) for a, w in zip(expected, weights))
        if square == 0:
            return 0.0
        return (square / scale) ** 0.5 if scale > 0 else float("inf")
