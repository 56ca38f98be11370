"""Memory of a training step, measured by running it on the meta device."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pdegcnn import _checks as check
from pdegcnn.reversible.stack import ReversibleStack
from pdegcnn.reversible.workspace import convolution_peak

Loss = Callable[[Any], Tensor]


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one training step (forward, sum, backward) of a model, for each way of storing its activations.

    Attributes:
        parameters: bytes of parameters and buffers.
        gradients: bytes of the parameters' gradients.
        states: bytes of the largest pair of states (y, v) of its reversible stacks; 0 without one.
        temporaries: part of the reversible peak that is neither gradients nor states.
        plain: peak beyond the parameters if all activations are stored.
        checkpoint: peak with a checkpoint per layer.
        checkpoint_sqrt: peak with checkpoints every square root of the depth.
        reversible: peak if states are rebuilt.
    """

    parameters: int
    gradients: int
    states: int
    temporaries: int
    plain: int
    checkpoint: int
    checkpoint_sqrt: int
    reversible: int


class _Live(TorchDispatchMode):
    """Counts the bytes of all storages made inside that are still alive."""

    def __init__(self, workspace: bool, outside: Iterable[Tensor]) -> None:
        super().__init__()
        self.workspace = workspace
        self.live, self.peak = 0, 0
        self.known = {t.untyped_storage()._cdata: 0 for t in outside}

    def _gone(self, key: int) -> None:
        self.live -= self.known.pop(key, 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = self.live
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known[key] = storage.nbytes()
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._gone, key)
        self.peak = max(self.peak, self.live)
        if self.workspace and not kwargs:
            self.peak = max(self.peak, before + convolution_peak(func, args, out))
        return out


def _peak(
    model: nn.Module, shape: Sequence[int], dtype: torch.dtype, memory: str, workspace: bool, loss: Loss
) -> tuple[int, int]:
    """Return the peak bytes beyond the parameters, and the largest pair of states."""
    states = [0]

    def note(_module, _inputs, output) -> None:
        states[0] = max(states[0], sum(t.numel() * t.element_size() for t in output))

    for module in model.modules():
        if isinstance(module, ReversibleStack):
            module.memory = memory
            module.register_forward_hook(note)
    x = torch.empty(tuple(shape), device="meta", dtype=dtype)
    with _Live(workspace, [x, *model.parameters(), *model.buffers()]) as live:
        loss(model(x)).backward()
    return live.peak, states[0]


def _total(out: object) -> Tensor:
    return torch.stack([leaf.sum() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]).sum()


def memory_estimate(
    model: nn.Module, input_shape: Sequence[int], dtype: torch.dtype | None = None, loss: Loss | None = None
) -> MemoryEstimate:
    """Estimate the memory of one training step on an input of ``input_shape``, without allocating it.

    The step runs on the meta device and counts the bytes of all live tensors, for each way of storing activations
    (``memory`` of `ReversibleStack`). For a model on the CPU the workspace of convolutions is added (`workspace`).
    Workspaces of other operators and devices, losses of the allocator (some megabytes) and the state of the optimiser
    are not included. Compiled operators (the PDE terms) are counted as their portable versions, which need up to three
    times as much: an upper bound.

    Args:
        model: any model of one tensor; its stacks may be in any mode. It is not changed.
        input_shape: the input's shape, with the batch.
        dtype: the input's dtype; None: that of the first parameter.
        loss: function of the model's output, without its own data, to the scalar that is differentiated; None: the
            sum, which needs least: a mean of squares holds two more states.

    Raises:
        TypeError: if ``model`` is not a module, or ``input_shape`` not a sequence.
        ValueError: if a size of ``input_shape`` is not positive, or no parameter requires a gradient.

    Example:
        >>> import pdegcnn as pg
        >>> layers = [pg.reversible.SymmetricConv(16, init_norm=0.5) for _ in range(16)]
        >>> found = pg.reversible.memory_estimate(pg.reversible.ReversibleStack(layers), (1, 16, 64, 64))
        >>> found.reversible < 0.5 * found.plain
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(input_shape, Sequence):
        raise TypeError(f"input_shape: expected a sequence of ints, got {input_shape!r}")
    for size in input_shape:
        check.positive_int("input_shape", size)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model: expected a parameter that requires a gradient, there is none to train")
    first = next(iter(model.parameters()), None)
    dtype = dtype or (torch.get_default_dtype() if first is None else first.dtype)
    workspace = first is not None and first.device.type == "cpu"
    peaks, states = {}, 0
    for memory in ("plain", "checkpoint", "checkpoint_sqrt", "reversible"):
        twin = copy.deepcopy(model).to("meta")
        peaks[memory], states = _peak(twin, input_shape, dtype, memory, workspace, loss or _total)
    tensors = [*model.parameters(), *model.buffers()]
    parameters = sum(t.numel() * t.element_size() for t in tensors)
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    rest = max(0, peaks["reversible"] - gradients - states)
    return MemoryEstimate(parameters, gradients, states, rest, **peaks)
