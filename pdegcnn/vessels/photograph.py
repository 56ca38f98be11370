"""Preparation of photographs of the retina for the networks, and back: field of view, scale, contrast."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._images import read_picture
from pdegcnn.vessels.field import find_field

DIAMETER = 540.0
"""Pixels across the field of view to which photographs are resized: that of the photographs in training."""
ANGLE = 45.0
"""Degrees that their field of view spans."""
LEAST = 0.25
"""Share of the lit pixels across that a field of view has at least: a lower one would ask for a giant picture."""
BORDER = 12
"""Pixels around the field of view that the network sees."""
RIM = 8
"""Pixels along the border of the field of view where light may fall off: such pixels are not used."""


class Prepared(NamedTuple):
    """A photograph prepared for networks.

    Attributes:
        pixels: ``[3,h,w]``, evenly lit, square, centred on the field of view.
        field: the field of view, ``[h,w]``.
        box: the part of the photograph that it shows (top, left, bottom, right), which may reach beyond it.
        diameter: of the photograph's field of view in its pixels.
    """

    pixels: Tensor
    field: Tensor
    box: tuple[int, int, int, int]
    diameter: float


def read(path: str | os.PathLike[str]) -> Tensor:
    """Read a photograph as float32 ``[3,H,W]`` in [0,1], upright, from any file that Pillow reads.

    Greyscale, palettes, transparency (on black), 16 bits and EXIF orientations are supported.

    Args:
        path: the file.

    Raises:
        ImportError: if Pillow is not installed.
        FileNotFoundError: if the file does not exist.
        ValueError: if the file cannot be read as an image.
    """
    return torch.from_numpy(read_picture(_checks.path(path))).movedim(-1, 0).float() / 255


def check_image(image: Any) -> Tensor:
    """Return ``image`` if it is a photograph [3,H,W] in [0,1], else raise."""
    if isinstance(image, Tensor) and image.dtype == torch.uint8:
        raise TypeError("image: expected a floating-point tensor in [0, 1], got uint8: image.float() / 255")
    image = _checks.tensor("image", image, 3, "[3,H,W]")
    _checks.channels("image", image[None], 3, "[3,H,W]")
    if not bool(((image >= 0) & (image <= 1)).all()):
        low, high = float(image.min()), float(image.max())
        raise ValueError(f"image: expected values in [0, 1], got {low:g} to {high:g}")
    return image


def prepare(image: Tensor, diameter: float | None = None, angle: float = ANGLE) -> Prepared:
    """Find the field of view, resize it to ``DIAMETER`` pixels and equalise light and contrast.

    Args:
        image: photograph ``[3,H,W]`` in [0,1].
        diameter: of the field of view in pixels; None: find it.
        angle: angle in degrees that the camera's field of view spans.

    Raises:
        TypeError: if ``image`` is not a floating tensor.
        ValueError: if its shape or values do not fit, it has no bright field of view, or ``diameter`` is less than a
            quarter of it.
    """
    image = check_image(image).detach().float().cpu()
    if diameter is not None:
        _checks.number("diameter", diameter, 16.0, 1e5)
    _checks.number("angle", angle, 5.0, 180.0)
    found = find_field(image.movedim(0, -1).numpy())
    diameter = float(diameter or found.diameter)
    scale = DIAMETER / diameter * angle / ANGLE
    scale = 1.0 if abs(scale - 1) < 0.03 else scale
    mask = torch.from_numpy(found.mask)
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    tall, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    if diameter < LEAST * max(tall, wide):
        wanted = f"at least {LEAST:g} of the {max(tall, wide)} pixels that are lit"
        raise ValueError(f"diameter: expected {wanted}, got {diameter:g}")
    side = max(tall, wide) + 2 * round(BORDER / scale)
    side += side % 2
    top = int(rows[0]) - (side - tall) // 2
    left = int(columns[0]) - (side - wide) // 2
    box = (top, left, top + side, left + side)
    size = max(16, 2 * round(side * scale / 2))
    pixels = _resize(_extended(image, box), size)
    inside = _resize(cut(mask[None].float(), box), size)[0] > 0.5
    return Prepared(even_out(pixels, inside), inside, box, diameter)


def restore(values: Tensor, prepared: Prepared, shape: tuple[int, int]) -> Tensor:
    """Resize values of a prepared photograph to the photograph's own pixels; 0 outside the field of view.

    Args:
        values: ``[h,w]`` on the prepared photograph.
        prepared: the prepared photograph.
        shape: height and width of the photograph.

    Raises:
        TypeError: if ``values`` is not a floating tensor.
        ValueError: if it does not have the shape of the prepared photograph.
    """
    _checks.tensor("values", values, 2, "[h,w]")
    if values.shape != prepared.field.shape:
        raise ValueError(f"values: expected shape {tuple(prepared.field.shape)}, got {tuple(values.shape)}")
    for size in shape:
        _checks.positive_int("shape", size)
    top, left, bottom, right = prepared.box
    full = _resize((values * prepared.field)[None], bottom - top)[0]
    out = torch.zeros(shape)
    a, b, c, d = max(0, top), max(0, left), min(shape[0], bottom), min(shape[1], right)
    out[a:c, b:d] = full[a - top : c - top, b - left : d - left]
    return out.clamp(0, 1)


def even_out(pixels: Tensor, inside: Tensor) -> Tensor:
    """Subtract each channel's local mean and divide by its local deviation; mirror what lies beyond the field.

    Both count the field of view without its rim, where light falls off. Deviations below a quarter of the channel's
    typical one, or below the noise of 8 bits, are not enlarged further. Pixels on the rim and outside the field take
    the values of their mirror images inside, so that filters see no edge there.
    """
    sigma = DIAMETER / 25
    core = _core(pixels.numpy(), inside.numpy())
    weight = core.astype(np.float32)
    total = ndimage.gaussian_filter(weight, sigma, mode="constant") + 1e-6
    evened = []
    for channel in pixels.numpy():
        mean = ndimage.gaussian_filter(channel * weight, sigma, mode="constant") / total
        centred = (channel - mean) * weight
        deviation = np.sqrt(ndimage.gaussian_filter(centred**2, sigma, mode="constant") / total)
        typical = float(np.median(deviation[core])) if core.any() else 0.0
        evened.append(np.clip(centred / np.maximum(deviation, max(0.25 * typical, 0.01)), -5, 5))
    return torch.from_numpy(_mirrored(np.stack(evened), core)).float()


def _core(pixels: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Cut the rim off the field: up to ``RIM`` pixels, as far as any colour differs from what lies further inside."""
    away = np.asarray(ndimage.distance_transform_edt(np.pad(within, 1)))[1:-1, 1:-1]
    rings = [(away > d) & (away <= d + 1) for d in range(2 * RIM)]
    if not all(ring.any() for ring in rings):
        return within
    level = np.array([np.median(pixels[:, ring], axis=1) for ring in rings])
    usual = np.median(level[RIM:], axis=0)
    unlike = (np.abs(level[:RIM] - usual) > 0.04 * usual.sum() / 2).any(1) | (level[:RIM] < 0.94 * usual).any(1)
    return away > 1 + (int(np.flatnonzero(unlike)[-1]) + 1 if unlike.any() else 0)


