"""Volumes in NIfTI files, with the size of their voxels and their position in the scanner."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._files import write_file
from pdegcnn._typing import from_numpy
from pdegcnn.spaces import R3

__all__ = ["Volume", "read_volume", "write_volume"]

SUFFIXES = (".nii", ".nii.gz")
LARGER = {"u2": "i4", "u4": "i8", "f16": "f8"}
"""Types of numbers that torch computes little with, and those that it has instead."""
UNITS = ("mm", "micron", "meter", "unknown")
"""Of lengths, as NIfTI names them."""
LONGEST = 32767
"""Sizes of axes are 16-bit numbers in the header of a NIfTI file."""


class Volume(NamedTuple):
    """The content of a NIfTI file.

    Attributes:
        values: ``[C,D,H,W]``: the axes of the file in reverse order, so its first axis is W.
        spacing: size of a voxel along (slices, rows, columns), in the units of the file, mostly millimetres.
        affine: ``[4,4]``, float64: from (column, row, slice, 1) to (x, y, z, 1) in the scanner.
        units: of lengths in the file: ``"mm"``, ``"micron"``, ``"meter"`` or, where it does not say, ``"unknown"``.
    """

    values: Tensor
    spacing: tuple[float, float, float]
    affine: Tensor
    units: str = "mm"

    @property
    def space(self) -> R3:
        """The space of the volume, with its spacing."""
        return R3(self.spacing)


def read_volume(path: str | Path) -> Volume:
    """Read a NIfTI file. Needs ``nibabel``.

    Integers, such as labels, stay integers; numbers with a scale factor in the file become floats.

    Args:
        path: a file ``.nii`` or ``.nii.gz`` with three axes, or four, of which the last holds channels or times.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for another suffix, or if the file is damaged, of another kind, or has other axes.
        ImportError: if ``nibabel`` is not installed.
    """
    path = _named(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a NIfTI file, got {str(path)!r}, which does not exist")
    nibabel, data = _nibabel(), path.read_bytes()
    try:
        # of the whole file: readers that stop after the last voxel do not see the checksum
        data = gzip.decompress(data) if path.name.lower().endswith(".gz") else data
        image = _image_of(nibabel, data)
        numbers, affine = np.asanyarray(image.dataobj), np.array(image.affine, dtype=np.float64)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"path: expected a NIfTI file, got {str(path)!r}, which is damaged ({reason})") from error
    if numbers.dtype.kind not in "iufb":
        raise ValueError(f"path: expected a file of real numbers, got {str(path)!r} of type {numbers.dtype}")
    while numbers.ndim > 3 and numbers.shape[-1] == 1:
        numbers = numbers[..., 0]
    if numbers.ndim not in (3, 4):
        raise ValueError(f"path: expected a file with three or four axes, got {str(path)!r} of shape {numbers.shape}")
    kind = LARGER.get(numbers.dtype.str[1:], numbers.dtype.newbyteorder("="))
    values = from_numpy(np.ascontiguousarray(numbers.T.astype(kind)))
    values = values if values.ndim == 4 else values[None]
    spacing = _spacing_of(f"path: {str(path)!r}", affine)
    return Volume(values, spacing, from_numpy(affine), _units_of(image.header))


def write_volume(
    path: str | Path,
    values: Tensor,
    *,
    affine: Tensor | None = None,
    spacing: float | tuple[float, float, float] | None = None,
    units: str = "mm",
) -> Path:
    """Write a volume to a NIfTI file. Needs ``nibabel``.

    :func:`read_volume` returns the same numbers, affine, spacing and units, up to float32, the precision of affines in
    such files. An interrupted call leaves no partial file.

    Args:
        path: the file, ``.nii`` or ``.nii.gz``, in an existing folder.
        values: ``[D,H,W]`` or ``[C,D,H,W]``, real, of at most 32767 entries along each axis; integers stay integers,
            bool becomes uint8, half precision float32.
        affine: ``[4,4]``, as :func:`read_volume` returns it.
        spacing: size of a voxel, if there is no affine: along (slices, rows, columns), or one number; None: 1.
        units: of the lengths in affine or spacing: ``"mm"``, ``"micron"``, ``"meter"`` or ``"unknown"``.

    Returns:
        The path.

    Raises:
        ValueError: for another suffix, shape or unit, an invalid affine or spacing, or if both are given.
        TypeError: if ``values`` or ``affine`` is not a tensor.
        FileNotFoundError: if the folder does not exist.
        ImportError: if ``nibabel`` is not installed.
    """
    path = _named(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that exists, got {str(path)!r}")
    numbers = _array_of(values)
    units = _checks.choice("units", units, UNITS)
    if affine is not None and spacing is not None:
        raise ValueError(f"spacing: expected None together with an affine, which holds it, got {spacing!r}")
    if affine is None:
        matrix = np.diag([*R3(1.0 if spacing is None else spacing).grid_steps[::-1], 1.0])
    else:
        _checks.kind("affine", affine, Tensor, "a tensor [4,4]")
        matrix = _checks.real_numbers("affine", affine, torch.float64).numpy()
        _spacing_of("affine", matrix)
    nibabel = _nibabel()
    image = nibabel.Nifti1Image(numbers.T, matrix, dtype=numbers.dtype)
    image.header.set_xyzt_units(units)
    data = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    write_file(path, lambda fresh: fresh.write_bytes(data))
    return path


def _named(value: Any) -> Path:
    """Return a path whose name is that of a NIfTI file."""
    path = _checks.path(value)
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(f"path: expected a name that ends with {' or '.join(SUFFIXES)}, got {str(path)!r}")
    return path


def _array_of(values: object) -> np.ndarray[Any, Any]:
    """Return the numbers of a volume [D,H,W] or [C,D,H,W], in a type that NIfTI has."""
    tensor = _checks.kind("values", values, Tensor, "a tensor [D,H,W] or [C,D,H,W]").detach()
    if tensor.is_meta or tensor.layout is not torch.strided:
        raise TypeError(f"values: expected a dense tensor with values, got {tensor.layout} on {tensor.device}")
    tensor = tensor.cpu()
    if tensor.ndim not in (3, 4) or 0 in tensor.shape or tensor.is_complex():
        raise ValueError(
            f"values: expected real numbers [D,H,W] or [C,D,H,W], got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )
    if max(tensor.shape) > LONGEST:
        raise ValueError(f"values: expected axes of at most {LONGEST} entries, got shape {tuple(tensor.shape)}")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return (tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor).resolve_neg().numpy()


def _units_of(header: Any) -> str:
    """Return the unit of lengths of a file."""
    try:
        found = header.get_xyzt_units()[0]
    except KeyError:  # numbers that stand for no unit
        return "unknown"
    return found if found in UNITS else "unknown"


def _image_of(nibabel: Any, data: bytes) -> Any:
    """Return the image that the content of a file holds, after a check that its voxels are there."""
    two = nibabel.Nifti2Image.header_class.may_contain_header(data)
    image = (nibabel.Nifti2Image if two else nibabel.Nifti1Image).from_bytes(data)
    wanted = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    if wanted > len(data):
        raise ValueError(f"expected {wanted} bytes, got {len(data)}")
    return image


def _spacing_of(name: str, affine: Sequence[Any] | np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Return the size of a voxel along slices, rows and columns: lengths of the columns of an affine ``[4,4]``."""
    matrix = np.asarray(affine)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise ValueError(f"{name}: expected an affine [4,4] of finite numbers with the last row (0, 0, 0, 1)")
    column, row, depth = np.linalg.norm(matrix[:3, :3], axis=0).tolist()
    if not abs(np.linalg.det(matrix[:3, :3])) > 1e-6 * column * row * depth or not math.isfinite(column * row * depth):
        raise ValueError(f"{name}: expected an affine with an inverse, got {matrix.tolist()}")
    return depth, row, column


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(f"NIfTI files need nibabel: pip install 'pdegcnn[volumes]' ({error})") from error
    return nibabel
