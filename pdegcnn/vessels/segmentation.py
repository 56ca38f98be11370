"""Segmentation of whole photographs by any network that returns probabilities of vessels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn.models import tiled
from pdegcnn.vessels.photograph import ANGLE, check_image, prepare, restore
from pdegcnn.vessels.width import narrowed

LARGER = 1.2
"""Pixels of a photograph in one that the network sees, from which widths are read from the photograph."""


class Vessels(NamedTuple):
    """The vessels of a photograph ``[3,H,W]``, on its own pixels.

    Attributes:
        mask: ``[H,W]`` bool.
        probability: ``[H,W]`` in [0,1], 0 outside the field of view.
        field: the field of view, ``[H,W]`` bool.
        diameter: of the field of view in pixels.
    """

    mask: Tensor
    probability: Tensor
    field: Tensor
    diameter: float


def segment(
    model: nn.Module,
    image: Tensor,
    *,
    threshold: float = 0.5,
    diameter: float | None = None,
    angle: float = ANGLE,
    progress: Callable[[float], object] | None = None,
) -> Vessels:
    """Find the vessels in a photograph of the retina, of any size and camera.

    The photograph is prepared (:func:`prepare`) and processed in tiles, which overlap by more than the receptive field.
    The result is resized to the photograph's own pixels. If these are finer than the network's, the mask holds vessels
    up to half their depth in the photograph's green channel, so that their width does not depend on the camera.

    Args:
        model: network from prepared photographs ``[B,3,h,w]`` to probabilities ``[B,1,h,w]``, in evaluation mode, such
            as ``pdegcnn.models.vessel_segmentation(pretrained="drive")``.
        image: ``[3,H,W]`` in [0,1]; :func:`read` reads a file.
        threshold: least probability of a vessel pixel.
        diameter: of the field of view in pixels; None: find it.
        angle: angle in degrees that the camera's field of view spans.
        progress: function that is called with the completed share, from 0 to 1.

    Raises:
        TypeError: if ``image`` is not a floating tensor.
        ValueError: if ``image`` does not fit or has no bright field of view, or the model does not return
            probabilities.

    Example:
        >>> import torch, pdegcnn as pg
        >>> model = pg.models.vessel_segmentation(pretrained="drive")
        >>> y, x = torch.meshgrid(*[torch.linspace(-1, 1, 96)] * 2, indexing="ij")
        >>> image = (x**2 + y**2 < 0.9) * (0.5 - 0.2 * torch.exp(-(((x - y) / 0.05) ** 2))).expand(3, -1, -1)
        >>> pg.vessels.segment(model, image, diameter=540).mask.shape  # pretend the size of the training images
        torch.Size([96, 96])
    """
    _checks.number("threshold", threshold, 0.0, 1.0)
    height, width = check_image(image).shape[-2:]
    ready = prepare(image, diameter, angle)
    chance = probability(model, ready.pixels, progress=progress)
    full = restore(chance, ready, (height, width))
    field = restore(torch.ones_like(chance), ready, (height, width)) > 0.5
    mask = (full >= threshold) & field
    unit = (ready.box[2] - ready.box[0]) / ready.pixels.shape[-1]
    if unit > LARGER:
        found = narrowed(mask.numpy(), image[1].detach().float().cpu().numpy(), field.numpy(), unit)
        mask = torch.from_numpy(found)
    return Vessels(mask, full * field, field, ready.diameter)


@torch.no_grad()
def probability(
    model: nn.Module,
    pixels: Tensor,
    tile: int = 320,
    margin: int = 64,
    progress: Callable[[float], object] | None = None,
) -> Tensor:
    """Return the probability of vessels at each pixel of a prepared photograph, ``[h,w]``.

    Vessels have no handedness, but networks that commute with rotations may have one. Logits are therefore averaged
    over the photograph and its mirror image.

    Args:
        model: network from ``[2,3,h,w]`` to probabilities ``[2,1,h,w]``, in evaluation mode.
        pixels: pixels ``[3,h,w]`` of a :class:`Prepared` photograph.
        tile: height and width of the part that is computed at once.
        margin: width of the surrounding pixels that the network also sees.
        progress: function that is called with the completed share, from 0 to 1.

    Raises:
        TypeError: if ``model`` is not a module, or ``pixels`` not a floating tensor.
        ValueError: if the model is in training mode or does not return one probability for each pixel, or a size does
            not fit.
    """
    _checks.kind("model", model, nn.Module, "a network such as vessel_segmentation(pretrained='drive')")
    _checks.tensor("pixels", pixels, 3, "[3,h,w]")
    _checks.positive_int("tile", tile)
    if model.training:
        raise ValueError("model: expected a network in eval mode, got one in training mode: model.eval()")
    height, width = pixels.shape[-2:]
    tiles, done = -(-height // tile) * -(-width // tile), 0

    def observed(x: Tensor) -> Tensor:
        nonlocal done
        found = model(x)
        if isinstance(found, Tensor) and found.ndim == 4 and found.shape[1] != 1:
            raise ValueError(f"model: expected one probability for each pixel, [2,1,h,w], got {tuple(found.shape)}")
        done += 1
        if progress is not None:
            progress(done / tiles)
        return found

    where = next(model.parameters(), pixels)
    both = torch.stack((pixels, pixels.flip(-1))).to(where)
    first, second = tiled(observed, both, tile, margin)[:, 0].float().cpu()
    if not bool(((first >= 0) & (first <= 1)).all()):
        raise ValueError(
            f"model: expected probabilities in [0, 1], got {float(first.min()):g} to {float(first.max()):g}; a network "
            "that gives logits needs a sigmoid: torch.nn.Sequential(model, torch.nn.Sigmoid())"
        )
    return ((first.logit(1e-6) + second.flip(-1).logit(1e-6)) / 2).sigmoid()


def overlay(image: Tensor, mask: Tensor, colour: tuple[float, float, float] = (0.1, 1.0, 0.35)) -> Tensor:
    """Tint the pixels of a mask in a photograph.

    Args:
        image: photograph ``[3,H,W]`` in [0,1].
        mask: ``[H,W]`` bool.
        colour: (red, green, blue) in [0,1].

    Raises:
        TypeError: if ``mask`` is not a bool tensor.
        ValueError: if a shape or a value does not fit.
    """
    image = check_image(image)
    mask = _checks.mask(mask, image.shape[-2:])
    if len(colour) != 3:
        raise ValueError(f"colour: expected (red, green, blue), got {colour!r}")
    for part in colour:
        _checks.number("colour", part, 0.0, 1.0)
    tint = torch.tensor(colour, dtype=image.dtype, device=image.device)[:, None, None]
    return torch.where(mask, 0.35 * image + 0.65 * tint, image)
