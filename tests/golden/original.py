"""The recorded cases of the original implementation, and the translation of its conventions into ours.

The original keeps one unturned kernel [C,KO,KH,KW] and turns it by nearest-neighbour rounding; ours takes kernels
already turned, [C,Or,KO,KH,KW].
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).with_name("original.npz")
PI = float(np.float32(math.pi))  # pi in the original's kernel coordinates; its turns use pi in double precision


@dataclass(frozen=True)
class Case:
    """One recorded call: ``grads`` are the gradients of ``<output, grad_out>`` in the inputs."""

    op: str
    number: int
    args: dict[str, Any]
    inputs: dict[str, Tensor]
    output: Tensor
    grad_out: Tensor
    grads: dict[str, Tensor]

    def leaves(self) -> dict[str, Tensor]:
        """Copies of the inputs that ask for gradients."""
        return {name: value.clone().requires_grad_() for name, value in self.inputs.items()}


@cache
def _load() -> list[Case]:
    with np.load(FILE) as file:
        index = json.loads(str(file["index"]))

        def get(name: str) -> Tensor:
            return torch.from_numpy(file[name])

        return [
            Case(
                entry["op"],
                entry["number"],
                entry["args"],
                {name: get(value) for name, value in entry["inputs"].items()},
                get(entry["output"]),
                get(entry["grad_out"]),
                {name: get(value) for name, value in entry["grads"].items()},
            )
            for entry in index["cases"]
        ]


def cases(op: str) -> list[Case]:
    """The recorded cases of one operator."""
    found = [case for case in _load() if case.op == op]
    assert found, f"no recorded case of {op}"
    return found


def turned_kernel(kernel: Tensor, orientations: int, absent: float) -> Tensor:
    """Kernel [C,KO,KH,KW] of the original as a turned kernel [C,Or,KO,KH,KW], differentiable.

    The tap at (dy, dx) of orientation t is the kernel at ``round(R(-2 pi t / Or) (dx, dy))``, angles from +x to +y.
    Taps are taken from the unturned box KH x KW only, and those that fall outside the kernel are ``absent``: +inf for
    min-plus, 0 for linear. Therefore a 5x5 kernel has 21 taps at 45 degrees, and a 3x5 kernel 9 at 90 degrees.
    """
    height, width = kernel.shape[-2:]
    out = kernel.new_full((kernel.shape[0], orientations, *kernel.shape[1:]), absent)
    for t, i, j in product(range(orientations), range(height), range(width)):
        angle = 2 * math.pi * t / orientations
        dy, dx = i - height // 2, j - width // 2
        x = round(math.cos(angle) * dx + math.sin(angle) * dy) + width // 2
        y = round(math.cos(angle) * dy - math.sin(angle) * dx) + height // 2
        if 0 <= y < height and 0 <= x < width:
            out[:, t, :, i, j] = kernel[:, :, y, x]
    return out


def convection_shift(g0: Tensor, orientations: int) -> Tensor:
    """Vector g0 [C,3] = (orientation steps, y, x) of the original as shifts [C,Or,3], differentiable.

    ``out(t, y, x) = in(t - t0, (x, y) - R(2 pi (t - t0) / Or) (x0, y0))``.
    """
    t0, y0, x0 = (part[:, None] for part in g0.unbind(1))
    angle = (torch.arange(orientations, dtype=g0.dtype) - t0) * (2 * math.pi / orientations)
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack([(-t0).expand_as(angle), -(s * x0 + c * y0), -(c * x0 - s * y0)], dim=-1)
