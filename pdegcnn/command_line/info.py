"""``pdegcnn info``: versions, devices, backends, and what is missing for speed."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata

ABOUT = """versions, devices, backends, and what is missing for speed"""
EXTRAS = {
    "vessels": ("pillow", "safetensors"),
    "fields": ("xarray",),
    "volumes": ("nibabel",),
    "mesh": ("trimesh", "pyvista"),
    "wavelets": ("PyWavelets",),
    "healpix": ("healpy",),
    "hub": ("safetensors", "huggingface_hub"),
    "export": ("torch", "onnx", "onnxscript", "onnxruntime"),
}
"""Packages of each extra of the installation."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments."""


def run(chosen: argparse.Namespace) -> int:
    """Print it."""
    print("\n".join([*versions(), "", *devices(), "", *backends(), "", *missing()]))
    return 0


def version(package: str) -> str:
    """Return the version of an installed package, or an empty string."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def versions() -> list[str]:
    """Return a line for each package and extra."""
    lines = [
        f"pdegcnn {version('pdegcnn') or 'not installed'}, Python {platform.python_version()}, {platform.platform()}"
    ]
    needed = ("torch", "numpy", "scipy", "e3nn", "numba", "triton")
    lines.append(", ".join(f"{name} {version(name) or 'not installed'}" for name in needed))
    for extra, packages in EXTRAS.items():
        absent = [name for name in packages if not version(name)]
        found = ", ".join(f"{name} {version(name)}" for name in packages if name not in absent)
        wanted = f"{' and '.join(absent)} not installed: pip install 'pdegcnn[{extra}]'" if absent else ""
        lines.append(f"  [{extra}] {'; '.join(filter(None, (found, wanted)))}")
    return lines


def devices() -> list[str]:
    """Return a line for the processor and each GPU."""
    import torch

    lines = [f"processor: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"]
    if not torch.cuda.is_available():
        return [*lines, "GPU: torch sees no CUDA device"]
    for i in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(i)
        lines.append(f"GPU cuda:{i}: {found.name}, {found.total_memory / 2**30:.0f} GiB")
    return lines


def backends() -> list[str]:
    """Return what each operator runs on, per device; ``pdegcnn.backends()`` says why not on others."""
    import torch

    from pdegcnn.ops.backend import BACKENDS, available, operators

    here = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    lines = [f"{'operator':27}" + "".join(f"{device:10}" for device in here)]
    for operator in operators():
        first = [next(name for name in BACKENDS if name in available(operator, device)) for device in here]
        lines.append(f"{operator:27}" + "".join(f"{name:10}" for name in first))
    return [line.rstrip() for line in lines]


def missing() -> list[str]:
    """Return what would make this installation faster."""
    import torch

    from pdegcnn.ops.backend import refusal

    lines = []
    problem = refusal("morphological_convolution", "numba", "cpu")
    if problem:
        lines.append(f"- {problem}: on the processor the operators are 10 to 60 times slower: pip install numba")
    if torch.cuda.is_available():
        problem = refusal("morphological_convolution", "triton", "cuda")
        if problem:
            lines.append(f"- {problem}: on the GPU the operators are slower and take more memory: pip install triton")
    if os.environ.get("PDEGCNN_BACKEND"):
        lines.append(f"- PDEGCNN_BACKEND={os.environ['PDEGCNN_BACKEND']} forces one backend")
    if torch.get_num_threads() < (os.cpu_count() or 1):
        lines.append(f"- torch uses {torch.get_num_threads()} threads: OMP_NUM_THREADS changes it")
    return ["missing for speed:", *lines] if lines else ["missing for speed: nothing"]
