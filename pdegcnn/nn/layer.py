"""The layer of a PDE-G-CNN: solve an evolution equation per channel, then mix the channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import Factory
from pdegcnn.nn.linear import ChannelLinear
from pdegcnn.nn.normalization import BatchNorm
from pdegcnn.nn.parameters import LearnableAlpha
from pdegcnn.nn.terms import TERMS, check_temperature, is_solved
from pdegcnn.pde import SPLITTINGS, KernelSize, Options, Radius, evolve, solver_class
from pdegcnn.pde.solver import KERNEL_OPTIONS, refuse_unknown
from pdegcnn.pde.splitting import Step
from pdegcnn.spaces import Mesh, Space

METHODS = {"convection": None, "diffusion": None}
USUAL: dict[str, Any] = {"alpha": 0.65, "metric": "diagonal", "learn_alpha": False, **METHODS}
"""Arguments that a layer refuses where they differ from these and no term takes them, as it does options of solvers."""


class LayerOptions(TypedDict, total=False):
    """Options of :class:`PDELayer` that builders of :mod:`pdegcnn.models` pass on to all their layers."""

    radius: Radius | None
    learn_alpha: bool
    distance: str | None
    convection: str | None
    diffusion: str | None
    boundary: str | None
    padding_mode: str | None
    subgrid: str | None
    oversample: int | tuple[int, int | None] | None
    inner_orientations: int | None
    semifield: str
    temperature: float | None
    learn_temperature: bool
    smoothing: Radius | None
    splitting: str
    iterations: int
    batch_norm: bool


class PDELayer(nn.Module):
    r"""Solve :math:`\partial_t u = -cu - (-\Delta)^\alpha u + |\nabla u|^{2\alpha} - |\nabla u|^{2\alpha}` up to t = 1.

    The terms are convection, fractional diffusion, dilation and erosion; their steps are combined by operator
    splitting. The weights of the layer are a left-invariant vector and metrics for every channel. After the last step
    channels are mixed and normalised. The layer commutes with the group of the space, up to sampling. Source: Smets et
    al. (arXiv 2001.09046).

    Args:
        space: the space.
        in_channels: channels C of the input.
        out_channels: channels C' of the output.
        terms: terms in the order of their steps: ``"convection"``, ``"diffusion"``, ``"dilation"``, ``"erosion"``,
            ``"diffusion_shock"`` (see :func:`pdegcnn.functional.diffusion_shock`); on SO(3) also
            ``"convection_diffusion"``, which applies both together.
        kernel_size: samples across the kernels: odd, one for all axes or one per axis, or ``"auto"``; None: the
            solver's default. See :func:`pdegcnn.functional.dilation`.
        radius: radius of the kernels in physical units, in place of ``kernel_size``.
        alpha: half the power of the gradient and the power of the Laplacian; [1/2, 1] with dilation or erosion, (0, 1]
            otherwise.
        learn_alpha: learn one alpha for the layer, starting from ``alpha``.
        metric: form of the metrics: ``"diagonal"`` or ``"spd"``; on the plane also ``"finsler"`` or ``"randers"``
            (diffusion and diffusion-shock then use ``"spd"``, because they need a symmetric metric).
        distance: approximation of the distance in the kernels; None: the solver's default.
        convection: method of the convection solver, ``"cubic"``, ``"linear"`` or ``"spectral"`` on grids,
            ``"spectral"`` or ``"galerkin"`` on SO(3).
        diffusion: method of the diffusion solver, ``"kernel"`` or ``"spectral"`` on grids.
        boundary: outside the domain of a grid: ``"replicate"``, ``"zeros"``, ``"periodic"``.
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.
        subgrid: on S2 and SO(3) ``"newton"`` reads dilation and erosion between samples, which lowers the equivariance
            error of one layer, at several times the cost.
        oversample: how many times more finely dilation and erosion read their input, one factor or
            (orientations, space): lowers the equivariance error; see :func:`pdegcnn.functional.dilation`.
        inner_orientations: on SE(2) the number of orientations, more than the space's, on which the terms are solved:
            with ``oversample`` lowers the equivariance error at angles between the grid's; see
            :func:`pdegcnn.functional.convection`.
        semifield: ``"max_plus"`` or ``"log_plus"``: dilation and erosion take a soft maximum; see
            :func:`pdegcnn.functional.dilation`.
        temperature: softness of log-plus, positive, in units of the signal.
        learn_temperature: learn a temperature for each channel of each term, starting from ``temperature``.
        smoothing: standard deviation of the Gaussian before the derivatives of diffusion-shock; see
            :func:`pdegcnn.functional.gradient_norm`.
        splitting: ``"lie"`` (first order) or ``"strang"`` (second order).
        iterations: number of splitting steps.
        batch_norm: normalise the output; otherwise the mixing has a bias.
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C',...]`` laid out as ``space.layout``.

    Raises:
        ValueError: for unknown or repeated terms, options out of range, a term that the space does not support, or an
            option that no term takes.
        TypeError: for an argument of the wrong type, such as a tensor as ``alpha``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> space = pg.SE2(8)
        >>> layer = pg.nn.PDELayer(space, 4, 6, terms=("convection", "dilation", "erosion"))
        >>> layer(torch.rand(2, 4, 8, 16, 16)).shape
        torch.Size([2, 6, 8, 16, 16])
        >>> sum(p.numel() for p in layer.parameters())
        72
    """

    def __init__(
        self,
        space: Space,
        in_channels: int,
        out_channels: int,
        terms: Sequence[str] = ("convection", "diffusion", "dilation", "erosion"),
        *,
        kernel_size: KernelSize | None = None,
        radius: Radius | None = None,
        alpha: float = 0.65,
        learn_alpha: bool = False,
        metric: str = "diagonal",
        distance: str | None = None,
        convection: str | None = None,
        diffusion: str | None = None,
        boundary: str | None = None,
        padding_mode: str | None = None,
        subgrid: str | None = None,
        oversample: int | tuple[int, int | None] | None = None,
        inner_orientations: int | None = None,
        semifield: str = "max_plus",
        temperature: float | None = None,
        learn_temperature: bool = False,
        smoothing: Radius | None = None,
        splitting: str = "lie",
        iterations: int = 1,
        batch_norm: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _checks.kind("space", space, Space, "a space")
        _check_terms(terms)
        _checks.flag("learn_alpha", learn_alpha)
        _checks.flag("batch_norm", batch_norm)
        if isinstance(alpha, Tensor):
            got = f"a tensor of shape {tuple(alpha.shape)}"
            raise TypeError(f"alpha: expected a number (with learn_alpha=True it is learned from there), got {got}")
        _checks.interval("alpha", alpha, 0.0, 1.0, open_low=True)
        factory: Factory = {"device": device, "dtype": dtype}
        self.space = space
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.splitting = _checks.choice("splitting", splitting, tuple(SPLITTINGS))
        self.iterations = _checks.positive_int("iterations", iterations)
        self.power = LearnableAlpha(alpha, **factory) if learn_alpha else None
        outside = _checks.border(boundary, padding_mode)
        options = Options(
            kernel_size=kernel_size,
            radius=radius,
            distance=distance,
            boundary=outside,
            subgrid=subgrid,
            oversample=oversample,
            inner_orientations=inner_orientations,
            semifield=semifield,
            smoothing=smoothing,
        )
        check_temperature(semifield, temperature, learn_temperature)
        methods = {"convection": convection, "diffusion": diffusion}
        _refuse_idle(space, terms, options, {"alpha": alpha, "metric": metric, "learn_alpha": learn_alpha, **methods})
        taken = _taken(space, terms, options, methods)
        self.terms = nn.ModuleDict()
        for name in terms:
            # what no term takes is left to a solver, which refuses it in its own words
            names = set(_options(name, space)[name]) - (taken - _taken(space, [name], options, methods))
            given: dict[str, Any] = {key: v for key, v in options.given().items() if key in names}
            given |= {} if methods.get(name) is None else {"method": methods[name]}
            temperatures = {"temperature": temperature, "learn_temperature": learn_temperature}
            self.terms[name] = self._term(name, given, alpha, metric, temperatures, factory)
        self.mix = ChannelLinear(in_channels, out_channels, bias=not batch_norm, **factory)
        self.norm = BatchNorm(out_channels, space, **factory) if batch_norm else None

    def _term(
        self,
        name: str,
        given: dict[str, Any],
        alpha: float,
        metric: str,
        temperatures: dict[str, Any],
        factory: Factory,
    ) -> nn.Module:
        """Return a term with the solver's options that are given, and those of the others that it has."""
        takes = signature(TERMS[name]).parameters
        if "alpha" in takes:
            given["alpha"] = alpha
        if "metric" in takes:
            given["metric"] = "spd" if "diffusion" in name and metric in ("finsler", "randers") else metric
        given |= {option: value for option, value in temperatures.items() if option in takes}
        term = TERMS[name](self.space, self.in_channels, **given, **factory)
        if self.power is not None and "alpha" in takes:
            # one power serves all terms; past nn.Module's registration, so that the state holds it once
            term.__dict__["alpha"] = self.power
        return term

    def reset_parameters(self) -> None:
        """Draw all parameters again."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()

    def forward(self, u: Tensor, mesh: Mesh | None = None) -> Tensor:
        """Solve the equation from ``u``, mix channels and normalise; ``mesh`` replaces the constructor's mesh.

        Args:
            u: a signal ``[B,C,...]`` laid out as ``space.layout``.
            mesh: on meshes, where ``u`` lives, if that is another mesh than the layer was built for.
        """
        (mesh if isinstance(self.space, Mesh) and isinstance(mesh, Mesh) else self.space).check_signal("u", u)
        if u.shape[1] != self.in_channels:
            _checks.channels("u", u, self.in_channels, self.space.layout)
        steps: list[Step] = list(self.terms.values())
        if mesh is not None:
            steps = [partial(term, mesh=mesh) for term in self.terms.values()]
        u = self.mix(evolve(u, steps, self.splitting, self.iterations))
        return u if self.norm is None else self.norm(u)

    def extra_repr(self) -> str:
        """Return the space, channels and splitting."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, {self.splitting!r}, iterations={self.iterations}"
        )


