"""How much memory a training step needs, found by running it on the meta device."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pdegcnn.reversible.stack import ReversibleStack


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one training step (forward, sum, backward) of a model, by way of storing its activations.

    Attributes:
        parameters: bytes of parameters and buffers.
        gradients: bytes of the parameters' gradients.
        states: bytes of the largest pair of states (y, v) of its reversible stacks; 0 without one.
        temporaries: what is left of the reversible peak beyond gradients and states.
        plain: peak beyond the parameters when all activations are stored.
        checkpoint: the same with a checkpoint per layer.
        checkpoint_sqrt: the same with checkpoints every square root of the depth.
        reversible: the same with states rebuilt.
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

    def __init__(self, workspace: bool) -> None:
        super().__init__()
        self.workspace = workspace
        self.live, self.peak = 0, 0
        self.known: dict[int, int] = {}

    def _gone(self, key: int) -> None:
        self.live -= self.known.pop(key, 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known[key] = storage.nbytes()
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self._gone, key)
        if self.workspace and "convolution" in func.__name__:
            copies = {id(t): t.numel() * t.element_size() for t in tree_leaves((args, out)) if isinstance(t, Tensor)}
            self.peak = max(self.peak, self.live + sum(copies.values()))
        return out


def _peak(model: nn.Module, shape: Sequence[int], dtype: torch.dtype, memory: str, workspace: bool) -> tuple[int, int]:
    """Peak bytes beyond the parameters, and the largest pair of states."""
    states = [0]

    def note(_module, _inputs, output) -> None:
        states[0] = max(states[0], sum(t.numel() * t.element_size() for t in output))

    for module in model.modules():
        if isinstance(module, ReversibleStack):
            module.memory = memory
            module.register_forward_hook(note)
    x = torch.empty(tuple(shape), device="meta", dtype=dtype)
    with _Live(workspace) as live:
        out = model(x)
        total = torch.stack([leaf.sum() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]).sum()
        del out
        total.backward()
    return live.peak, states[0]


def memory_estimate(model: nn.Module, input_shape: Sequence[int], dtype: torch.dtype | None = None) -> MemoryEstimate:
    """Estimate the memory of one training step on an input [*input_shape], without running it on real data.

    The step runs on the meta device and the bytes of all live tensors are counted, for the model as it would be with
    each way of storing activations (see ``memory`` of `ReversibleStack`). For a model on the CPU a convolution is taken
    to hold blocked copies of its operands and results while it runs, as oneDNN does; workspaces of other devices, the
    allocator's own losses and the optimiser's state are not seen.

    Args:
        model: any model of one tensor; its stacks may be in any mode. It is not changed.
        input_shape: the input's shape, with the batch.
        dtype: the input's dtype; that of the first parameter unless told.

    Raises:
        TypeError: ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    first = next(iter(model.parameters()), None)
    dtype = dtype or (torch.get_default_dtype() if first is None else first.dtype)
    workspace = first is not None and first.device.type == "cpu"
    peaks, states = {}, 0
    for memory in ("plain", "checkpoint", "checkpoint_sqrt", "reversible"):
        twin = copy.deepcopy(model).to("meta")
        peaks[memory], states = _peak(twin, input_shape, dtype, memory, workspace)
    tensors = [*model.parameters(), *model.buffers()]
    parameters = sum(t.numel() * t.element_size() for t in tensors)
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    rest = max(0, peaks["reversible"] - gradients - states)
    return MemoryEstimate(parameters, gradients, states, rest, **peaks)
