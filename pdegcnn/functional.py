"""Stateless layers on plain tensors: PDE terms on every space, group convolutions, lifting, projection, resampling."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _checks, _fft
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn._typing import fft
from pdegcnn.kernels.filters import cake_windows
from pdegcnn.kernels.metric import Diagonal, Metric, safe_sqrt
from pdegcnn.ops.group_convolution import group_convolution as _group_convolution
from pdegcnn.ops.morphology import morphological_convolution as _morphological_convolution
from pdegcnn.ops.resample import resample
from pdegcnn.pde import Alpha, KernelSize, Options, Radius
from pdegcnn.pde.arguments import check_metric, check_vector
from pdegcnn.pde.shared import checked_solver as _solver
from pdegcnn.pde.shock_functions import diffusion_shock, gradient_norm, laplacian, lateral_laplacian
from pdegcnn.pde.sphere import SphereSolver
from pdegcnn.spaces import PlanarSpace, Space

__all__ = [
    "cake_lift",
    "cake_reconstruct",
    "convection",
    "convection_diffusion",
    "diffusion",
    "diffusion_shock",
    "dilation",
    "erosion",
    "gradient_norm",
    "group_convolution",
    "laplacian",
    "lateral_laplacian",
    "morphological_convolution",
    "project",
    "resample",
]

PLANAR = "R2 or SE2"
PROJECTIONS = ("max", "mean", "norm", "dilated")


def convection(
    u: Tensor,
    space: Space,
    vector: Tensor,
    *,
    time: float = 1.0,
    method: str | None = None,
    boundary: str | None = None,
    padding_mode: str | None = None,
    inner_orientations: int | None = None,
) -> Tensor:
    r"""Transport a signal along a left-invariant vector field c for a time t: :math:`u(g \exp(-t c))`.

    Source: Smets et al. (arXiv 2001.09046), section 5.1.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space; it needs an invariant vector field, so not S2.
        vector: ``c [C,dim]`` or ``[dim]``, per unit of time: (forward, lateral, turn) on SE(2), in pixels and radians,
            and on meshes, in units of length and radians; (x, y) in pixels on the plane, (x, y, z) in units of length
            on volumes; (tilt, tilt, spin) in radians on SO(3).
        time: length of the step, a positive number.
        method: on grids ``"cubic"`` (default: trigonometric interpolation between orientations, cubic between pixels),
            ``"linear"`` (stays within the range of ``u``, but smooths) or ``"spectral"`` (phase shifts, exact for
            periodic signals that the samples resolve; its adjoint inverts it). On SO(3) ``"spectral"`` (default), exact
            for band-limited signals on the orders that the fibre holds, up to ``(Or - 1) // 2``: a tilt creates orders
            up to the degree, and a fibre of fewer than ``2 band + 1`` samples drops those beyond, with a part of the
            norm; or ``"galerkin"``, which restricts the generator to the orders held: it keeps norms and is a group in
            ``time``, but is not exact on such a fibre. On a mesh ``"linear"``, along geodesics.
        boundary: outside the image of a grid: ``"replicate"`` (nearest pixel; the default), ``"zeros"`` or
            ``"periodic"`` (the only choice of ``"spectral"``).
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.
        inner_orientations: on SE(2) the number of orientations on which the term is solved: more than those of ``u``,
            and a multiple of 4 if theirs is. ``u`` is interpolated there trigonometrically, and the result is truncated
            to the orders that the orientations of ``u`` hold, up to ``(Or - 1) // 2``, so that it too can be
            interpolated between them.

    Returns:
        A signal like ``u``. Differentiable in ``u`` and ``vector``.

    Raises:
        ValueError: for wrong shapes, options that the space lacks, a vector that is not finite, or a space without
            invariant vector fields.
        TypeError: if ``u`` is not a floating tensor, ``vector`` has another dtype, or ``time`` is a tensor: for a
            gradient in it, scale ``vector``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> u = torch.zeros(1, 1, 4, 5, 5)
        >>> u[0, 0, 0, 2, 1] = 1  # orientation 0 points along +x
        >>> moved = pg.functional.convection(u, pg.SE2(4), torch.tensor([2.0, 0.0, 0.0]))
        >>> moved[0, 0, 0, 2]
        tensor([0., 0., 0., 1., 0.])
    """
    outside = _checks.border(boundary, padding_mode)
    options = Options(method=method, boundary=outside, inner_orientations=inner_orientations)
    solver = _solver(u, space, "convection", options, time)
    return solver.convection(u, check_vector(vector, space.dim, u), time)


def diffusion(
    u: Tensor,
    space: Space,
    metric: Tensor | Metric,
    *,
    time: float = 1.0,
    alpha: Alpha = 1.0,
    method: str | None = None,
    kernel_size: KernelSize | None = None,
    radius: Radius | None = None,
    distance: str | None = None,
    boundary: str | None = None,
    padding_mode: str | None = None,
    inner_orientations: int | None = None,
) -> Tensor:
    r"""Apply fractional diffusion :math:`\exp(-t (-\Delta)^\alpha)\, u` with the Laplacian of a left-invariant metric.

    Source: Smets et al. (arXiv 2001.09046), section 5.2.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space.
        metric: weights ``[C,dim]`` or ``[dim]`` (the cost w_i of a unit step along frame vector i; the diffusivity is
            ``w_i^-2``; one weight on the sphere), matrices ``G [C,dim,dim]``, or a symmetric metric object of
            :mod:`pdegcnn.kernels`.
        time: length of the step, a positive number.
        alpha: power of the Laplacian, in (0, 1].
        method: on grids ``"kernel"`` (default: each tap has the mass of the kernel in its cell; mass outside the window
            goes to the mean of the signal, or is lost with zero padding), ``"sampled"`` (kernel values at the taps,
            scaled to mass one: too little diffusion for small powers) or ``"spectral"``
            (exact for band-limited periodic signals; it has no ``kernel_size``, ``radius`` or ``distance``). On S2 and
            SO(3) ``"spectral"``, exact for band-limited signals; on a mesh ``"kernel"`` or ``"sampled"``.
        kernel_size: samples across the kernel on grids and meshes: odd, or one per axis, or ``"auto"``; see
            :func:`dilation`. Default: all orientations and a radius of 5 pixels, or 3.5 units on a mesh.
        radius: extent of the kernel in place of ``kernel_size``; see :func:`dilation`.
        distance: approximation of the distance on grids; by default the heat kernel's own, from its moments at each
            angle.
        boundary: outside the image of a grid: ``"replicate"``, ``"zeros"``, ``"periodic"``
            (the only choice of ``"spectral"``).
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.
        inner_orientations: as in :func:`convection`.

    Returns:
        A signal like ``u``. Kernel methods take weighted means, so values stay between ``min u`` and ``max u``, except
        with zero padding or ``inner_orientations``.

    Raises:
        ValueError: for wrong shapes, values out of range, options that the space lacks, or an asymmetric metric.
        TypeError: if ``u`` is not a floating tensor, the metric has another dtype, or ``time`` is a tensor: for a
            gradient in it, multiply the weights by ``time ** (-1 / (2 * alpha))``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> u = torch.rand(1, 2, 8, 9, 9)
        >>> v = pg.functional.diffusion(u, pg.SE2(8), torch.tensor([1.0, 2.0, 1.0]))
        >>> bool(v.min() >= u.min()), bool(v.max() <= u.max())
        (True, True)
    """
    outside = _checks.border(boundary, padding_mode)
    options = Options(
        method=method,
        kernel_size=kernel_size,
        radius=radius,
        distance=distance,
        boundary=outside,
        inner_orientations=inner_orientations,
    )
    solver = _solver(u, space, "diffusion", options, time)
    alpha = solver.check_power(alpha)
    return solver.diffusion(u, check_metric(metric, space.metric_dim, u), alpha, time)


def convection_diffusion(
    u: Tensor,
    space: Space,
    vector: Tensor,
    metric: Tensor | Metric,
    *,
    time: float = 1.0,
    alpha: Alpha = 1.0,
    method: str | None = None,
) -> Tensor:
    r"""Apply convection and diffusion together by one exponential, :math:`\exp(-t (c + (-\Delta)^\alpha))\, u`.

    The two commute only if the metric is the same in all directions. Applied in turn they solve
    :math:`\partial_t u = -c u - (-\Delta)^\alpha u` up to a splitting error; this function has no such error and takes
    one pair of transforms. On SO(3) only, exact for band-limited signals. Source: Gerken et al. (arXiv 2105.13926),
    section 4: the action of the frame on coefficients.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space, :class:`pdegcnn.SO3`.
        vector: ``c [C,3]`` or ``[3]``, as in :func:`convection`.
        metric: as in :func:`diffusion`.
        time: length of the step, a positive number.
        alpha: power of the Laplacian, in (0, 1].
        method: ``"spectral"``, the only one.

    Returns:
        A signal like ``u``, with the same integral and at most the same norm. Differentiable in all tensors.

    Raises:
        ValueError: for wrong shapes, values out of range, or a space without this term.
        TypeError: if ``u`` is not a floating tensor, a parameter has another dtype, or ``time`` is a tensor.

    Example:
        >>> import torch, pdegcnn as pg
        >>> space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(4), orientations=5)
        >>> u, c = torch.rand(1, 1, 5, 4, 8), torch.tensor([0.5, 0.0, 0.2])
        >>> v = pg.functional.convection_diffusion(u, space, c, torch.tensor([1.0, 2.0, 1.0]))
        >>> bool(v.var() < u.var())
        True
    """
    solver = _solver(u, space, "convection_diffusion", Options(method=method), time)
    assert isinstance(solver, SphereSolver)
    alpha = solver.check_power(alpha)
    vector, metric = check_vector(vector, space.dim, u), check_metric(metric, space.metric_dim, u)
    return solver.convection_diffusion(u, vector, metric, alpha, time)


def dilation(
    u: Tensor,
    space: Space,
    metric: Tensor | Metric,
    *,
    time: float = 1.0,
    alpha: Alpha = 0.65,
    kernel_size: KernelSize | None = None,
    radius: Radius | None = None,
    distance: str | None = None,
    subgrid: str | None = None,
    oversample: int | tuple[int, int | None] | None = None,
    semifield: str = "max_plus",
    inner_orientations: int | None = None,
    temperature: Tensor | float | None = None,
) -> Tensor:
    r"""Dilate a signal, :math:`\sup_h u(h) - k(h^{-1} g)`, which solves :math:`\partial_t u = |\nabla u|^{2\alpha}`.

    Sources: Smets et al. (arXiv 2001.09046), section 5.3 (Lax-Oleinik formula); Bellaard et al. (2023) for the
    distances.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space.
        metric: weights ``[C,dim]`` or ``[dim]`` (the cost w_i of a unit step along frame vector i), matrices
            ``G [C,dim,dim]``, or a metric object of :mod:`pdegcnn.kernels` (asymmetric ones on the plane).
        time: length of the step, a positive number.
        alpha: half the power of the gradient, in [1/2, 1].
        kernel_size: samples across the window: odd taps on grids, grid steps on S2 and SO(3), units of length on a
            mesh; one number or one per axis (orientations first), or ``"auto"``: every tap that can attain the
            supremum, by metric, power and range of ``u``. Default: 5 (a radius of (2 pi / 3, 3) on grids and
            (2 pi / 3, 5 / 2) on meshes, at least 5 pi / 16 on S2 and (5 pi / 8, 5 pi / 32) on SO(3)).
        radius: radius of the window in place of ``kernel_size``: in pixels (units of length on volumes), in radians on
            S2 and SO(3), in units of a mesh; or (radians of orientation, that). One number stands for (pi/2, that).
        distance: on grids ``"combined"`` (default), ``"half_angle"``, ``"logarithmic"``, ``"sub_riemannian"``; on S2
            and SO(3) ``"logarithmic"`` (default), ``"tilt_twist"``, or ``"exact"`` for axisymmetric metrics.
        subgrid: on S2 and SO(3) ``"newton"``: one Newton step from the best sample towards the supremum between
            samples, for alpha > 1/2. It is nearer to the supremum, but aliases: several layers on rough signals are
            less equivariant. Together with ``oversample`` it lowers that error too.
        oversample: how many times more finely ``u`` is read, one factor for all axes or (orientations, space); 1 reads
            the samples alone. On grids the supremum over the finer samples is taken at the samples; on SE(2) the
            default also reads the middle of every cell, ``(2, None)`` that of cells between twice as many orientations.
            On S2 and SO(3) over rings the signal is dilated on a finer grid and truncated to the band.
        semifield: ``"max_plus"``, or ``"log_plus"``: a soft maximum over the window,
            :math:`t \log(\sum a e^{(u(h) - k)/t} / \sum a e^{-k/t})` with areas a of points. Its gradient reaches all
            samples. It keeps constants and tends to the maximum for low temperatures t, to the mean for high ones. For
            ``alpha=1`` it solves :math:`\partial_t u = |\nabla u|^2 + t \Delta u` (Cole-Hopf).
        inner_orientations: as in :func:`convection`.
        temperature: t > 0 of log-plus in units of ``u``: a number, or a tensor ``[]`` or ``[C]`` that may need
            gradients.

    Returns:
        A signal like ``u``, nowhere below it (except where the result is truncated to the band, and ``"log_plus"``,
        which stays between the least and greatest value). Points outside the image never count.

    Raises:
        ValueError: for wrong shapes, values out of range, or options that the space does not have.
        TypeError: if ``u`` is not a floating tensor, the metric has another dtype, or ``time`` is a tensor: for a
            gradient in it, multiply the weights by ``time ** (-1 / (2 * alpha))``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> u = torch.tensor([[[[0.0, 0.0, 0.0, 4.0, 0.0]]]])
        >>> pg.functional.dilation(u, pg.R2(), torch.ones(2), alpha=1.0)  # the cost of d pixels is d^2 / 4
        tensor([[[[1.7500, 3.0000, 3.7500, 4.0000, 3.7500]]]])
    """
    options = Options(
        kernel_size=kernel_size,
        radius=radius,
        distance=distance,
        subgrid=subgrid,
        oversample=oversample,
        semifield=semifield,
        inner_orientations=inner_orientations,
    )
    return _morphology(u, space, metric, "dilation", options, time, alpha, +1, temperature)


def erosion(
    u: Tensor,
    space: Space,
    metric: Tensor | Metric,
    *,
    time: float = 1.0,
    alpha: Alpha = 0.65,
    kernel_size: KernelSize | None = None,
    radius: Radius | None = None,
    distance: str | None = None,
    subgrid: str | None = None,
    oversample: int | tuple[int, int | None] | None = None,
    semifield: str = "max_plus",
    inner_orientations: int | None = None,
    temperature: Tensor | float | None = None,
) -> Tensor:
    r"""Erode a signal, :math:`\inf_h u(h) + k(h^{-1} g)`, which is ``-dilation(-u)``.

    Defaults and the windows, distances and subgrids of each space are those of :func:`dilation`.

    Args:
        u: signal laid out as ``space.layout``.
        space: the space.
        metric: cost of a move: weights ``[C,dim]`` or ``[dim]``, matrices ``[C,dim,dim]``, or a metric object.
        time: length of the step, a positive number.
        alpha: half the power of the gradient, in [1/2, 1].
        kernel_size: samples across the window, one number or one per axis, or ``"auto"``: all taps that can count.
        radius: radius of the window in place of ``kernel_size``, in the space's unit of length, or (radians, that).
        distance: approximation of the distance in the kernel.
        subgrid: ``"newton"``, on S2 and SO(3): one Newton step towards the infimum between samples.
        oversample: how many times more finely ``u`` is read, one factor or (orientations, space).
        semifield: ``"max_plus"``, or ``"log_plus"``: a soft minimum over the window.
        inner_orientations: as in :func:`convection`.
        temperature: of log-plus in units of ``u``, positive: a number, or a tensor ``[]`` or ``[C]``.

    Returns:
        A signal like ``u``, nowhere above it, with the exceptions of :func:`dilation`.

    Raises:
        ValueError: for wrong shapes, values out of range, or options that the space does not have.
        TypeError: if ``u`` is not a floating tensor, the metric has another dtype, or ``time`` is a tensor: for a
            gradient in it, multiply the weights by ``time ** (-1 / (2 * alpha))``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> u = torch.rand(1, 1, 8, 9, 9)
        >>> bool((pg.functional.erosion(u, pg.SE2(8), torch.ones(3)) <= u).all())
        True
    """
    options = Options(
        kernel_size=kernel_size,
        radius=radius,
        distance=distance,
        subgrid=subgrid,
        oversample=oversample,
        semifield=semifield,
        inner_orientations=inner_orientations,
    )
    return _morphology(u, space, metric, "erosion", options, time, alpha, -1, temperature)


def _morphology(
    u: Tensor,
    space: Space,
    metric: Tensor | Metric,
    term: str,
    options: Options,
    time: float,
    alpha: Alpha,
    sign: int,
    temperature: Tensor | float | None,
) -> Tensor:
    solver = _solver(u, space, term, options, time)
    alpha = solver.check_power(alpha)
    t = _checks.temperature(temperature, options.semifield or "max_plus", u)
    found = check_metric(metric, space.metric_dim, u)
    if t is None:
        return solver.morphology(u, found, alpha, time, sign)
    return solver.soft_morphology(u, found, alpha, time, sign, t)


def morphological_convolution(
    u: Tensor,
    kernel: Tensor,
    sign: int = +1,
    *,
    semifield: str = "max_plus",
    temperature: Tensor | float | None = None,
) -> Tensor:
    r"""Return ``max(u - k)`` (sign +1) or ``min(u + k)`` (sign -1) over the taps of a kernel that is already turned.

    ``semifield="log_plus"`` takes a soft maximum, :math:`t \log \sum e^{(u - k)/t}`, or a soft minimum,
    :math:`-t \log \sum e^{-(u + k)/t}`, which differ from the sharp ones by at most :math:`t \log N` for N taps. They
    are exact to rounding if the range of u is below 680 t; the sharp values are used where a wider range makes the sums
    underflow. Source: Bellaard et al. (arXiv 2403.15182).

    Args:
        u: signal ``[B,C,Or,H,W]``, or an image ``[B,C,H,W]``.
        kernel: ``[C,Or,KO,KH,KW]``, or ``[C,KH,KW]`` for an image; odd sizes; ``inf`` marks an absent tap.
        sign: +1 or -1.
        semifield: ``"max_plus"`` or ``"log_plus"``.
        temperature: t > 0 of log-plus in units of ``u``: a number, or a tensor ``[]`` or ``[C]`` that may need
            gradients.

    Returns:
        A signal like ``u``. Orientations are periodic; taps outside the image never count; the first of equal taps gets
        the gradient.

    Raises:
        ValueError: for ranks, channels, orientations, sizes, sign or temperature that do not fit.
        TypeError: if the arguments are not floating tensors of one dtype.

    Example:
        >>> import torch, pdegcnn as pg
        >>> flat = torch.zeros(1, 3, 3)
        >>> pg.functional.morphological_convolution(torch.eye(4)[None, None], flat)[0, 0, 0]
        tensor([1., 1., 1., 0.])
    """
    if _is_image(u):
        planes, weights = u.unsqueeze(2), _image_kernel(kernel)
        return _morphological_convolution(planes, weights, sign, semifield=semifield, temperature=temperature).squeeze(
            2
        )
    return _morphological_convolution(u, kernel, sign, semifield=semifield, temperature=temperature)


def group_convolution(
    u: Tensor, kernel: Tensor, boundary: str | None = None, *, padding_mode: str | None = None
) -> Tensor:
    """Correlate a signal with a kernel that is already turned to each orientation (linear group convolution).

    Args:
        u: signal ``[B,C,Or,H,W]``, or an image ``[B,C,H,W]``.
        kernel: depthwise ``[C,Or,KO,KH,KW]`` (``[C,KH,KW]`` for an image), or channel-mixing ``[Cout,C,Or,KO,KH,KW]``;
            odd sizes.
        boundary: outside the image ``"zeros"`` (the default), ``"replicate"`` or ``"periodic"``.
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.

    Returns:
        A signal like ``u``, with ``Cout`` channels for a mixing kernel.

    Raises:
        ValueError: for ranks, channels, orientations, sizes or boundary that do not fit.
        TypeError: if the arguments are not floating tensors of one dtype.
    """
    outside = _checks.border(boundary, padding_mode, "zeros")
    if _is_image(u):
        return _group_convolution(u.unsqueeze(2), _image_kernel(kernel), outside).squeeze(2)
    return _group_convolution(u, kernel, outside)


def _is_image(u: object) -> bool:
    return isinstance(u, Tensor) and u.ndim == 4


def _image_kernel(kernel: Tensor) -> Tensor:
    return _checks.tensor("kernel", kernel, 3, "[C,KH,KW] for an image u [B,C,H,W]")[:, None, None]


def cake_lift(image: Tensor, space: PlanarSpace, part: str = "real") -> Tensor:
    """Return the orientation score of an image by cake wavelets (periodic): ``[B,C,H,W] -> [B,C,Or,H,W]``.

    The real parts sum to the image over the orientations; see :func:`cake_reconstruct`. Orientation theta responds to
    variation along theta, so it detects lines perpendicular to theta (``score.roll(Or // 4, 2)`` has lines along
    theta). Source: Duits et al., *Invertible orientation scores* (2007).

    Args:
        image: ``[B,C,H,W]``.
        space: SE(2), or the plane, which has one wedge: the image itself.
        part: ``"real"`` (lines: equal at theta and theta + pi) or ``"imaginary"`` (edges: opposite signs there).

    Example:
        >>> import torch, pdegcnn as pg
        >>> image, space = torch.rand(1, 1, 8, 8), pg.SE2(8)
        >>> score = pg.functional.cake_lift(image, space)
        >>> torch.allclose(pg.functional.cake_reconstruct(score, space), image, atol=1e-6)
        True
    """
    _checks.signal("image", image, 4, "[B,C,H,W]")
    _checks.kind("space", space, PlanarSpace, PLANAR)
    _checks.choice("part", part, ("real", "imaginary"))
    dtype = wide_dtype(image.dtype)
    windows = cake_windows(space.orientations, *image.shape[-2:]).to(image.device, dtype)
    score = _fft.apply(fft.ifft2, _fft.apply(fft.fft2, image.to(dtype)).unsqueeze(2) * windows)
    return (score.real if part == "real" else score.imag).to(image.dtype)


def cake_reconstruct(score: Tensor, space: PlanarSpace) -> Tensor:
    """Return the image whose :func:`cake_lift` (real part) is ``score``: the sum over orientations, ``[B,C,H,W]``.

    Args:
        score: orientation score ``[B,C,Or,H,W]``.
        space: SE(2) or the plane.
    """
    grid = _checks.kind("space", space, PlanarSpace, PLANAR)
    return grid.to_grid(grid.check_signal("score", score)).sum(2)


def check_projection(space: Space, mode: str, oversample: int) -> None:
    """Raise unless :func:`project` has ``mode`` and ``oversample`` on ``space``."""
    modes = PROJECTIONS if space.base_shape is None else PROJECTIONS[:-1]
    _checks.choice("mode", mode, modes)
    if _checks.positive_int("oversample", oversample) > 1 and mode not in ("max", "dilated"):
        raise ValueError(f"oversample: expected 1 for mode={mode!r}, which is exact, got {oversample}")


def project(
    u: Tensor,
    space: Space,
    mode: str = "max",
    *,
    oversample: int = 1,
    longitudinal: float = 3.0,
    lateral: float = 1.0,
    alpha: float = 2 / 3,
) -> Tensor:
    """Project a lifted signal to the base of its space, ``[B,C,Or,...] -> [B,C,...]``.

    A signal without orientations (on the plane or the sphere) is returned unchanged, unless ``mode`` is ``"dilated"``.

    Args:
        u: signal on ``space``.
        space: the space.
        mode: ``"max"``, ``"mean"`` or ``"norm"`` (root mean square) over orientations; on grids also ``"dilated"``,
            which dilates each orientation along its direction and then takes the maximum
            (anisotropic dilated projection).
        oversample: factor by which orientations are interpolated trigonometrically before the maximum.
        longitudinal: reach of the dilation along an orientation in pixels (a step of that length costs one).
        lateral: reach of the dilation across an orientation in pixels.
        alpha: power of the dilation, in [1/2, 1].

    Raises:
        ValueError: if the space does not have the mode, if a length is not positive, if ``oversample`` is below one, or
            if u is not a signal on ``space``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.functional.project(torch.rand(1, 2, 8, 5, 5), pg.SE2(8)).shape
        torch.Size([1, 2, 5, 5])
    """
    _checks.kind("space", space, Space, "a space").check_signal("u", u)
    check_projection(space, mode, oversample)
    if mode == "dilated":
        u = _dilated_along(u, space, longitudinal, lateral, alpha)
    if not space.has_orientations:
        return u
    if mode == "mean":
        return u.mean(2)
    if mode == "norm":
        return safe_sqrt(widen(u).square().mean(2)).to(u.dtype)  # squares of halves leave their range
    return (u if oversample == 1 else _finer_orientations(u, oversample)).amax(2)


def _dilated_along(u: Tensor, space: Space, longitudinal: float, lateral: float, alpha: float) -> Tensor:
    """Dilate every orientation of u along its own direction."""
    longitudinal = _checks.plain_number("longitudinal", longitudinal, 0.0, float("inf"), open_low=True)
    lateral = _checks.plain_number("lateral", lateral, 0.0, float("inf"), open_low=True)
    weights = [1 / longitudinal, 1 / lateral, 1.0 if space.has_orientations else 1 / lateral][: space.dim]
    metric = Diagonal(torch.tensor([weights], dtype=u.dtype, device=u.device))
    reach = max(1, round(2 * max(longitudinal, lateral)))
    options = Options(radius=(0.0, reach), distance="half_angle", oversample=1)
    solver = _solver(u, space, "dilation", options, 1.0)
    return solver.morphology(u, metric, solver.check_power(alpha), 1.0, +1)  # the metric is valid: no values are read


def _finer_orientations(u: Tensor, factor: int) -> Tensor:
    """Interpolate axis 2 of u to ``factor`` times as many samples, by trigonometric polynomials."""
    count = u.shape[2]
    waves = _fft.apply(fft.rfft, widen(u), dim=2)
    if count % 2 == 0:  # the Nyquist mode is a cosine: half of it belongs to either sign
        waves = torch.cat((waves[:, :, :-1], waves[:, :, -1:] / 2), dim=2)
    return (_fft.apply(fft.irfft, waves, n=factor * count, dim=2) * factor).to(u.dtype)
