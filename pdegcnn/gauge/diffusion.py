"""Diffusion of spin fields by the connection Laplacian."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks, _transforms
from pdegcnn.gauge.features import Features, check_features, real_of
from pdegcnn.ops.transport_gather import Stencil, transport_gather
from pdegcnn.ops.transport_gather.mixing import from_rows, to_rows
from pdegcnn.ops.transport_gather.stencils import laplacian_stencil
from pdegcnn.spaces import Mesh

METHODS = ("implicit", "spectral")
TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-9}
"""Residual, relative to the right-hand side, at which the conjugate gradients stop; they run in float64."""


class Diffusion(nn.Module):
    """``u_t = -L_k^alpha u`` with the connection Laplacian, up to a learned time t > 0 for each channel.

    ``"implicit"``: one step ``(M + t L) u = M u0``, by conjugate gradients in float64 for all channels at once; the
    gradients in u and t are exact (adjoint equation). ``"spectral"``: ``exp(-t lambda^alpha)`` on the lowest ``modes``
    eigenfunctions. Time is measured in square units of the mesh. Source: vector heat method (Sharp, Soliman & Crane
    2019); learned times: DiffusionNet (arXiv 2012.00888).

    Args:
        channels: number of channels C.
        spin: the spin k that diffuses; features of other spins pass unchanged.
        method: ``"implicit"`` or ``"spectral"``.
        alpha: power in (0, 1]; the implicit step needs 1.
        modes: number of eigenfunctions of the spectral method.
        device: where the parameters live.
        dtype: their real dtype.

    Shape:
        ``forward({k: u, ...}, mesh)``: ``[B,C,V] -> [B,C,V]``.
    """

    def __init__(
        self,
        channels: int,
        spin: int = 1,
        *,
        method: str = "implicit",
        alpha: float = 1.0,
        modes: int = 64,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.channels = _checks.positive_int("channels", channels)
        if isinstance(spin, bool) or not isinstance(spin, int) or spin != 0:
            _checks.positive_int("spin", spin)
        self.spin = spin
        self.method = _checks.choice("method", method, METHODS)
        _checks.interval("alpha", alpha, 0.0, 1.0, open_low=True)
        if method == "implicit" and alpha != 1.0:
            raise ValueError(f"alpha: expected 1 for method='implicit' ('spectral' takes any in (0, 1]), got {alpha}")
        self.alpha, self.modes = float(alpha), _checks.positive_int("modes", modes)
        self.log_time = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Times log-uniform between a tenth of a square unit and ten."""
        nn.init.uniform_(self.log_time, -math.log(10), math.log(10))

    @property
    def time(self) -> Tensor:
        """The time of each channel, ``[C]``, positive."""
        return self.log_time.exp()

    def forward(self, features: Mapping[int, Tensor], mesh: Mesh) -> Features:
        """Diffuse the features of the layer's spin."""
        fields = check_features("features", features, None, mesh)
        if self.spin not in fields:
            raise ValueError(f"features: expected spin {self.spin} among the spins, got {sorted(fields)}")
        check_features("features", {self.spin: fields[self.spin]}, {self.spin: self.channels}, mesh)
        return {**fields, self.spin: self.solve(fields[self.spin], mesh)}

    def solve(self, u: Tensor, mesh: Mesh) -> Tensor:
        """Diffuse one field ``[B,C,V]``."""
        time = self.time.to(real_of(u.dtype))
        return implicit_step(u, mesh, self.spin, time) if self.method == "implicit" else self._spectral(u, mesh, time)

    def _spectral(self, u: Tensor, mesh: Mesh, time: Tensor) -> Tensor:
        values, functions = mesh.eigenbasis(self.spin, self.modes, u)
        _, root = laplacian_stencil(mesh, self.spin, u.real if u.is_complex() else u)
        decay = torch.exp(-time[:, None] * values.to(time.dtype) ** self.alpha)
        functions = functions if self.spin else functions.real
        return ((u * root**2) @ functions.conj() * decay) @ functions.mT

    def extra_repr(self) -> str:
        """Channels, spin and method."""
        return f"{self.channels}, spin={self.spin}, method={self.method!r}, alpha={self.alpha}"


