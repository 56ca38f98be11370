"""The error with which a model commutes with a motion."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._modules import eval_mode
from pdegcnn.spaces import RotationSpace, Space
from pdegcnn.spaces.base import MotionOptions
from pdegcnn.testing.between_pixels import TurnedInput, outputs_between_pixels

if TYPE_CHECKING:
    from typing_extensions import Unpack

Formula = Callable[[Tensor], Tensor]


def equivariance_error(
    model: Callable[[Tensor], Tensor],
    x: Tensor | Formula,
    space: Space,
    *,
    size: tuple[int, int] | None = None,
    **motion: Unpack[MotionOptions],
) -> float:
    """Return how far ``model`` is from commuting with a motion L: ``|model(L x) - L model(x)| / |L model(x)|``.

    Input and output may be signals on the space, signals on its base (images) or invariants ``[B,K]``. Modules are
    switched to evaluation mode for the check and then restored. Norms are Euclidean, over the part that the motion
    keeps inside.

    Args:
        model: a module or function.
        x: its input; or a formula, which is sampled in both positions: a function from positions ``[H,W,2]``, (x, y) in
            pixels from the centre, to images ``[B,C,H,W]``, or from unit vectors ``[*grid.shape,3]`` to signals
            ``[B,C,*grid.shape]``.
        space: the space whose group moves input and output.
        size: height and width of the images, for a formula.
        **motion: on images ``angle=degrees`` about the image centre or ``shift=(rows, columns)`` (periodic). Multiples
            of 90 degrees on square images are exact. For other angles the input is interpolated by a cubic spline,
            rotated and shifted by fractions of a pixel, and outputs are compared at 24 pixels of the inscribed disk,
            with one run of the model for each. Outputs are thus never interpolated in the image, because splines are
            inaccurate at the creases of maxima. On volumes ``rotation=R [3,3]`` or ``angle``, see
            :meth:`pdegcnn.R3.transform`, or ``shift=(slices, rows, columns)``. On S2 and SO(3) ``rotation=R [3,3]``:
            samples represent band-limited functions, except for rotations about the pole that map the grid to itself.
            On a mesh ``symmetry=`` the image of each vertex.

    Returns:
        The relative error; of the order of rounding for an equivariant model and an exact motion.

    Raises:
        TypeError: if ``space`` is not a space, or ``x`` neither a tensor nor a function.
        ValueError: for a motion that the space does not support, an output too small for it, or a zero output, which
            has no relative error.

    Example:
        >>> import torch, pdegcnn as pg
        >>> x, space = torch.rand(1, 1, 9, 9), pg.SE2(8)
        >>> pg.testing.equivariance_error(pg.nn.Lift(space, 1, 2), x, space, angle=90) < 1e-5
        True
        >>> pg.testing.equivariance_error(torch.nn.Conv2d(1, 1, 3), x, space, angle=90) < 1e-5
        False
    """
    _checks.kind("space", space, Space, "a space such as pdegcnn.SE2(8)")
    if not isinstance(x, Tensor) and not callable(x):
        raise TypeError(f"x: expected a tensor or a function of positions, got {type(x).__name__}")
    if "angle" in motion:
        motion["angle"] = _checks.plain_number("angle", motion["angle"], -math.inf, math.inf)
    with eval_mode(model), torch.no_grad():
        if space.base_shape is None and space.base_ndim == 2 and "angle" in motion and len(motion) == 1:
            signal = TurnedInput(x, _size_of(x, size), motion["angle"])
            if not signal.on_pixels:
                return _relative(*outputs_between_pixels(model, signal))
            x = signal.still()
            turned = space.transform(x, **motion)
        elif isinstance(x, Tensor):
            x = space.band_limit(x, **motion)
            turned = space.transform(x, **motion)
        else:
            x, turned = _in_both_positions(x, space, motion)
        moved = space.band_limit(model(turned.clone()), **motion)  # models may work in place
        expected = space.transform(model(x.clone()), **motion)
    weight = space.comparison_weights(expected, **motion)
    return _relative(moved * weight, expected * weight)


def _size_of(x: Tensor | Formula, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the height and width of the input."""
    if isinstance(x, Tensor):
        _checks.tensor("x", x)
        if x.ndim < 4:
            raise ValueError(f"x: expected an image [B,C,H,W] or a lifted signal, got shape {tuple(x.shape)}")
        return x.shape[-2], x.shape[-1]
    if size is None:
        raise ValueError("size: expected height and width of the images of a formula, got None")
    return size


def _in_both_positions(formula: Formula, space: Space, motion: MotionOptions) -> tuple[Tensor, Tensor]:
    """Return samples of a formula on the sphere, still and rotated."""
    if not isinstance(space, RotationSpace) or "rotation" not in motion or len(motion) > 1:
        raise TypeError(f"x: expected a tensor for {space} and {motion}, got {type(formula).__name__}")
    points = space.grid.xyz
    return formula(points), formula(points @ motion["rotation"].to(points))


def _relative(found: Tensor, wanted: Tensor) -> float:
    scale = wanted.norm()
    if not scale > 0:
        raise ValueError("model: expected an output that is not zero, got zeros (or NaN)")
    return float((found - wanted).norm() / scale)
