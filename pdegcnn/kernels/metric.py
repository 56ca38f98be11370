"""Left-invariant metrics: diagonal, symmetric positive definite, and asymmetric (Finsler, Randers) ones.

Every form maps unconstrained real parameters to a valid metric (``from_raw``), measures Lie algebra vectors
(``squared_norm``) and says how far a ball of given radius reaches (``reach``). To add a form, write a class and
enter it in ``METRICS``.
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

ENTRIES = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Order of a metric's entries, and of the monomials that squared norms are linear in."""


class Metric(Protocol):
    """The methods that every form of a metric has. ``C`` is the number of channels (one entry serves all channels)."""

    form: ClassVar[str]
    dims: ClassVar[tuple[int, ...]]
    """Dimensions in which the form exists."""

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Return the shape of the unconstrained parameters of one channel.

        Args:
            dim: dimension of the metric, 1, 2 or 3.
        """
        ...

    @classmethod
    def from_raw(cls, raw: Tensor) -> Metric:
        """Return the metric of unconstrained parameters ``[C, *raw_shape]``.

        Args:
            raw: any real numbers; C = 1 serves all channels.
        """
        ...

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the parameters of the diagonal metric with weights ``exp(log_weights) [C, dim]``.

        Args:
            log_weights: logarithms of the cost of a unit step along each frame vector.
        """
        ...

    def squared_norm(self, v: Tensor) -> Tensor:
        """Return the squared length ``[C, ...]`` of vectors ``v [..., dim]``.

        Args:
            v: components along the frame vectors, in pixels and radians on SE(2).
        """
        ...

    def gram(self) -> Tensor:
        """Return the matrix ``G [C, dim, dim]``; raise ``ValueError`` if the metric is asymmetric."""
        ...

    def cometric(self) -> Tensor:
        """Return the inverse matrix ``[C, dim, dim]``, the diffusivity; raise ``ValueError`` if it is asymmetric."""
        ...

    def reach(self, radius: Tensor) -> Tensor:
        """Return the greatest distances ``[C,2]`` along frame vectors 1-2 and 3 in a ball of ``radius [C]``.

        Args:
            radius: in the units of the metric: a unit step along frame vector i costs the weight i.
        """
        ...


def _lower(raw: Tensor) -> Tensor:
    """Return the Cholesky factor of logarithms of its diagonal and the entries below; float32 for half precision."""
    raw = widen(raw)
    dim = round((math.sqrt(8 * raw.shape[-1] + 1) - 1) / 2)
    row, column = torch.tril_indices(dim, dim, offset=-1)
    below = raw.new_zeros(*raw.shape[:-1], dim, dim)
    below[..., row, column] = raw[..., dim:]
    return torch.diag_embed(raw[..., :dim].exp()) + below


def _inverse(matrix: Tensor) -> Tensor:
    """Return the inverse, in float32 for half precision (which has none); ``ValueError`` where rounding leaves none."""
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
    r"""The metric :math:`G = \operatorname{diag}(w^2)`; a unit step along frame vector i costs :math:`w_i`.

    Args:
        weights: ``w [C,dim]``, positive.
    """

    weights: Tensor
    form: ClassVar[str] = "diagonal"
    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Return the shape of one logarithm for each frame vector.

        Args:
            dim: dimension of the metric, 1, 2 or 3.
        """
        return (dim,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Diagonal:
        """Return the metric whose weights are the exponentials.

        Args:
            raw: logarithms of the weights, ``[C,dim]``, any real numbers.
        """
        return cls(raw.exp())

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the logarithms themselves.

        Args:
            log_weights: logarithms of the weights, ``[C,dim]``.
        """
        return log_weights

    def squared_norm(self, v: Tensor) -> Tensor:
        r"""Return :math:`\sum_i (w_i v_i)^2`, ``[C, ...]``.

        Args:
            v: components along the frame vectors, ``[..., dim]``.
        """
        return torch.einsum("ci,...i->c...", self.weights**2, v**2)

    def gram(self) -> Tensor:
        r"""Return :math:`\operatorname{diag}(w^2)`."""
        return torch.diag_embed(self.weights**2)

    def cometric(self) -> Tensor:
        r"""Return :math:`\operatorname{diag}(w^{-2})`."""
        return torch.diag_embed(self.weights**-2)

    def reach(self, radius: Tensor) -> Tensor:
        """Return the radius divided by the smallest spatial weight, and by the angular weight, ``[C,2]``.

        Args:
            radius: radius of the ball in the units of the metric, ``[C]``.
        """
        return _quadratic_reach(self.cometric(), radius)


