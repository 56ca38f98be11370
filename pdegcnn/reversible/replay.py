"""State that a recomputation restores: random numbers, buffers, autocast."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from pdegcnn.reversible.contracts import GLOBAL_HOOKS, MODULE_HOOKS


class RandomState:
    """The state of the default generators: torch's of the CPU and of a CUDA device in use, Python's and NumPy's."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.python = device, random.getstate()
        self.numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 the generator that layers may draw from
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Set the generators back to this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)

    def same(self, other: RandomState) -> bool:
        """Return whether no random number was drawn between the two."""
        numpy = _same_numbers(self.numpy, other.numpy)
        if not (numpy and self.python == other.python and torch.equal(self.cpu, other.cpu)):
            return False
        return self.cuda is None or other.cuda is None or torch.equal(self.cuda, other.cuda)


def _same_numbers(a: Any, b: Any) -> bool:
    """Return whether two states of NumPy's generator are equal: dictionaries of numbers and arrays."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same_numbers(a[key], b[key]) for key in a)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


class Autocast:
    """The autocast setting of a forward pass, to be entered again in the backward pass.

    The cache of cast weights is left off: a cast made without autograd, found again with autograd, would cut the
    weights off from their gradient.
    """

    def __init__(self, device: torch.device) -> None:
        self.kinds = []
        for kind in dict.fromkeys(("cpu", device.type)):
            if kind in ("cpu", "cuda", "xpu", "mps"):
                self.kinds.append((kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)))

    @property
    def enabled(self) -> bool:
        """Whether autocast was on for any device type."""
        return any(on for _, _, on in self.kinds)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Enter the recorded setting."""
        with ExitStack() as stack:
            for kind, dtype, on in self.kinds:
                if on or torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=on, cache_enabled=False))
            yield


def _equal(a: Tensor, b: Tensor) -> bool:
    """Return whether two buffers are known to hold the same values (batch norm writes without raising the version)."""
    if a.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(a):  # pyright: ignore
        return False
    return torch.equal(a, b)


class Settings:
    """Modes (training or not) and hooks of all modules of ``layer``, to be entered again when it is run again."""

    def __init__(self, layer: nn.Module) -> None:
        self.holders: list[tuple[object, tuple[str, ...]]] = [(torch_module, GLOBAL_HOOKS)]
        self.holders += [(module, ("training", *MODULE_HOOKS)) for module in layer.modules()]
        self.then = [_kept(vars(holder).get(name)) for holder, names in self.holders for name in names]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Enter the settings; those of now come back afterwards."""
        places = [(holder, name) for holder, names in self.holders for name in names]
        now = [vars(holder).get(name) for holder, name in places]
        changed = [(*place, old, new) for place, old, new in zip(places, now, self.then) if old != new]
        for holder, name, _, then in changed:
            vars(holder)[name] = then
        try:
            yield
        finally:
            for holder, name, old, _ in changed:
                vars(holder)[name] = old


def _kept(value: Any) -> Any:
    """Return a setting that later changes of the module do not reach."""
    return value.copy() if isinstance(value, dict) else value


class LayerReplay:
    """The state of one layer before its forward pass: settings, old values of changed buffers, random numbers."""

    def __init__(self, layer: nn.Module) -> None:
        self.settings = Settings(layer)
        self.random: RandomState | None = None
        self.changed: dict[str, Tensor] = {}
        self.unchanged: dict[str, tuple[Tensor, int]] = {}
        self._before = {
            name: (buffer, buffer._version, buffer.detach().clone()) for name, buffer in layer.named_buffers()
        }

    def finish(self, layer: nn.Module) -> None:
        """Compare with the buffers after the run; keep copies only of those that changed."""
        for name, buffer in layer.named_buffers():
            if name not in self._before:
                continue
            old, version, copy = self._before[name]
            if buffer is old and buffer._version == version and _equal(buffer, copy):
                self.unchanged[name] = (buffer, version)
            else:
                self.changed[name] = copy
        self._before = {}

    @contextmanager
    def again(self) -> Iterator[None]:
        """Enter settings and generators as they were; the settings of now come back afterwards."""
        if self.random is not None:
            self.random.restore()
        with self.settings.again():
            yield

    def buffers(self) -> dict[str, Tensor]:
        """Return copies of the changed buffers' old values: a second run writes into the copies only.

        Raises RuntimeError when a buffer that the layer only read was written to since, as plain autograd does.
        """
        for name, (buffer, version) in self.unchanged.items():
            if buffer._version != version:
                raise RuntimeError(
                    f"buffer {name!r} was changed in place between the forward and the backward pass of a "
                    f"ReversibleStack (expected version {version}, got {buffer._version}); it cannot be run again"
                )
        return {name: old.clone() for name, old in self.changed.items()}
