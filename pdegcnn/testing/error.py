"""How far a model is from commuting with one motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pdegcnn._modules import evaluating
from pdegcnn.spaces import Space


def equivariance_error(model: Callable[[Tensor], Tensor], x: Tensor, space: Space, **motion: Any) -> float:
    """How far ``model`` is from commuting with a motion: ``|model(L x) - L model(x)| / |L model(x)|``.

    Input and output may be signals on the space, signals on its base (images) or invariants ``[B,K]``. Modules are put
    in eval mode for the check and left as they were. Norms are Euclidean, over the part that the motion keeps inside.

    Args:
        model: a module or function.
        x: its input.
        space: the space whose group moves input and output.
        **motion: on grids ``angle=degrees`` (about the image centre; multiples of 90 on square images are exact, others
            interpolate by cubic splines and compare on the inscribed disk) or ``shift=(rows, columns)`` (periodic);
            on S2 and SO(3) ``rotation=R [3,3]``: input and output are taken as the band-limited functions that their
            samples stand for, except for turns about the pole that map the grid to itself.

    Returns:
        The relative error; rounding for an equivariant model and an exact motion.

    Raises:
        ValueError: a motion that the space does not know, or a zero output, whose relative error means nothing.

    Example:
        >>> import torch, pdegcnn as pg
        >>> x, space = torch.rand(1, 1, 9, 9), pg.SE2(8)
        >>> pg.testing.equivariance_error(pg.nn.Lift(space, 1, 2), x, space, angle=90) < 1e-5
        True
        >>> pg.testing.equivariance_error(torch.nn.Conv2d(1, 1, 3), x, space, angle=90) < 1e-5
        False
    """
    with evaluating(model), torch.no_grad():
        x = space.band_limit(x, **motion)
        moved = space.band_limit(model(space.transform(x, **motion)), **motion)
        expected = space.transform(model(x), **motion)
    weight = space.comparison_weights(expected, **motion)
    scale = (expected * weight).norm()
    if not scale > 0:
        raise ValueError("model: expected an output that is not zero, got zeros (or NaN)")
    return float(((moved - expected) * weight).norm() / scale)