def _check_terms(terms: object) -> None:
    """Raise unless ``terms`` is a sequence of different words."""
    given = cast("Sequence[object]", terms if isinstance(terms, Sequence) and not isinstance(terms, str) else ())
    if not given or not all(isinstance(term, str) for term in given) or len(set(given)) < len(given):
        raise ValueError(f"terms: expected a sequence of different terms, got {terms!r}")


def _options(term: str, space: Space) -> Mapping[str, Collection[str]]:
    """Return the names of the options of a term by its name, and of the terms that its solver solves too.

    A term without a solver, which acts on every space, has the options of its constructor.
    """
    if term in TERMS and not is_solved(TERMS[term]):
        return {term: signature(TERMS[term]).parameters}
    return solver_class(space, term).OPTIONS


def _taken(space: Space, terms: Sequence[str], options: Options, methods: Mapping[str, str | None]) -> set[str]:
    """Return the names of solvers' options that some of the terms use; spectral ones have neither kernel nor border."""
    taken: set[str] = set()
    for term in terms:
        names = set(_options(term, space)[term])
        if methods.get(term) == "spectral":
            names -= {*KERNEL_OPTIONS, *(() if options.boundary == "periodic" else ("boundary",))}
        taken |= names
    return taken


def _arguments_taken(terms: Sequence[str]) -> set[str]:
    """Return the names among those of ``USUAL`` that some of the terms use."""
    taken = {name for term in terms for name in ("alpha", "metric") if name in signature(TERMS[term]).parameters}
    taken |= {name for name in METHODS if name in terms}
    return taken | {"learn_alpha"} if "alpha" in taken else taken


def _refuse_idle(space: Space, terms: Sequence[str], options: Options, arguments: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for an option that no term has."""
    known = {name for term in terms for name in _options(term, space)[term]}
    refuse_unknown(options, known, ", ".join(terms), space)
    taken = _arguments_taken(terms)
    for name, value in arguments.items():
        if name not in taken and value != USUAL[name]:
            raise ValueError(f"{name}: expected {USUAL[name]!r} for {', '.join(terms)} on {space}, got {value!r}")


def usual_options(space: Space, terms: Sequence[str], usual: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Return a builder's options of layers: those given, and of its usual ones those that some term takes.

    Args:
        space: the space.
        terms: terms of the layers.
        usual: options that the builder has where the caller says nothing.
        given: what the caller gave, perhaps the usual values.
    """
    _check_terms(terms)
    merged = {**usual, **given}
    wanted = Options(boundary=_checks.border(merged.get("boundary"), merged.get("padding_mode")))
    taken = _taken(space, terms, wanted, {name: merged.get(name) for name in METHODS})
    taken |= _arguments_taken(terms)
    return {n: v for n, v in merged.items() if n in taken or n not in usual or v != usual[n]}
