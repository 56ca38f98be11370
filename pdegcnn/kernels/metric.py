"""Left-invariant metrics: diagonal, symmetric positive definite, and asymmetric (Finsler, Randers) ones.

Every form maps unconstrained real parameters to a valid metric (``from_raw``), measures Lie algebra vectors
(``squared_norm``) and says how far a ball of given radius reaches (``reach``). A new form is a class here and a line in
``METRICS``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn._typing import linalg, tensordot, tolist


class Metric(Protocol):
    """What every metric form offers. ``C`` is the number of channels (one entry serves all channels)."""

    form: ClassVar[str]
    dims: ClassVar[tuple[int, ...]]
    """Dimensions in which the form exists."""

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Shape of the unconstrained parameters of one channel."""
        ...

    @classmethod
    def from_raw(cls, raw: Tensor) -> Metric:
        """Return the valid metric of unconstrained parameters ``[C, *raw_shape]``."""
        ...

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Unconstrained parameters whose metric equals the diagonal one with weights ``exp(log_weights) [C, dim]``."""
        ...

    def squared_norm(self, v: Tensor) -> Tensor:
        """Squared length ``[C, ...]`` of vectors ``v [..., dim]``."""
        ...

    def gram(self) -> Tensor:
        """Matrix ``G [C, dim, dim]``; raises ``ValueError`` for asymmetric forms."""
        ...

    def cometric(self) -> Tensor:
        """Inverse matrix ``[C, dim, dim]``, the diffusivity; raises ``ValueError`` for asymmetric forms."""
        ...

    def reach(self, radius: Tensor) -> Tensor:
        """Greatest distance along the first two frame vectors and the third ``[C, 2]`` in a ball of ``radius [C]``."""
        ...


def _lower(raw: Tensor) -> Tensor:
    """Cholesky factor from logarithms of its diagonal, then the entries below it; half precision as float32."""
    raw = widen(raw)
    dim = round((math.sqrt(8 * raw.shape[-1] + 1) - 1) / 2)
    row, column = torch.tril_indices(dim, dim, offset=-1)
    below = raw.new_zeros(*raw.shape[:-1], dim, dim)
    below[..., row, column] = raw[..., dim:]
    return torch.diag_embed(raw[..., :dim].exp()) + below


def _inverse(matrix: Tensor) -> Tensor:
    """Inverse, in float32 for half precision (which has none); ``ValueError`` where rounding leaves none."""
    try:
        return linalg.inv(widen(matrix))
    except linalg.LinAlgError as error:
        raise ValueError(f"metric: expected matrices with an inverse in {widen(matrix).dtype}, got {error}") from error


def _quadratic_reach(cometric: Tensor, radius: Tensor) -> Tensor:
    cometric = widen(cometric)
    spatial = linalg.eigvalsh(cometric[:, :2, :2])[:, -1]
    turn = cometric[:, 2, 2] if cometric.shape[-1] == 3 else torch.zeros_like(spatial)
    return radius[:, None] * torch.stack((spatial, turn), dim=-1).sqrt()


@dataclass(frozen=True)
class Diagonal:
    """``G = diag(w^2)``: weights ``w [C, dim] > 0``, the cost of a unit step along each frame vector.

    Args:
        weights: ``[C,dim]``, positive.
    """

    weights: Tensor
    form: ClassVar[str] = "diagonal"
    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """One logarithm per frame vector."""
        return (dim,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Diagonal:
        """Weights are the exponentials."""
        return cls(raw.exp())

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the logarithms themselves."""
        return log_weights

    def squared_norm(self, v: Tensor) -> Tensor:
        """``sum_i (w_i v_i)^2``."""
        return torch.einsum("ci,...i->c...", self.weights**2, v**2)

    def gram(self) -> Tensor:
        """``diag(w^2)``."""
        return torch.diag_embed(self.weights**2)

    def cometric(self) -> Tensor:
        """``diag(w^-2)``."""
        return torch.diag_embed(self.weights**-2)

    def reach(self, radius: Tensor) -> Tensor:
        """Radius over the smallest spatial weight, and over the turning weight."""
        return _quadratic_reach(self.cometric(), radius)


