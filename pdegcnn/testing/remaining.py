"""The part of a model's error that arises after each of its layers, found by replacing outputs of layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from pdegcnn.testing.call import Call, relative
from pdegcnn.testing.motion import GaugeMotion, UnknownSignal, tensors


def remaining_error(whole: Call, part: Call, number: int) -> float:
    """Return the error of the model ``whole`` if call ``number`` of the layer of ``part`` gave its moved output.

    The layer and all before it would then be exact. NaN if the motion of the output is unknown.
    """
    motion = whole.motion
    if not isinstance(part.module, nn.Module) or not isinstance(part.output, Tensor) or isinstance(motion, GaugeMotion):
        return float("nan")
    try:
        expected = list(tensors(motion.move(whole.output)))
        with _answering(part.module, number, part.motion.move(part.output)):
            moved = list(tensors(motion.move(whole.run(motion.move(whole.args), motion), motion.resolve)))
        weights = [motion.weight(e) for e in expected]
    except UnknownSignal:
        return float("nan")
    return relative([(b * w, a * w) for a, b, w in zip(expected, moved, weights)])


@contextmanager
def _answering(module: nn.Module, number: int, output: Any) -> Iterator[None]:
    """Make one call of a module return ``output``."""
    seen = [0]

    def answer(_: nn.Module, __: Any, usual: Any) -> Any:
        seen[0] += 1
        return output if seen[0] == number else usual

    handle = module.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()
