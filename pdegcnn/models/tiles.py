"""A network on a large image, tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pdegcnn import _checks


@torch.no_grad()
def tiled(
    model: Callable[[Tensor], Tensor], image: Tensor, tile: int = 320, margin: int = 64, stride: int = 2
) -> Tensor:
    """Apply ``model`` to ``image`` in tiles that overlap by ``margin``, which limits memory to that of one tile.

    The result equals ``model(image)`` to rounding if the receptive field reaches at most ``margin - stride`` pixels.

    Args:
        model: function or module in evaluation mode, ``[B,C,H,W] -> [B,C',H,W]``.
        image: ``[B,C,H,W]``.
        tile: height and width of the part of the result that one tile computes.
        margin: width of the surrounding pixels that a tile also reads.
        stride: tiles start at multiples of it: the size of the network's coarsest pixel.

    Raises:
        TypeError: if ``image`` is not a floating tensor, or a size not an int.
        ValueError: if a size does not fit, or the model's output is not ``[B,C',H,W]`` of its input's height and width.
    """
    _checks.signal("image", image, 4, "[B,C,H,W]")
    if _checks.positive_int("tile", tile) % _checks.positive_int("stride", stride):
        raise ValueError(f"tile: expected a multiple of stride {stride}, got {tile}")
    if margin != 0 and _checks.positive_int("margin", margin) % stride:
        raise ValueError(f"margin: expected a multiple of stride {stride} >= 0, got {margin}")
    height, width = image.shape[-2:]
    out: Tensor | None = None
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = max(0, top - margin), max(0, left - margin)
            piece = image[..., above : min(height, bottom + margin), before : min(width, right + margin)]
            found: Any = model(piece)
            if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[-2:] != piece.shape[-2:]:
                size = ",".join(map(str, piece.shape[-2:]))
                got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(f"model: expected an output [B,C',{size}], got {got}")
            if out is None:
                out = found.new_empty(*found.shape[:2], height, width)
            rows, columns = slice(top - above, bottom - above), slice(left - before, right - before)
            out[..., top:bottom, left:right] = found[..., rows, columns]
    assert out is not None
    return out
