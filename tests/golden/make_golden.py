"""Distil the recorded outputs of the original implementation into the small file kept with the tests.

Usage: ``python tests/golden/make_golden.py --source PATH`` where PATH is a file of recorded cases, read by
``torch.load(PATH, weights_only=True)``: ``{"meta": ..., "cases": [{op, inputs, args, output, grad_out, grads, ...}]}``,
the gradients being those of ``<output, grad_out>``. Writes ``original.npz`` beside this script: every array once,
and an index (JSON text) that names the arrays of each case. No number is changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TARGET = Path(__file__).with_name("original.npz")
# Of each operator the smallest two cases that show its behaviour: case 1 of the convolutions has a kernel of one tap,
# case 3 turns its kernel by 45 degrees.
PICKED: dict[str, tuple[int, ...]] = {
    "m2_morphological_convolution": (0, 3),
    "m2_linear_convolution": (0, 3),
    "m2_convection": (0, 3),
    "m2_fractional_dilation": (0, 1),
    "m2_fractional_erosion": (0, 1),
    "m2_fractional_dilation_nondiag": (0, 1),
    "m2_fractional_erosion_nondiag": (0, 1),
    "m2_logarithmic_metric_estimate": (0, 3),
    "m2_logarithmic_metric_estimate_nondiag": (0, 3),
    "m2_morphological_kernel": (0, 3),
    "m2_morphological_kernel_nondiag": (0, 3),
    "m2_diffusion_kernel": (0, 3),
    "m2_diffusion_kernel_nondiag": (0, 3),
    "m2_anisotropic_dilated_project": (0, 1),
    "r2_morphological_convolution": (0, 2),
    "r2_morphological_kernel": (0, 3),
    "r2_fractional_dilation": (0, 1),
    "r2_fractional_erosion": (0, 1),
    "r2_convection": (0, 1),
    "max_project_m2": (0, 4),
    "lift_m2_cartesian": (1, 3),
    "bspline_sample": (0, 2),
}


class Store:
    """The arrays written so far, each kept once."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, value: Tensor) -> str:
        """Keep ``value`` and return the name it is stored under."""
        array = np.ascontiguousarray(value.detach().numpy())
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:12]
        self.arrays[digest] = array
        return digest


def distil(cases: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Store]:
    """The index of the picked cases and the store of their arrays."""
    store, index = Store(), []
    for op, numbers in PICKED.items():
        of_op = [case for case in cases if case["op"] == op]
        for number in numbers:
            case = of_op[number]
            entry: dict[str, Any] = {"op": op, "number": number, "args": case["args"]}
            for part in ("inputs", "grads"):
                entry[part] = {name: store.add(value) for name, value in case[part].items() if value is not None}
            entry["output"], entry["grad_out"] = store.add(case["output"]), store.add(case["grad_out"])
            index.append(entry)
    return index, store


def main() -> None:
    """Read the recorded cases and write the small file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="file of recorded cases")
    parser.add_argument("--target", type=Path, default=TARGET, help="file to write")
    options = parser.parse_args()
    recorded = torch.load(options.source, weights_only=True)
    index, store = distil(recorded["cases"])
    text = json.dumps({"meta": recorded["meta"], "cases": index})
    arrays: dict[str, Any] = {"index": np.array(text), **store.arrays}
    np.savez_compressed(options.target, **arrays)
    print(f"{len(index)} cases, {len(store.arrays)} arrays, {options.target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
