"""Public functions: diffusion-shock, and the derivatives that control it."""

from __future__ import annotations

from torch import Tensor

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn.kernels.metric import Metric
from pdegcnn.pde import derivatives as d
from pdegcnn.pde.arguments import check_metric, diffusivity, wide_metric
from pdegcnn.pde.shared import checked_derivatives, checked_solver
from pdegcnn.pde.shock import NAME, ShockParameters, ShockSolver, check_rate
from pdegcnn.pde.solver import Alpha, KernelSize, Options, Radius
from pdegcnn.spaces import Space


def diffusion_shock(
    u: Tensor,
    space: Space,
    diffusion_metric: Tensor | Metric,
    shock_metric: Tensor | Metric,
    *,
    contrast: float | Tensor,
    sharpness: float | Tensor,
    time: float = 1.0,
    alpha: Alpha = 0.65,
    smoothing: Radius | None = None,
    kernel_size: KernelSize | None = None,
    radius: Radius | None = None,
    distance: str | None = None,
    boundary: str | None = None,
    padding_mode: str | None = None,
    subgrid: str | None = None,
    oversample: int | tuple[int, int | None] | None = None,
) -> Tensor:
    r"""Take one step of diffusion where a signal is flat, and of dilation or erosion (shocks) at edges.

    .. math:: \partial_t u = g\, \Delta u - (1 - g)\, S\, |\nabla u|^{2\alpha}

    Here v is the smoothed signal. The factor :math:`g = 1 / (1 + \lambda |\nabla v|^2)`, in the metric of the shocks,
    is near one where v is flat. The sign :math:`S = \tfrac{2}{\pi} \arctan(\Delta_\perp v / \varepsilon^2)`, with
    :math:`\Delta_\perp` from :func:`lateral_laplacian`, selects dilation on the bright side of an edge (S < 0) and
    erosion on the dark side. The step is a convex combination: g times the diffused signal, :math:`(1 - g)|S|` times
    the dilated or eroded one, :math:`(1 - g)(1 - |S|)` times u. Source: Sherry, Schaefer & Duits,
    *Diffusion-Shock PDEs for Deep Learning on Position-Orientation Space* (arXiv 2509.06405); Schaefer & Weickert,
    *Regularised Diffusion-Shock Inpainting* (2024).

    Args:
        u: signal laid out as ``space.layout``.
        space: the space.
        diffusion_metric: metric of the diffusion; see :func:`diffusion`.
        shock_metric: metric of dilation, erosion and the gradient in g; weights, matrices or a symmetric metric object.
        contrast: :math:`\lambda > 0`, a number or one for each channel ``[C]``; near zero only diffusion remains.
        sharpness: :math:`\varepsilon > 0`, a number or ``[C]``; near zero S is -1 or 1 wherever the signal is curved.
        time: length of the step, a positive number.
        alpha: power of dilation and erosion, in [1/2, 1].
        smoothing: standard deviation of the Gaussian before derivatives, as in :func:`gradient_norm`.
        kernel_size: size of all kernels; see :func:`dilation`.
        radius: in place of ``kernel_size``.
        distance: distance of all kernels; see :func:`dilation`.
        boundary: outside an image, for diffusion and derivatives: ``"replicate"``, ``"zeros"``, ``"periodic"``.
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.
        subgrid: see :func:`dilation`.
        oversample: see :func:`dilation`.

    Returns:
        A signal like ``u``, within its range (except with zero padding, ``oversample`` or ``subgrid``), differentiable.

    Raises:
        ValueError: for wrong shapes, values out of range, or options that the space does not have.
        TypeError: if ``u`` is not a floating tensor, a parameter has another dtype, or ``time`` is a tensor.

    Example:
        >>> import torch, pdegcnn as pg
        >>> u = torch.rand(1, 2, 8, 9, 9)
        >>> metrics = torch.tensor([0.5, 2.0, 2.0]), torch.ones(3)
        >>> v = pg.functional.diffusion_shock(u, pg.SE2(8), *metrics, contrast=5.0, sharpness=0.1)
        >>> bool(v.min() >= u.min()), bool(v.max() <= u.max())
        (True, True)
    """
    options = Options(
        kernel_size=kernel_size,
        radius=radius,
        distance=distance,
        boundary=_checks.border(boundary, padding_mode),
        subgrid=subgrid,
        oversample=oversample,
        smoothing=smoothing,
    )
    solver = checked_solver(u, space, NAME, options, time)
    assert isinstance(solver, ShockSolver)
    alpha = solver.check_power(alpha)
    metrics = check_metrics(diffusion_metric, shock_metric, space.metric_dim, u)
    rates = check_rate("contrast", contrast, u), check_rate("sharpness", sharpness, u)
    return solver.diffusion_shock(u, ShockParameters(*metrics, *rates), alpha, time)


def check_metrics(diffusion: Tensor | Metric, shock: Tensor | Metric, dim: int, u: Tensor) -> tuple[Metric, Metric]:
    """Return both metrics as objects for the channels of u; errors name the argument."""
    return check_metric(diffusion, dim, u, "diffusion_metric"), check_metric(shock, dim, u, "shock_metric")


