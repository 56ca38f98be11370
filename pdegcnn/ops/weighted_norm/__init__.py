"""Normalisation of the channels of a batch ``[B,C,...]`` by their means and variances, as integrals over the space."""

from __future__ import annotations

from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.weighted_norm import custom_op as _op
from pdegcnn.ops.weighted_norm.torch_impl import WeightedNorm as _WeightedNorm

__all__ = ["weighted_norm"]

BACKENDS = _backend.declare("weighted_norm", "numba", "torch")


def weighted_norm(
    u: Tensor,
    weights: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float = 1e-5,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return :math:`\gamma_c (u - \mu_c)/\sqrt{\sigma_c^2 + \epsilon} + \beta_c` and the moments of every channel.

    Mean :math:`\mu_c` and variance :math:`\sigma_c^2`, divided by the number of entries, are over the batch and all
    points, each with its weight. Source: Ioffe & Szegedy (arXiv 1502.03167).

    Args:
        u: signals [B,C,...].
        weights: weights of mean 1 of the points, with as many of the last axes of ``u`` as they have; [] where all are
            alike. They get no gradient.
        scale: [C], of the dtype and device of ``u``.
        shift: [C], the same.
        eps: added to variances.
        backend: ``"numba"`` (second derivatives and ``torch.func`` transforms run the torch version) or ``"torch"``; by
            default the fastest that runs here.

    Returns:
        Normalised signals, of the shape of ``u``, means [C] and variances [C]; the moments have no gradient.

    Raises:
        ValueError: if a shape or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    _checks.tensor("u", u)
    if u.ndim < 2:
        raise ValueError(f"u: expected a signal [B,C,...], got shape {tuple(u.shape)}")
    for name, given in (("scale", scale), ("shift", shift)):
        _checks.same_kind(name, _checks.tensor(name, given, 1, "[C]"), "u", u)
        if len(given) != u.shape[1]:
            raise ValueError(f"{name}: expected {u.shape[1]} channels, got shape {tuple(given.shape)}")
    _checks.same_kind("weights", weights, "u", u)
    if weights.shape != u.shape[u.ndim - weights.ndim :] or weights.ndim > u.ndim - 2:
        raise ValueError(f"weights: expected the last axes of u {tuple(u.shape)}, got shape {tuple(weights.shape)}")
    chosen = _backend.choose("weighted_norm", u, backend)
    if _transforms.has_tangent(u, scale, shift):
        return _WeightedNorm.forward(u, weights, scale, shift, eps)
    if chosen != "torch" and not _transforms.differentiated(u, scale, shift):
        return _op.weighted_norm(u, weights.detach(), scale, shift, eps, chosen)
    found: tuple[Tensor, Tensor, Tensor] = _WeightedNorm.apply(u, weights, scale, shift, eps)
    return found
