"""Operators of a mesh as tensors, in its gauge and unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from pdegcnn import _fft, _transforms
from pdegcnn._derived import lasting
from pdegcnn._typing import fft

Owner = TypeVar("Owner")
Made = TypeVar("Made")
Options = ParamSpec("Options")


class OperatorCache:
    """Results of builder functions on one object, by builder, arguments, device and precision."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], Any] = {}

    def get(
        self,
        build: Callable[Concatenate[Owner, Tensor, Options], Made],
        owner: Owner,
        like: Tensor,
        *args: Options.args,
        **options: Options.kwargs,
    ) -> Made:
        """Return ``build(owner, like, *args, **options)``, made at the first call.

        The builder gets an empty tensor on the device of ``like``, in float64 or (for half precision too) float32.
        """
        dtype = torch.float64 if like.dtype in (torch.float64, torch.complex128) else torch.float32
        key = (build, args, tuple(options.items()), like.device, dtype)
        if key not in self._found:
            with _transforms.constants():
                empty = torch.empty(0, dtype=dtype, device=like.device)
                self._found[key] = lasting(build, owner, empty, *args, **options)
        return self._found[key]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the results."""
        return iter(self._found.values())


class Neighbours(NamedTuple):
    """Pairs (v, w) of near vertices as tensors, in a mesh's gauge and unit; see :class:`pdegcnn.surface.Pairs`."""

    start: Tensor
    centre: Tensor
    source: Tensor
    offset: Tensor
    transport: Tensor
    reverse_index: Tensor


class SparseRows(NamedTuple):
    """A sparse matrix by rows: ``start [V+1]``, ``columns [E]``, ``values [E]``."""

    start: Tensor
    columns: Tensor
    values: Tensor


class Eigenmodes(NamedTuple):
    """Eigenfunctions of one component: its ``vertices [n]``, ``values [K]``, ascending, ``functions [n,K]``."""

    vertices: Tensor
    values: Tensor
    functions: Tensor


class Interpolation(NamedTuple):
    """Fine vertices v between coarse ones c: pairs sorted by v, weights that add up to one at each v, and the transport
    from the frame of c to that of v in a mesh's gauge; all ``[E]``.
    """

    fine: Tensor
    coarse: Tensor
    weight: Tensor
    transport: Tensor


def turn_fibre(u: Tensor, angles: Tensor) -> Tensor:
    """Turn the directions of ``u [B,C,Or,V]`` by ``angles [V]`` radians: out(theta) = u(theta - angle).

    Exact at vertices that turn by multiples of ``2 pi / N``, else by Fourier interpolation.
    """
    count = u.shape[2]
    steps = angles.double() * (count / (2 * math.pi))
    whole = steps.round()
    exact = (steps - whole).abs() < 1e-9
    all_exact, exact, whole = bool(exact.all()), exact.to(u.device), whole.to(u.device)
    source = (torch.arange(count, device=u.device)[:, None] - whole.long()) % count
    moved = u.gather(2, source.expand_as(u))
    if all_exact:
        return moved
    spectrum = _fft.apply(fft.rfft, u, dim=2)
    n = torch.arange(spectrum.shape[2], device=u.device, dtype=u.dtype)
    phase = torch.exp(-1j * n[:, None] * angles.to(u.device, u.dtype))
    if count % 2 == 0:
        phase = torch.cat((phase[:-1], phase[-1:].real.to(phase.dtype)))
    return torch.where(exact, moved, _fft.apply(fft.irfft, spectrum * phase, n=count, dim=2))