def _mirrored(values: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Replace the values [C,h,w] outside ``core`` by their mirror images across its border."""
    if core.all() or not core.any():
        return values
    outside = np.asarray(ndimage.distance_transform_edt(~core))
    nearest = np.asarray(ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True))
    depth = ndimage.gaussian_filter(np.asarray(ndimage.distance_transform_edt(core)) - outside, RIM / 2)
    normal = np.array(np.gradient(depth))
    normal /= np.maximum(np.hypot(*normal), 1e-6)
    missing = ~core
    place = np.stack(np.nonzero(missing)) + (2 * outside[missing] - 1) * normal[:, missing]
    rows, columns = (np.clip(np.rint(p), 0, n - 1).astype(int) for p, n in zip(place, core.shape))
    safe = core[rows, columns]
    near = nearest[:, missing]
    place = np.where(safe, place, near)
    made = values[:, nearest[0], nearest[1]]  # so that no mean of two pixels includes one outside
    for channel in made:
        channel[missing] = ndimage.map_coordinates(channel, place, order=1, mode="nearest")
    return made


def cut(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Return the part of [C,H,W] in a box, zeros where it reaches beyond."""
    top, left, bottom, right = box
    height, width = image.shape[-2:]
    return F.pad(image, (-left, right - width, -top, bottom - height))


def _extended(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Return the part of [C,H,W] in a box; repeat the border beyond it, so that a cut field has no dark edge."""
    top, left, bottom, right = box
    rows = torch.arange(top, bottom).clamp(0, image.shape[-2] - 1)
    columns = torch.arange(left, right).clamp(0, image.shape[-1] - 1)
    return image[:, rows][:, :, columns]


def _resize(image: Tensor, size: int) -> Tensor:
    """Resize [C,h,h] to [C,size,size]; take means over pixels if it shrinks."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
