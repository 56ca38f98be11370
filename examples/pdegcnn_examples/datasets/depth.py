"""Pictures with the depth of every pixel: rendered rooms, a folder of the user's, one real scene of a package."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._images import listed, read_picture
from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder, read_arrays
from pdegcnn_examples.datasets._images import read_labels

NYU_HELP = (
    "expected a folder 'nyu' with {train,val,test}/{images/*.jpg or *.png, depths/*.png}, depths being grey images of "
    f"millimetres (0: not known), or that folder itself; name it by an argument or by {ENVIRONMENT}"
)
FOCAL, BASELINE, OFFSET = 994.978, 0.193001, 31.086
"""Of the motorcycle pair in scikit-image: focal length in pixels, distance of the cameras in metres, and the difference
of their principal points in pixels."""


class Depths(NamedTuple):
    """Images [N,3,H,W] float32 in [0,1] and depths [N,H,W] float32 in metres along the view; 0 is not known."""

    images: Tensor
    depths: Tensor


class DepthSplit(NamedTuple):
    """Scenes to train on, to choose by and to test on."""

    train: Depths
    val: Depths
    test: Depths


def rooms(count: int, height: int, width: int, seed: int = 0) -> Depths:
    """Rendered rooms: boxes and balls on the floor of a box-shaped room, textured and lit by one lamp.

    Rays are cast through a pinhole camera somewhere in the room; the depth of a pixel is that of the first surface its
    ray meets, exactly. The same arguments give the same rooms.

    Args:
        count: number of rooms.
        height, width: of the images in pixels.
        seed: of everything that is drawn at random.

    Raises:
        ValueError: if a size is below 1.
    """
    for name, value in (("count", count), ("height", height), ("width", width)):
        _checks.positive_int(name, value)
    made = [_room(height, width, np.random.default_rng((seed, number))) for number in range(count)]
    images, depths = (np.stack(parts).astype(np.float32) for parts in zip(*made))
    return Depths(torch.from_numpy(images), torch.from_numpy(depths))


def nyu(folder: str | os.PathLike[str] | None = None, limit: int | None = None, shrink: int = 1) -> DepthSplit:
    """Photographs with measured depths from a folder that is laid out as the usual exports of NYU Depth.

    Source: Silberman et al., *Indoor segmentation and support inference from RGBD images*, 2012.

    Args:
        folder: holds ``train``, ``val`` and ``test``, or a folder ``nyu`` with them; what the environment variable
            ``PDEGCNN_DATA`` names if None.
        limit: read at most this many images of each part, the first ones by name; None: all.
        shrink: take the mean of blocks of this many pixels a side (of depths: of the known ones).

    Raises:
        FileNotFoundError: no folder was named, or a folder or a depth image is missing.
        ValueError: an image is damaged or of another size than the first; the message names it.
        ImportError: Pillow is not installed.
    """
    root = find_folder(folder, "nyu", ("train", "val", "test"), NYU_HELP)
    for name, value in (("limit", 1 if limit is None else limit), ("shrink", shrink)):
        _checks.positive_int(name, value)
    return DepthSplit(*(_part(root / part, limit, shrink) for part in ("train", "val", "test")))


def motorcycle(shrink: int = 1) -> Depths:
    """The motorcycle of Middlebury's stereo benchmark: one real photograph [1,3,500,741], its depth from disparities.

    It is read from the installed package scikit-image, never downloaded.
    Source: Scharstein et al., *High-resolution stereo datasets with subpixel-accurate ground truth*, 2014.

    Args:
        shrink: take the mean of blocks of this many pixels a side (of depths: of the known ones).

    Raises:
        ImportError: if scikit-image or Pillow is not installed.
        FileNotFoundError: if this version of scikit-image has no such file.
    """
    _checks.positive_int("shrink", shrink)
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise ImportError("the motorcycle is in scikit-image, which is not installed: pip install scikit-image")
    folder = Path(found.origin).parent / "data"
    for name in ("motorcycle_left.png", "motorcycle_disp.npz"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"expected scikit-image with {name} inside, but {folder} has none")
    (disparity,) = read_arrays(folder / "motorcycle_disp.npz", ["arr_0"])
    known = np.isfinite(disparity)
    depth = np.where(known, BASELINE * FOCAL / (np.where(known, disparity, 0) + OFFSET), 0)
    return _shrunk(read_picture(folder / "motorcycle_left.png"), depth, shrink)


def _part(root: Path, limit: int | None, shrink: int) -> Depths:
    pictures = listed(root / "images", (".jpg", ".jpeg", ".png"))[:limit] if (root / "images").is_dir() else []
    if not pictures:
        raise FileNotFoundError(f"folder: {NYU_HELP}; {root / 'images'} has no pictures")
    parts: list[Depths] = []
    first = read_picture(pictures[0]).shape[:2]
    for picture in pictures:
        path = root / "depths" / f"{picture.stem}.png"
        if not path.is_file():
            raise FileNotFoundError(f"folder: expected {path} beside {picture}, but it is missing")
        image, depth = read_picture(picture), read_labels(path) / 1000
        for name, size in ((picture, image.shape[:2]), (path, depth.shape)):
            if size != first:
                raise ValueError(f"{name}: expected {first} pixels as {pictures[0]}, got {size}")
        parts.append(_shrunk(image, depth, shrink))
    return Depths(*(torch.cat(some) for some in zip(*parts)))


def _shrunk(image: np.ndarray, depth: np.ndarray, shrink: int) -> Depths:
    """An image (H,W,3) of bytes and its depth (H,W) as one scene, of means over blocks."""
    pixels = torch.from_numpy(image).movedim(-1, 0)[None].float() / 255
    metres = torch.from_numpy(np.asarray(depth, np.float32))[None]
    if min(metres.shape[1:]) < shrink:
        raise ValueError(f"shrink: expected at most the image's size {tuple(metres.shape[1:])}, got {shrink}")
    known = torch.nn.functional.avg_pool2d((metres > 0).float(), shrink)
    mean = torch.nn.functional.avg_pool2d(metres, shrink) / known.clamp_min(1e-6)
    return Depths(torch.nn.functional.avg_pool2d(pixels, shrink), torch.where(known > 0, mean, 0))


class _Hit(NamedTuple):
    """The first surface along each ray [H,W]: distance in lengths of the ray, its normal [H,W,3] and its number."""

    distance: np.ndarray
    normal: np.ndarray
    surface: np.ndarray


def _room(height: int, width: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Image (3,H,W) and depth (H,W) of one room; x and y lie in the floor, z points up."""
    size = random.uniform((3, 3, 2.3), (7, 7, 3.2))
    side = random.uniform(0, 2 * np.pi)  # the camera stands there and looks across the room
    camera = np.array([*(size[:2] / 2 * (1 + 0.75 * np.array([np.cos(side), np.sin(side)]))), random.uniform(1.0, 1.8)])
    rays, ahead = _rays(height, width, side + np.pi + random.uniform(-0.7, 0.7), random)
    first = _inside(camera, rays, size)
    for number in range(6, 6 + int(random.integers(3, 8))):
        place = np.array([*(random.uniform(0.05, 0.95, 2) * size[:2]), 0.0])
        half = random.uniform((0.15, 0.15, 0.15), (0.6, 0.6, 0.9))
        if np.hypot(*(place - camera)[:2]) < 0.4 + np.hypot(*half[:2]):
            continue  # it would hide the whole room
        if random.random() < 0.6:
            other = _box(camera, rays, place + (0, 0, half[2]), half, random.uniform(0, np.pi), number)
        else:
            other = _ball(camera, rays, place + (0, 0, half[0]), half[0], number)
        nearer = other.distance < first.distance
        first = _Hit(*(np.where(nearer[..., None] if a.ndim == 3 else nearer, b, a) for a, b in zip(first, other)))
    points = camera + first.distance[..., None] * rays
    image = _shade(points, first, size, random)
    return np.moveaxis(image, -1, 0), first.distance * (rays @ ahead)