@dataclass(frozen=True)
class Axisymmetric(Diagonal):
    """A diagonal metric in three dimensions whose first two weights are equal: turns of the fibre are isometries.

    Args:
        weights: ``[C,3]``, positive; the first two are equal.
    """

    form: ClassVar[str] = "axisymmetric"
    dims: ClassVar[tuple[int, ...]] = (3,)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Two logarithms."""
        return (2,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Axisymmetric:
        """Weights are the exponentials, the first one twice."""
        return cls(raw.exp()[..., [0, 0, 1]])

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the mean logarithm of the first two weights, and the third."""
        return torch.stack((log_weights[..., :2].mean(-1), log_weights[..., 2]), dim=-1)


@dataclass(frozen=True)
class SPD:
    """Any symmetric positive definite ``G [C, dim, dim]`` in the left-invariant frame; parametrised by log-Cholesky.

    Args:
        matrix: ``[C,dim,dim]``, symmetric and positive definite.
    """

    matrix: Tensor
    form: ClassVar[str] = "spd"
    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Return the lower triangle: ``dim`` logarithms of the diagonal, then the entries below it."""
        return (dim * (dim + 1) // 2,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> SPD:
        """``G = L L^T``, L lower triangular with diagonal ``exp(raw[:dim])``; in float32 for half precision."""
        lower = _lower(raw)
        return cls(lower @ lower.mT)

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Logarithms, and zeros below the diagonal."""
        dim = log_weights.shape[-1]
        return torch.cat((log_weights, log_weights.new_zeros(*log_weights.shape[:-1], dim * (dim - 1) // 2)), dim=-1)

    def squared_norm(self, v: Tensor) -> Tensor:
        """``v^T G v``."""
        return torch.einsum("...i,cij,...j->c...", v, self.matrix, v)

    def gram(self) -> Tensor:
        """``G`` itself."""
        return self.matrix

    def cometric(self) -> Tensor:
        """``G^-1``."""
        return _inverse(self.matrix)

    def reach(self, radius: Tensor) -> Tensor:
        """From the extent of the ellipsoid along the plane and along the turn."""
        return _quadratic_reach(self.cometric(), radius)


@dataclass(frozen=True)
class Finsler:
    """Asymmetric norm on the plane, ``F(v) = |v| exp(-sum_k p_k B_k(arg v))`` with coefficients ``p [C, 2m+1]``.

    ``B_0 = 1/sqrt(2 pi)``, then ``cos(k phi)/sqrt(pi)`` and ``sin(k phi)/sqrt(pi)`` for k = 1..m. Every real
    coefficient gives a positive F. Source: the plane of the original PDE-G-CNN implementation (arXiv 2001.09046).

    Args:
        coefficients: ``[C, 2m+1]``, finite: constant, cosines, sines.
    """

    coefficients: Tensor
    form: ClassVar[str] = "finsler"
    dims: ClassVar[tuple[int, ...]] = (2,)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Five coefficients: constant, two harmonics."""
        return (5,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Finsler:
        """Return the coefficients themselves."""
        return cls(raw)

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the isotropic norm of the mean weight, with a second harmonic for the ratio of the weights."""
        raw = log_weights.new_zeros(*log_weights.shape[:-1], 5)
        raw[..., 0] = -log_weights.mean(-1) * math.sqrt(2 * math.pi)
        raw[..., 3] = (log_weights[..., 1] - log_weights[..., 0]) / 2 * math.sqrt(math.pi)
        return raw

    def squared_norm(self, v: Tensor) -> Tensor:
        """``F(v)^2``."""
        square = (v**2).sum(-1)
        phi = torch.atan2(v[..., 1], torch.where(square > 0, v[..., 0], 1.0))
        return square * torch.exp(-2 * tensordot(self.coefficients, self._basis(phi), dims=1))

    def _basis(self, phi: Tensor) -> Tensor:
        waves = [torch.full_like(phi, 1 / math.sqrt(2 * math.pi))]
        for k in range(1, (self.coefficients.shape[-1] - 1) // 2 + 1):
            waves += [torch.cos(k * phi) / math.sqrt(math.pi), torch.sin(k * phi) / math.sqrt(math.pi)]
        return torch.stack(waves)

    def cometric(self) -> Tensor:
        """Not defined: diffusion needs a symmetric metric."""
        raise ValueError("metric: expected a symmetric metric ('diagonal' or 'spd') for diffusion, got 'finsler'")

    gram = cometric

    def reach(self, radius: Tensor) -> Tensor:
        """Return a safe bound from the sum of the harmonics' greatest values."""
        p = self.coefficients
        least = p[:, 0] / math.sqrt(2 * math.pi) + p[:, 1:].abs().sum(-1) / math.sqrt(math.pi)
        return torch.stack((radius * least.exp(), torch.zeros_like(radius)), dim=-1)


@dataclass(frozen=True)
class Randers:
    """Asymmetric norm on the plane, ``F(v) = sqrt(v^T G v) + <b, v>``, with G ``[C,2,2]`` and drift b ``[C,2]``.

    Positive when ``b^T G^-1 b < 1``. Source: Randers metrics of *Geometric Adaptations of PDE-G-CNNs* (2023).

    Args:
        matrix: G, ``[C,2,2]``, symmetric and positive definite.
        drift: b, ``[C,2]``, with ``b^T G^-1 b < 1``.
    """

    matrix: Tensor
    drift: Tensor
    form: ClassVar[str] = "randers"
    dims: ClassVar[tuple[int, ...]] = (2,)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Three numbers for G by log-Cholesky, two for the drift."""
        return (5,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Randers:
        """Bound the drift: it is ``L d / sqrt(1 + |d|^2)`` for ``G = L L^T``, so F stays positive; half as float32."""
        raw = widen(raw)
        lower, d = _lower(raw[..., :3]), raw[..., 3:]
        inside = d / (1 + (d**2).sum(-1, keepdim=True)).sqrt()
        return cls(lower @ lower.mT, (lower @ inside[..., None])[..., 0])

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """No drift."""
        return torch.cat((SPD.raw_of_diagonal(log_weights), torch.zeros_like(log_weights)), dim=-1)

    def squared_norm(self, v: Tensor) -> Tensor:
        """``F(v)^2``."""
        return (safe_sqrt(SPD(self.matrix).squared_norm(v)) + torch.einsum("ci,...i->c...", self.drift, v)) ** 2

    def cometric(self) -> Tensor:
        """Not defined: diffusion needs a symmetric metric."""
        raise ValueError("metric: expected a symmetric metric ('diagonal' or 'spd') for diffusion, got 'randers'")

    gram = cometric

    def reach(self, radius: Tensor) -> Tensor:
        """Return the symmetric reach over one minus the drift's length."""
        inverse = _inverse(self.matrix)
        drift = self.drift.to(inverse.dtype)
        length = safe_sqrt(torch.einsum("ci,cij,cj->c", drift, inverse, drift))
        least = torch.finfo(length.dtype).eps  # rounding may leave less of the norm, or less than nothing
        return _quadratic_reach(inverse, radius) / (1 - length).clamp_min(least)[:, None]


def cell_of(metric: Metric) -> tuple[Tensor, Tensor]:
    """Width ``[C,dim]`` and volume ``[C]``, in the metric's units, of the cell with unit sides along the frame vectors.

    The width along a frame vector is the distance between the two faces across it. Both are kept within a range whose
    products neither overflow nor vanish. Their derivatives exist to every order, also where weights are equal.
    """
    if isinstance(metric, Diagonal):
        widths = _in_range(metric.weights, 1)
        return widths, widths.prod(-1)
    rest, volume = metric.gram(), None
    widths = torch.diagonal(metric.cometric(), dim1=-2, dim2=-1).rsqrt()
    for _ in range(widths.shape[-1]):  # Gauss elimination: the second derivatives of torch.linalg.det are wrong
        pivot = rest[:, 0, 0].clamp_min(torch.finfo(rest.dtype).tiny)
        volume = pivot.sqrt() if volume is None else volume * pivot.sqrt()
        rest = rest[:, 1:, 1:] - rest[:, 1:, :1] * rest[:, :1, 1:] / pivot[:, None, None]
    assert volume is not None
    return _in_range(widths, 1), _in_range(volume, widths.shape[-1])


def _in_range(x: Tensor, power: int) -> Tensor:
    least = torch.finfo(x.dtype).tiny ** (power / 4)
    return x.clamp(least, 1 / least)


METRICS: dict[str, type[Metric]] = {m.form: m for m in (Diagonal, Axisymmetric, SPD, Finsler, Randers)}
PLANE_ONLY = tuple(name for name, form in METRICS.items() if form.dims == (2,))


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root with gradient zero at zero; NaN stays NaN."""
    zero = x <= 0
    return torch.where(zero, torch.zeros_like(x), torch.where(zero, torch.ones_like(x), x).sqrt())


def as_metric(metric: Tensor | Metric, dim: int, channels: int, name: str = "metric") -> Metric:
    """Return a metric object of weights ``[dim]`` or ``[C,dim]``, of a matrix ``[C,dim,dim]``, or as it is given.

    Errors call it ``name``.

    Raises:
        ValueError: for wrong shape, channels, or values that are not finite and positive (definite).
        TypeError: for anything but a floating-point tensor or a metric.
    """
    if isinstance(metric, (Finsler, Randers)):
        if dim != 2:
            raise ValueError(
                f"{name}: expected a 'diagonal' or 'spd' metric, got {metric.form!r}, which lives on the plane"
            )
        return metric
    if not isinstance(metric, Tensor):
        if isinstance(metric, (Diagonal, SPD)):
            return metric
        raise TypeError(f"{name}: expected a tensor or a metric object, got {type(metric).__name__}")
    _checks.tensor(name, metric)
    if metric.ndim == 1:
        metric = metric[None]
    matrix = metric.ndim == 3
    shape = (dim, dim) if matrix else (dim,)
    if tuple(metric.shape[1:]) != shape or (metric.shape[0] != 1 and metric.shape[0] != channels):
        raise ValueError(
            f"{name}: expected weights [{dim}] or [{channels},{dim}] or matrices [{channels},{dim},{dim}], "
            f"got shape {tuple(metric.shape)}"
        )
    if _checks.has_values(metric):
        _check_values(metric, matrix, name)
    return SPD(metric) if matrix else Diagonal(metric)


def _check_values(metric: Tensor, matrix: bool, name: str) -> None:
    values = metric.detach()
    if not bool(values.isfinite().all()):
        raise ValueError(f"{name}: expected finite values, got {tolist(values.flatten()[:9])}")
    if not matrix:
        if not bool((values > 0).all()):
            raise ValueError(f"{name}: expected positive weights, got {tolist(values.flatten()[:9])}")
        return
    double = values.double()
    if not torch.allclose(double, double.mT, rtol=1e-5):
        raise ValueError(f"{name}: expected symmetric matrices, got {tolist(values[0])}")
    least = linalg.eigvalsh(double).min().item()
    if least <= 0:
        raise ValueError(f"{name}: expected positive definite matrices, got one with eigenvalue {least:.3g}")


def half_sides(metric: Metric, spacing: Tensor) -> Tensor:
    """Half the sides ``[C,dim]`` of a cell in the metric's units, scaled to its volume where the metric leans."""
    widths, volume = cell_of(metric)
    sides = spacing * widths / 2
    return sides * (volume * spacing.prod() / (2 * sides).prod(-1))[:, None] ** (1 / len(spacing))
