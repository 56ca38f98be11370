"""Tables that follow from a module's arguments: computed in float64, and rebuilt if a copy is not enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Table = tuple[str, tuple[int, ...] | None, Callable[[], "Tensor | NDArray[Any]"]]
"""Name and shape of a buffer, and what makes it; without a shape it is made on the meta device too. The first one of a
module holds floating-point numbers."""


class Derived(nn.Module):
    """A module whose tables, non-persistent buffers, follow from its arguments and need no loading.

    They are rebuilt when their dtype changes (``.half().double()`` rounds them once), when the module leaves the
    meta device, when ``to_empty`` would leave them unfilled, and when ``load_state_dict(assign=True)`` puts parameters
    of another device or dtype in. Otherwise they are moved like every buffer. The tables of the modules inside follow
    the parameters loaded around them.

    A subclass lists its tables in `_tables` and calls `_build` once.
    """

    def _tables(self) -> Sequence[Table]:
        """Return the buffers and what makes them."""
        return ()

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype of the tables in a module of this dtype."""
        return dtype

    def _build(self, like: Tensor) -> None:
        """Make the tables for the device and the dtype of ``like``."""
        dtype = self._kept_in(like.dtype)
        for name, shape, make in self._tables():
            if like.is_meta and shape is not None:
                value = torch.empty(shape, dtype=dtype, device="meta")
            else:
                value = lasting(_made, make, like.device, dtype)
            self.register_buffer(name, value, persistent=False)

    def _first(self) -> Tensor | None:
        """Return one of the tables, if there are any."""
        for name, value in self._buffers.items():
            if value is not None and name in self._non_persistent_buffers_set:
                return value
        return None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Derived:
        old = self._first()
        held = {n: b for n, b in self._buffers.items() if n in self._non_persistent_buffers_set and b is not None}
        self._buffers.update(dict.fromkeys(held))
        try:
            super()._apply(fn, recurse)
        finally:
            self._buffers.update(held)
        if old is None:
            return self
        probe = _probe(old)
        new = fn(probe)
        if new.dtype != probe.dtype or not _same_bytes(probe, new):
            self._build(new)
        for name, value in held.items():
            if self._buffers[name] is value:  # tables that were not rebuilt
                self._buffers[name] = fn(value.flatten()).view(value.shape)  # tables keep their memory format
        return self

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not local_metadata.get("assign_to_params_buffers", False):
            return
        loaded = [v for k, v in state_dict.items() if k.startswith(prefix) and isinstance(v, Tensor)]
        like = next((v for v in loaded if v.is_floating_point()), None)
        for module in self.modules():
            if isinstance(module, Derived):
                module._follow(like)

    def _follow(self, like: Tensor | None) -> None:
        """Move to the device of ``like``; without it, from the meta device to the default one."""
        old = self._first()
        if old is None or (like is None and not old.is_meta):
            return
        like = torch.empty(0, dtype=old.dtype) if like is None else like
        if old.device != like.device or old.dtype != self._kept_in(like.dtype):
            self._build(like)


def lasting(build: Callable[..., Any], *args: Any) -> Any:
    """Return what ``build(*args)`` gives, fit for training even if inference mode needs it first and keeps it."""
    if not torch.is_inference_mode_enabled():
        return build(*args)
    with torch.inference_mode(False), torch.no_grad():
        return build(*args)


def _made(make: Callable[[], Tensor | NDArray[Any]], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the table, made on the CPU."""
    with torch.device("cpu"):
        value = make()
    value = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    return value.to(device=device, dtype=dtype if value.is_floating_point() else None)  # indices keep their dtype


def _probe(like: Tensor) -> Tensor:
    """Return a few numbers of the dtype and on the device of ``like`` that no memory holds by chance."""
    if like.is_meta:
        return torch.empty(0, dtype=like.dtype, device=like.device)
    return torch.frombuffer(bytearray(os.urandom(64)), dtype=like.dtype).to(like.device)


def _same_bytes(old: Tensor, new: Tensor) -> bool:
    """Return whether ``new`` is known to hold the same values as ``old``."""
    if new is old or new.is_meta or type(new) is not Tensor:
        return True
    return not old.is_meta and torch.equal(old.view(torch.uint8).cpu(), new.view(torch.uint8).cpu())