def implicit_step(u: Tensor, mesh: Mesh, spin: int, time: Tensor) -> Tensor:
    """The solution of ``(M + t L_k) x = M u`` for ``u [B,C,V]`` and times ``[C]``.

    Differentiable in both, any number of times, in reverse mode.
    """
    if _transforms.has_tangent(u, time):
        raise NotImplementedError(
            "gauge.Diffusion(method='implicit'): expected a derivative in reverse mode, got one in forward mode "
            "(torch.func.jvp, jacfwd, hessian, linearize, dual numbers); use torch.func.jacrev, also twice, or "
            "method='spectral'"
        )
    if _transforms.hides_values():
        raise RuntimeError(
            "gauge.Diffusion(method='implicit'): expected to be run, got a trace by torch.jit or make_fx, which would "
            "keep the number of iterations of one input; use method='spectral'"
        )
    stencil, root = laplacian_stencil(mesh, spin, torch.empty(0, dtype=torch.float64, device=u.device))
    tolerance = TOLERANCES[torch.promote_types(real_of(u.dtype), torch.float32)]
    rows, time = to_rows(u).double(), time.double()
    channels = u.shape[1]
    if spin == 0:  # two real channels as one complex one: rows [B,V,2,C/2], times [2,C/2]
        rows = nn.functional.pad(rows, (0, channels % 2)).unflatten(2, (2, -1)).contiguous()
        time = nn.functional.pad(time, (0, channels % 2), value=1.0).view(2, -1)
    solved: Any = _Implicit.apply(rows, time, _System(stencil, root, tolerance))
    if spin == 0:
        return solved.flatten(2)[:, :, :channels].transpose(1, 2).to(u.dtype).contiguous()
    return from_rows(solved, spin).to(u.dtype)


class _System:
    """What does not change in the equation: the scaled Laplacian, roots of areas ``[V,1,1]``, how exactly to solve."""

    def __init__(self, stencil: Stencil, root: Tensor, tolerance: float) -> None:
        self.stencil, self.weight, self.tolerance = stencil, root[:, None, None], tolerance


class _Implicit(torch.autograd.Function):
    """``M^-1/2 (1 + t S)^-1 M^1/2`` on rows ``[B,V,2,C]`` with ``S = M^-1/2 L M^-1/2``; times as in
    :func:`conjugate_gradients`.
    """

    @staticmethod
    def forward(rows: Tensor, time: Tensor, system: _System) -> Tensor:
        return conjugate_gradients(rows * system.weight, time, system.stencil, system.tolerance) / system.weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, _System], output: Tensor) -> None:
        _, time, ctx.system = inputs
        ctx.save_for_backward(output, time)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        _transforms.refuse_batches("gauge.Diffusion(method='implicit')", *grads)
        solution, time = ctx.saved_tensors
        stencil, weight, tolerance = ctx.system.stencil, ctx.system.weight, ctx.system.tolerance
        if torch.is_grad_enabled():  # the adjoint by this function, which can be differentiated again
            adjoint: Any = _Implicit.apply(grads[0] / weight**2, time, ctx.system)
            adjoint = adjoint * weight
        else:
            adjoint = conjugate_gradients(grads[0] / weight, time, stencil, tolerance)
        change = (adjoint * _apply(solution * weight, stencil)).sum((0, 1))
        return adjoint * weight, -(change if time.ndim == 2 else change.sum(0)), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], rows: Tensor, time: Tensor, system: _System) -> Any:
        run = lambda u, t: _Implicit.apply(u, t, system)  # noqa: E731
        return _transforms.loop(run, info.batch_size, in_dims[:2], (rows, time))


def _apply(rows: Tensor, stencil: Stencil) -> Tensor:
    return transport_gather(rows.unsqueeze(2), stencil)


def conjugate_gradients(right: Tensor, time: Tensor, stencil: Stencil, tolerance: float) -> Tensor:
    """Solve ``(1 + t S) x = right`` for rows ``[B,V,2,C]`` to a residual of ``tolerance`` times the right-hand side.

    Every system has its own t and its own step lengths: complex channels for times ``[C]``, real ones for ``[2,C]``.
    Preconditioned by the diagonal.
    """
    axes = (1, 2) if time.ndim == 1 else (1,)
    own = torch.repeat_interleave(torch.arange(right.shape[1], device=right.device), stencil.start.diff())
    diagonal = torch.where(own == stencil.columns, stencil.values[:, 0, 0], 0)
    diagonal = torch.zeros_like(right[0, :, 0, 0]).index_add_(0, own, diagonal)[:, None, None]
    inverse = 1 / (1 + time * diagonal)
    x = right * inverse
    residual = right - x - time * _apply(x, stencil)
    step = residual * inverse
    square = (residual * step).sum(axes, keepdim=True)
    goal = tolerance**2 * (right * right).sum(axes, keepdim=True)
    for _ in range(right.shape[1] + 20):
        left = (residual * residual).sum(axes, keepdim=True)
        if not bool((left > goal).any()):  # systems with a NaN stand still and leave the others to go on
            break
        image = step + time * _apply(step, stencil)
        along = (step * image).sum(axes, keepdim=True)
        length = torch.where(left > goal, square / along.clamp_min(1e-300), 0)
        x = torch.addcmul(x, length, step)
        residual = torch.addcmul(residual, length, image, value=-1)
        near = residual * inverse
        fresh = (residual * near).sum(axes, keepdim=True)
        step = torch.addcmul(near, fresh / square.clamp_min(1e-300), step)
        square = fresh
    return x + 0 * goal  # NaN throughout a system whose right-hand side is not finite