def gradient_norm(
    u: Tensor,
    space: Space,
    metric: Tensor | Metric,
    *,
    smoothing: Radius | None = None,
    boundary: str | None = None,
    padding_mode: str | None = None,
) -> Tensor:
    r"""Return the length of the gradient of a smoothed signal in a left-invariant metric.

    It is :math:`(\sum_{ij} D_{ij}\, A_i u\, A_j u)^{1/2}`, where D is the inverse metric and :math:`A_i` are the
    derivatives along the frame vectors (on the sphere along any two perpendicular ones). Derivatives are taken by
    Gaussian kernels on grids, in the harmonic domain on S2 and SO(3), and by polynomials fitted to neighbours on
    meshes.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space.
        metric: weights ``[C,dim]`` or ``[dim]`` (a unit step along frame vector i costs w_i, so ``D_ii = w_i^-2``),
            matrices ``[C,dim,dim]``, or a symmetric metric object.
        smoothing: standard deviation of the Gaussian in pixels, radians or units of a mesh, or
            (radians of orientation, that). Default: one grid step and half an orientation step. The least effective
            values are a quarter of a pixel on grids and half a unit on meshes.
        boundary: outside an image: ``"replicate"`` (default), ``"zeros"``, ``"periodic"``.
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.

    Returns:
        A nonnegative signal like ``u``; where the gradient vanishes, its derivative is defined as zero.

    Raises:
        ValueError: for wrong shapes, values out of range, or a boundary that the space does not have.
        TypeError: if ``u`` is not a floating tensor, or the metric has another dtype.

    Example:
        >>> import torch, pdegcnn as pg
        >>> ramp = 3.0 * torch.arange(9.0).expand(1, 1, 9, 9)
        >>> round(float(pg.functional.gradient_norm(ramp, pg.R2(), torch.ones(2))[0, 0, 4, 4]), 4)
        3.0
    """
    found = checked_derivatives(u, space, smoothing, _checks.border(boundary, padding_mode))
    inverse = diffusivity(wide_metric(check_metric(metric, space.metric_dim, u)))
    return d.gradient_norm(found, u, inverse.to(widen(u).dtype)).to(u.dtype)


def laplacian(
    u: Tensor,
    space: Space,
    metric: Tensor | Metric,
    *,
    smoothing: Radius | None = None,
    boundary: str | None = None,
    padding_mode: str | None = None,
) -> Tensor:
    r"""Return the Laplacian of a smoothed signal in a left-invariant metric, :math:`\sum_{ij} D_{ij}\, A_i A_j u`.

    Arguments and errors are as in :func:`gradient_norm`.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space.
        metric: weights ``[C,dim]`` or ``[dim]``, matrices ``[C,dim,dim]``, or a symmetric metric object.
        smoothing: standard deviation of the Gaussian in pixels, radians or units of a mesh.
        boundary: outside an image: ``"replicate"`` (default), ``"zeros"``, ``"periodic"``.
        padding_mode: torch's name for ``boundary``.

    Returns:
        A signal like ``u``: the rate at which :func:`diffusion` with this metric changes the smoothed signal.

    Example:
        >>> import torch, pdegcnn as pg
        >>> bowl = (torch.arange(9.0) ** 2).expand(1, 1, 9, 9)
        >>> pg.functional.laplacian(bowl, pg.R2(), torch.ones(2))[0, 0, 4, 4].round(decimals=3)
        tensor(2.)
    """
    found = checked_derivatives(u, space, smoothing, _checks.border(boundary, padding_mode))
    inverse = diffusivity(wide_metric(check_metric(metric, space.metric_dim, u)))
    return d.laplacian(found, u, inverse.to(widen(u).dtype)).to(u.dtype)


def lateral_laplacian(
    u: Tensor,
    space: Space,
    *,
    smoothing: Radius | None = None,
    boundary: str | None = None,
    padding_mode: str | None = None,
) -> Tensor:
    """Return the second derivative of a smoothed signal across lines: negative on bright lines, positive on dark ones.

    On spaces with orientations it is :math:`A_2 A_2 u`, perpendicular to the orientation. On the plane, on the sphere
    and on meshes with one orientation it is taken along the gradient. There it is averaged over nearby gradients,
    weighted by their squares, because the gradient vanishes on the crest of a line.

    Arguments and errors are as in :func:`gradient_norm`.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space.
        smoothing: standard deviation of the Gaussian in pixels, radians or units of a mesh.
        boundary: outside an image: ``"replicate"`` (default), ``"zeros"``, ``"periodic"``.
        padding_mode: torch's name for ``boundary``.

    Returns:
        A signal like ``u``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> line = torch.exp(-((torch.arange(9.0) - 4) ** 2) / 4).expand(1, 1, 9, 9)
        >>> bool(pg.functional.lateral_laplacian(line, pg.R2())[0, 0, 4, 4] < 0)
        True
    """
    found = checked_derivatives(u, space, smoothing, _checks.border(boundary, padding_mode))
    return found.lateral(u).to(u.dtype)