def _rays(height: int, width: int, around: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Directions (H,W,3) of unit length through the pixels' middles, and the view's own direction (3,)."""
    below = random.uniform(-0.05, 0.35)
    ahead = np.array([np.cos(around) * np.cos(below), np.sin(around) * np.cos(below), -np.sin(below)])
    right = np.array([np.sin(around), -np.cos(around), 0.0])
    down = np.cross(ahead, right)
    focal = width / 2 / np.tan(random.uniform(0.45, 0.55))
    j, i = (np.arange(width) + 0.5 - width / 2) / focal, (np.arange(height) + 0.5 - height / 2) / focal
    rays = ahead + j[None, :, None] * right + i[:, None, None] * down
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True), ahead


def _slabs(origin: np.ndarray, rays: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (H,W,3) at which rays come between the planes of each axis and leave them."""
    rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    one, two = (low - origin) / rays, (high - origin) / rays
    return np.minimum(one, two), np.maximum(one, two)


def _inside(camera: np.ndarray, rays: np.ndarray, size: np.ndarray) -> _Hit:
    """Where rays meet walls, floor or ceiling from inside."""
    leave = _slabs(camera, rays, np.zeros(3), size)[1]
    axis = leave.argmin(-1)
    sign = np.sign(np.take_along_axis(rays, axis[..., None], -1)[..., 0])
    return _Hit(leave.min(-1), -sign[..., None] * np.eye(3)[axis], 2 * axis + (sign > 0))


def _box(camera: np.ndarray, rays: np.ndarray, centre: np.ndarray, half: np.ndarray, angle: float, number: int) -> _Hit:
    """Where rays meet an upright box that is turned by ``angle``; infinite distances where they do not."""
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    own = rays @ turn.T
    come, leave = _slabs(turn @ (camera - centre), own, -half, half)
    axis, distance = come.argmax(-1), come.max(-1)
    sign = np.sign(np.take_along_axis(own, axis[..., None], -1)[..., 0])
    met = (distance > 0) & (distance < leave.min(-1))
    normal = (-sign[..., None] * np.eye(3)[axis]) @ turn
    return _Hit(np.where(met, distance, np.inf), normal, np.full(met.shape, number))


def _ball(camera: np.ndarray, rays: np.ndarray, centre: np.ndarray, radius: float, number: int) -> _Hit:
    """Where rays meet a ball; infinite distances where they do not."""
    to = camera - centre
    along = rays @ to
    root = along**2 - (to @ to - radius**2)
    distance = -along - np.sqrt(np.maximum(root, 0))
    met = (root > 0) & (distance > 0)
    normal = (to + np.where(met, distance, 0)[..., None] * rays) / radius
    return _Hit(np.where(met, distance, np.inf), normal, np.full(met.shape, number))


def _shade(points: np.ndarray, hit: _Hit, size: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Colours (H,W,3) in [0,1]: a texture for every surface, the light of a lamp near the ceiling, noise."""
    count = int(hit.surface.max()) + 1
    colours, others = random.uniform(0.2, 0.95, (2, count, 3))
    kind = random.integers(0, 3, count)[hit.surface]
    pitch = random.uniform(0.15, 0.8, count)[hit.surface]
    turned = random.uniform(0, np.pi, count)[hit.surface]
    across = points[..., 0] * np.cos(turned) + points[..., 1] * np.sin(turned) + 0.7 * points[..., 2]
    up = points[..., 2] + 0.5 * points[..., 1] * np.cos(turned) - 0.5 * points[..., 0] * np.sin(turned)
    stripes = np.floor(across / pitch) % 2
    checks = (np.floor(across / pitch) + np.floor(up / pitch)) % 2
    pattern = np.select([kind == 0, kind == 1], [np.zeros_like(pitch), stripes], checks)[..., None]
    albedo = colours[hit.surface] * (1 - pattern) + (0.6 * colours + 0.4 * others)[hit.surface] * pattern
    lamp = np.array([*(random.uniform(0.2, 0.8, 2) * size[:2]), 0.95 * size[2]])
    to = lamp - points
    far = np.linalg.norm(to, axis=-1)
    facing = np.maximum((hit.normal * to).sum(-1) / far, 0)
    light = random.uniform(0.3, 0.5) + random.uniform(1.2, 2.0) * facing / (0.5 + far)
    image = albedo * light[..., None] + random.normal(0, 0.02, points.shape)
    return image.clip(0, 1)