@dataclass(frozen=True)
class Axisymmetric(Diagonal):
    """A diagonal metric in 3D whose first two weights are equal, so that turns of the fibre are isometries.

    Args:
        weights: ``[C,3]``, positive; the first two are equal.
    """

    form: ClassVar[str] = "axisymmetric"
    dims: ClassVar[tuple[int, ...]] = (3,)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Return the shape of two logarithms.

        Args:
            dim: dimension of the metric, 3.
        """
        return (2,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Axisymmetric:
        """Return the metric whose weights are the exponentials, the first one used twice.

        Args:
            raw: logarithms of the weight of both tilts and of the third weight, ``[C,2]``, any real numbers.
        """
        return cls(raw.exp()[..., [0, 0, 1]])

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the mean logarithm of the first two weights, and the third, ``[C,2]``.

        Args:
            log_weights: logarithms of the weights, ``[C,3]``.
        """
        return torch.stack((log_weights[..., :2].mean(-1), log_weights[..., 2]), dim=-1)


@dataclass(frozen=True)
class SPD:
    """Any symmetric positive definite :math:`G` ``[C, dim, dim]`` in the left-invariant frame.

    Its parameters are the log-Cholesky factor.

    Args:
        matrix: ``[C,dim,dim]``, symmetric and positive definite.
    """

    matrix: Tensor
    form: ClassVar[str] = "spd"
    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Return the size of the lower triangle: ``dim`` logarithms of the diagonal, then the entries below it.

        Args:
            dim: dimension of the metric, 1, 2 or 3.
        """
        return (dim * (dim + 1) // 2,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> SPD:
        """Return :math:`G = L L^T` for lower triangular L with diagonal ``exp(raw[:dim])``; float32 for halves.

        Args:
            raw: ``[C, dim (dim + 1) / 2]``, any real numbers: logarithms of L's diagonal, then the rows below it.
        """
        lower = _lower(raw)
        return cls(lower @ lower.mT)

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the logarithms, with zeros below the diagonal, ``[C, dim (dim + 1) / 2]``.

        Args:
            log_weights: logarithms of the weights, ``[C,dim]``.
        """
        dim = log_weights.shape[-1]
        return torch.cat((log_weights, log_weights.new_zeros(*log_weights.shape[:-1], dim * (dim - 1) // 2)), dim=-1)

    def squared_norm(self, v: Tensor) -> Tensor:
        """Return :math:`v^T G v`, ``[C, ...]``.

        Args:
            v: components along the frame vectors, ``[..., dim]``.
        """
        return torch.einsum("...i,cij,...j->c...", v, self.matrix, v)

    def gram(self) -> Tensor:
        """Return :math:`G` itself."""
        return self.matrix

    def cometric(self) -> Tensor:
        """Return :math:`G^{-1}`."""
        return _inverse(self.matrix)

    def reach(self, radius: Tensor) -> Tensor:
        """Return the extents ``[C,2]`` of a ball in the plane of the first two frame vectors and along the third.

        Args:
            radius: radius of the ball in the units of the metric, ``[C]``.

        Raises:
            ValueError: if rounding leaves a matrix without an inverse.
        """
        return _quadratic_reach(self.cometric(), radius)


@dataclass(frozen=True)
class Finsler:
    r"""Asymmetric norm on the plane, :math:`F(v) = |v| \exp(-\sum_k p_k B_k(\arg v))`.

    The basis is :math:`B_0 = 1/\sqrt{2 \pi}`, then :math:`\cos(k \varphi)/\sqrt{\pi}` and
    :math:`\sin(k \varphi)/\sqrt{\pi}` for k = 1..m. F is positive for all real coefficients. Source: the original
    implementation of PDE-G-CNNs (arXiv 2001.09046).

    Args:
        coefficients: ``p [C, 2m+1]``, finite: constant, cosines, sines.
    """

    coefficients: Tensor
    form: ClassVar[str] = "finsler"
    dims: ClassVar[tuple[int, ...]] = (2,)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Return the shape of five coefficients: a constant and two harmonics.

        Args:
            dim: dimension of the metric, 2.
        """
        return (5,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Finsler:
        """Return the metric with the given coefficients.

        Args:
            raw: coefficients p, ``[C,5]``, any real numbers: of the constant, then a cosine and a sine for k = 1 and 2.
        """
        return cls(raw)

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the isotropic norm of the mean weight with a second harmonic for the ratio of the weights, ``[C,5]``.

        Args:
            log_weights: logarithms of the weights, ``[C,2]``.
        """
        raw = log_weights.new_zeros(*log_weights.shape[:-1], 5)
        raw[..., 0] = -log_weights.mean(-1) * math.sqrt(2 * math.pi)
        raw[..., 3] = (log_weights[..., 1] - log_weights[..., 0]) / 2 * math.sqrt(math.pi)
        return raw

    def squared_norm(self, v: Tensor) -> Tensor:
        """Return :math:`F(v)^2`, ``[C, ...]``.

        Args:
            v: vectors (x, y), ``[..., 2]``.
        """
        square = (v**2).sum(-1)
        phi = torch.atan2(v[..., 1], torch.where(square > 0, v[..., 0], 1.0))
        return square * torch.exp(-2 * tensordot(self.coefficients, self._basis(phi), dims=1))

    def _basis(self, phi: Tensor) -> Tensor:
        waves = [torch.full_like(phi, 1 / math.sqrt(2 * math.pi))]
        for k in range(1, (self.coefficients.shape[-1] - 1) // 2 + 1):
            waves += [torch.cos(k * phi) / math.sqrt(math.pi), torch.sin(k * phi) / math.sqrt(math.pi)]
        return torch.stack(waves)

    def cometric(self) -> Tensor:
        """Raise ``ValueError``: diffusion needs a symmetric metric."""
        raise ValueError("metric: expected a symmetric metric ('diagonal' or 'spd') for diffusion, got 'finsler'")

    gram = cometric

    def reach(self, radius: Tensor) -> Tensor:
        """Return an upper bound from the sum of the harmonics' amplitudes, and zero for the third axis, ``[C,2]``.

        Args:
            radius: radius of the ball in the units of the metric, ``[C]``.
        """
        p = self.coefficients
        least = p[:, 0] / math.sqrt(2 * math.pi) + p[:, 1:].abs().sum(-1) / math.sqrt(math.pi)
        return torch.stack((radius * least.exp(), torch.zeros_like(radius)), dim=-1)


@dataclass(frozen=True)
class Randers:
    r"""Asymmetric norm on the plane, :math:`F(v) = \sqrt{v^T G v} + \langle b, v \rangle`.

    It is positive if :math:`b^T G^{-1} b < 1`. Source: Randers metrics of *Geometric Adaptations of PDE-G-CNNs* (2023).

    Args:
        matrix: G, ``[C,2,2]``, symmetric and positive definite.
        drift: b, ``[C,2]``, with :math:`b^T G^{-1} b < 1`.
    """

    matrix: Tensor
    drift: Tensor
    form: ClassVar[str] = "randers"
    dims: ClassVar[tuple[int, ...]] = (2,)

    @staticmethod
    def raw_shape(dim: int) -> tuple[int, ...]:
        """Return the shape of five numbers: three for G by log-Cholesky, two for the drift.

        Args:
            dim: dimension of the metric, 2.
        """
        return (5,)

    @classmethod
    def from_raw(cls, raw: Tensor) -> Randers:
        r"""Return the metric with the drift :math:`L d / \sqrt{1 + |d|^2}`, :math:`G = L L^T`, so that F is positive.

        Half precision becomes float32.

        Args:
            raw: ``[C,5]``, any real numbers: three for G as in :meth:`SPD.from_raw`, then d.
        """
        raw = widen(raw)
        lower, d = _lower(raw[..., :3]), raw[..., 3:]
        inside = d / (1 + (d**2).sum(-1, keepdim=True)).sqrt()
        return cls(lower @ lower.mT, (lower @ inside[..., None])[..., 0])

    @staticmethod
    def raw_of_diagonal(log_weights: Tensor) -> Tensor:
        """Return the parameters of the diagonal metric, with zero drift, ``[C,5]``.

        Args:
            log_weights: logarithms of the weights, ``[C,2]``.
        """
        return torch.cat((SPD.raw_of_diagonal(log_weights), torch.zeros_like(log_weights)), dim=-1)

    def squared_norm(self, v: Tensor) -> Tensor:
        """Return :math:`F(v)^2`, ``[C, ...]``.

        Args:
            v: vectors (x, y), ``[..., 2]``.
        """
        return (safe_sqrt(SPD(self.matrix).squared_norm(v)) + torch.einsum("ci,...i->c...", self.drift, v)) ** 2

    def cometric(self) -> Tensor:
        """Raise ``ValueError``: diffusion needs a symmetric metric."""
        raise ValueError("metric: expected a symmetric metric ('diagonal' or 'spd') for diffusion, got 'randers'")

    gram = cometric

    def reach(self, radius: Tensor) -> Tensor:
        """Return the reach of the symmetric part divided by one minus the length of the drift, ``[C,2]``.

        Args:
            radius: radius of the ball in the units of the metric, ``[C]``.

        Raises:
            ValueError: if rounding leaves a matrix without an inverse.
        """
        inverse = _inverse(self.matrix)
        drift = self.drift.to(inverse.dtype)
        length = safe_sqrt(torch.einsum("ci,cij,cj->c", drift, inverse, drift))
        least = torch.finfo(length.dtype).eps  # rounding may make it smaller, even negative
        return _quadratic_reach(inverse, radius) / (1 - length).clamp_min(least)[:, None]


def cell_of(metric: Metric) -> tuple[Tensor, Tensor]:
    """Return width ``[C,dim]`` and volume ``[C]``, in the metric's units, of the cell with unit frame vectors.

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
    """Return the square root with gradient zero at zero; NaN stays NaN."""
    zero = x <= 0
    return torch.where(zero, torch.zeros_like(x), torch.where(zero, torch.ones_like(x), x).sqrt())


def as_metric(metric: Tensor | Metric, dim: int, channels: int, name: str = "metric") -> Metric:
    """Return a metric object for weights or matrices; return a valid metric object unchanged.

    Values are checked where they can be read: not on the meta device, in a trace or inside a transform.

    Args:
        metric: weights ``[dim]`` or ``[C,dim]``, matrices ``[C,dim,dim]``, or a metric object.
        dim: dimension of the space.
        channels: number of channels C.
        name: name of the argument in errors.

    Raises:
        ValueError: for a wrong shape or number of channels, a form that does not exist in this dimension, or values
            that are not finite and positive (definite), of an axisymmetric metric not equal, or of the drift of a
            Randers metric too large.
        TypeError: if ``metric`` is neither a floating-point tensor nor a metric.
    """
    if not isinstance(metric, Tensor):
        if not isinstance(metric, (Diagonal, SPD, Finsler, Randers)):
            raise TypeError(f"{name}: expected a tensor or a metric object, got {type(metric).__name__}")
        _check_object(metric, dim, channels, name)
        return metric
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
        (_check_matrices if matrix else _check_weights)(metric, name)
    return SPD(metric) if matrix else Diagonal(metric)


def _check_object(metric: Diagonal | SPD | Finsler | Randers, dim: int, channels: int, name: str) -> None:
    """Raise unless a metric object exists in dimension ``dim`` and has valid values for 1 or ``channels`` channels."""
    if dim not in metric.dims:
        if metric.form in PLANE_ONLY:
            allowed, where = "a 'diagonal' or 'spd' metric", "on the plane only"
        else:
            allowed, where = f"a metric of dimension {dim}", f"in dimension {' or '.join(map(str, metric.dims))} only"
        raise ValueError(f"{name}: expected {allowed}, got {metric.form!r}, which exists {where}")
    for field, value in vars(metric).items():
        rank, wanted = (3, f"[C,{dim},{dim}]") if field == "matrix" else (2, f"[C,{dim}]")
        wanted = "[C,2m+1]" if field == "coefficients" else wanted
        _checks.tensor(name, value)
        harmonics = field == "coefficients" and value.shape[-1:].numel() % 2 == 1
        if value.ndim != rank or not (harmonics or tuple(value.shape[1:]) == (dim,) * (rank - 1)):
            raise ValueError(f"{name}: expected {field} {wanted} in {metric.form!r}, got shape {tuple(value.shape)}")
        if value.shape[0] != 1 and value.shape[0] != channels:  # "in" cannot compare sizes that a trace left open
            raise ValueError(f"{name}: expected one, or one for each of {channels} channels, got {value.shape[0]}")
    if not all(_checks.has_values(value) for value in vars(metric).values()):
        return
    if isinstance(metric, Diagonal):
        _check_weights(metric.weights, name)
        two = metric.weights.detach()[:, :2]
        if isinstance(metric, Axisymmetric) and not torch.allclose(two[:, 0], two[:, 1], rtol=1e-5):
            raise ValueError(f"{name}: expected two equal weights first in 'axisymmetric', got {tolist(two[0])}")
    elif isinstance(metric, Finsler):
        _check_finite(metric.coefficients, name)
    else:
        _check_matrices(metric.matrix, name)
        if isinstance(metric, Randers):
            _check_drift(metric, name)


def _check_finite(values: Tensor, name: str) -> None:
    values = values.detach()
    if not bool(values.isfinite().all()):
        raise ValueError(f"{name}: expected finite values, got {tolist(values.flatten()[:9])}")


def _check_weights(weights: Tensor, name: str) -> None:
    _check_finite(weights, name)
    values = weights.detach()
    if not bool((values > 0).all()):
        raise ValueError(f"{name}: expected positive weights, got {tolist(values.flatten()[:9])}")


def _check_matrices(matrices: Tensor, name: str) -> None:
    _check_finite(matrices, name)
    double = matrices.detach().double()
    if not torch.allclose(double, double.mT, rtol=1e-5):
        raise ValueError(f"{name}: expected symmetric matrices, got {tolist(double[0])}")
    least = linalg.eigvalsh(double).min().item()
    if least <= 0:
        raise ValueError(f"{name}: expected positive definite matrices, got one with eigenvalue {least:.3g}")


def _check_drift(metric: Randers, name: str) -> None:
    _check_finite(metric.drift, name)
    drift = metric.drift.detach().double()
    length = torch.einsum("ci,cij,cj->c", drift, _inverse(metric.matrix.detach().double()), drift).max().item()
    if not length < 1:
        raise ValueError(f"{name}: expected a drift b with b^T G^-1 b < 1, got {length:.3g}")


def half_sides(metric: Metric, spacing: Tensor) -> Tensor:
    """Return half the sides ``[C,dim]`` of a cell in the metric's units, scaled to its volume if it is oblique."""
    widths, volume = cell_of(metric)
    sides = spacing * widths / 2
    return sides * (volume * spacing.prod() / (2 * sides).prod(-1))[:, None] ** (1 / len(spacing))
