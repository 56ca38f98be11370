"""Diffusion of spin fields by the connection Laplacian."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn._typing import Device, DType, Function
from pdegcnn.gauge.features import Features, check_features, real_of
from pdegcnn.ops.transport_gather import Stencil, transport_gather
from pdegcnn.ops.transport_gather.mixing import from_rows, to_rows
from pdegcnn.pde.mesh_stencils import laplacian_stencil
from pdegcnn.spaces import Mesh
from pdegcnn.spaces.mesh_operators import Eigenmodes

METHODS = ("implicit", "spectral")
LONGEST = 30.0
"""Greatest logarithm of a time: nothing but the harmonic part is then left on any mesh, and no product overflows."""
TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-9}
"""Residual, relative to the right-hand side, at which the conjugate gradients stop; they run in float64."""

MORE = 20
"""So many more steps than vertices are allowed for: without rounding, the vertices would do."""


class Diffusion(nn.Module):
    """``u_t = -L_k^alpha u`` with the connection Laplacian, up to a learned time t > 0 for each channel.

    ``"implicit"``: one step ``(M + t L) u = M u0``, by conjugate gradients in float64 for all channels at once; the
    gradients in u and t are exact (adjoint equation). ``"spectral"``: ``exp(-t lambda^alpha)`` on the lowest ``modes``
    eigenfunctions of each connected piece of the surface, and on all that share the eigenvalue of the last of them.
    Time is measured in square units of the mesh. Source: vector heat method (Sharp, Soliman & Crane 2019); learned
    times: DiffusionNet (arXiv 2012.00888).

    Args:
        channels: number of channels C.
        spin: the spin k that diffuses; features of other spins pass unchanged.
        method: ``"implicit"`` or ``"spectral"``.
        alpha: power in (0, 1]; the implicit step needs 1.
        modes: number of eigenfunctions of the spectral method, for each connected piece; :meth:`pdegcnn.Mesh.modes`.
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
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels = _checks.positive_int("channels", channels)
        self.spin = _checked_spin(spin)
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
        """The time of each channel, ``[C]``, positive and at most ``exp(LONGEST)``; float32 for half precision."""
        return widen(self.log_time).clamp_max(LONGEST).exp()

    def forward(self, features: Mapping[int, Tensor], mesh: Mesh) -> Features:
        """Diffuse the features of the layer's spin."""
        fields = check_features("features", features, None, mesh)
        if self.spin not in fields:
            raise ValueError(f"features: expected spin {self.spin} among the spins, got {sorted(fields)}")
        check_features("features", {self.spin: fields[self.spin]}, {self.spin: self.channels}, mesh)
        return {**fields, self.spin: self.solve(fields[self.spin], mesh)}

    def solve(self, u: Tensor, mesh: Mesh) -> Tensor:
        """Diffuse one field ``[B,C,V]``."""
        time = self.time.to(wide_dtype(real_of(u.dtype)))
        return implicit_step(u, mesh, self.spin, time) if self.method == "implicit" else self._spectral(u, mesh, time)

    def _spectral(self, u: Tensor, mesh: Mesh, time: Tensor) -> Tensor:
        modes = mesh.modes(self.spin, self.modes, u)
        _, root = laplacian_stencil(mesh, self.spin, u.real if u.is_complex() else u)
        weighted = u * root**2
        if len(modes) == 1:
            return self._decayed(weighted, modes[0], time)
        pieces = [self._decayed(weighted.index_select(2, m.vertices), m, time) for m in modes]
        return torch.empty_like(u).index_copy(2, torch.cat([m.vertices for m in modes]), torch.cat(pieces, dim=2))

    def _decayed(self, weighted: Tensor, modes: Eigenmodes, time: Tensor) -> Tensor:
        """What the modes of one piece of the surface make of a field times the vertex areas."""
        decay = torch.exp(-time[:, None] * modes.values.to(time.dtype) ** self.alpha).to(real_of(weighted.dtype))
        functions = modes.functions if self.spin else modes.functions.real
        return (weighted @ functions.conj() * decay) @ functions.mT

    def extra_repr(self) -> str:
        """Channels, spin and method."""
        return f"{self.channels}, spin={self.spin}, method={self.method!r}, alpha={self.alpha}"


def _checked_spin(spin: object) -> int:
    if isinstance(spin, int) and not isinstance(spin, bool) and spin == 0:
        return spin
    return _checks.positive_int("spin", spin)


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
    tolerance = TOLERANCES[wide_dtype(real_of(u.dtype))]
    rows, time = to_rows(u).double(), time.double()
    channels = u.shape[1]
    if spin == 0:  # two real channels as one complex one: rows [B,V,2,C/2], times [2,C/2]
        rows = torch.unflatten(nn.functional.pad(rows, (0, channels % 2)), 2, (2, -1)).contiguous()
        time = nn.functional.pad(time, (0, channels % 2), value=1.0).view(2, -1)
    solved: Tensor = _Implicit.apply(rows, time, _System(stencil, root, tolerance, mesh.sizes))
    if spin == 0:
        return solved.flatten(2)[:, :, :channels].transpose(1, 2).to(u.dtype).contiguous()
    return from_rows(solved, spin).to(u.dtype)


class _System:
    """What does not change in the equation: the scaled Laplacian, roots of areas ``[V,1,1]``, how exactly to solve, and
    the vertex counts of the meshes.
    """

    def __init__(self, stencil: Stencil, root: Tensor, tolerance: float, sizes: Sequence[int]) -> None:
        self.stencil, self.weight, self.tolerance, self.sizes = stencil, root[:, None, None], tolerance, sizes

    def solve(self, right: Tensor, time: Tensor) -> Tensor:
        """Solve by :func:`conjugate_gradients`."""
        return conjugate_gradients(right, time, self.stencil, self.tolerance, self.sizes)


class _Implicit(Function):
    """``M^-1/2 (1 + t S)^-1 M^1/2`` on rows ``[B,V,2,C]`` with ``S = M^-1/2 L M^-1/2``; times as in
    :func:`conjugate_gradients`.
    """

    @staticmethod
    def forward(rows: Tensor, time: Tensor, system: _System) -> Tensor:
        return system.solve(rows * system.weight, time) / system.weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, _System], output: Tensor) -> None:
        _, time, ctx.system = inputs
        ctx.save_for_backward(output, time)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        _transforms.refuse_batches("gauge.Diffusion(method='implicit')", *grads)
        solution, time = ctx.saved_tensors
        stencil, weight = ctx.system.stencil, ctx.system.weight
        if torch.is_grad_enabled():  # the adjoint by this function, which can be differentiated again
            adjoint: Tensor = _Implicit.apply(grads[0] / weight**2, time, ctx.system)
            adjoint = adjoint * weight
        else:
            adjoint = ctx.system.solve(grads[0] / weight, time)
        change = (adjoint * _apply(solution * weight, stencil)).sum((0, 1))
        return adjoint * weight, -(change if time.ndim == 2 else change.sum(0)), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], rows: Tensor, time: Tensor, system: _System) -> Any:
        def run(u: Tensor, t: Tensor) -> Tensor:
            return _Implicit.apply(u, t, system)

        return _transforms.loop(run, info.batch_size, in_dims[:2], (rows, time))


def _apply(rows: Tensor, stencil: Stencil) -> Tensor:
    return transport_gather(rows.unsqueeze(2), stencil)


class _Parts:
    """Sums over the vertices of each mesh of a batch, for rows ``[B,V,2,C]``: ``[B,meshes,2,C]``, or ``[B,meshes,1,C]``
    where ``axes`` holds the third one.
    """

    def __init__(self, sizes: Sequence[int], axes: tuple[int, ...], like: Tensor) -> None:
        self.sizes, self.axes = list(sizes), axes
        self.several = len(self.sizes) > 1
        if self.several:
            count = torch.tensor(self.sizes, device=like.device)
            self.part = torch.repeat_interleave(torch.arange(len(self.sizes), device=like.device), count)
            self.most = (count + MORE)[:, None, None]

    def sum(self, rows: Tensor) -> Tensor:
        """The sums; each in the order in which the mesh alone would be summed."""
        if not self.several:
            return rows.sum(self.axes, keepdim=True)
        return torch.cat([p.sum(self.axes, keepdim=True) for p in torch.split(rows, self.sizes, dim=1)], dim=1)

    def spread(self, sums: Tensor) -> Tensor:
        """The number of each mesh at its vertices, to multiply rows by."""
        return sums.index_select(1, self.part) if self.several else sums

    def going(self, wanted: Tensor, steps: int) -> Tensor:
        """Where a system wants to go on and its mesh allows for more steps."""
        return wanted & (self.most > steps) if self.several else wanted


def conjugate_gradients(
    right: Tensor, time: Tensor, stencil: Stencil, tolerance: float, sizes: Sequence[int]
) -> Tensor:
    """Solve ``(1 + t S) x = right`` for rows ``[B,V,2,C]`` to a residual of ``tolerance`` times the right-hand side.

    Every system has its own t, its own step lengths and its own end: complex channels for times ``[C]``, real ones for
    ``[2,C]``, each on every mesh by itself; ``sizes`` are the vertex counts of the meshes. Preconditioned by the
    diagonal.
    """
    parts = _Parts(sizes, (1, 2) if time.ndim == 1 else (1,), right)
    own = torch.repeat_interleave(torch.arange(right.shape[1], device=right.device), stencil.start.diff())
    diagonal = torch.where(own == stencil.columns, stencil.values[:, 0, 0], 0)
    diagonal = torch.zeros_like(right[0, :, 0, 0]).index_add_(0, own, diagonal)[:, None, None]
    inverse = 1 / (1 + time * diagonal)
    x = right * inverse
    residual = right - x - time * _apply(x, stencil)
    step = residual * inverse
    square = parts.sum(residual * step)
    goal = tolerance**2 * parts.sum(right * right)
    for steps in range(max(sizes) + MORE):
        going = parts.going(parts.sum(residual * residual) > goal, steps)
        if not bool(going.any()):  # systems with a NaN stand still and leave the others to go on
            break
        image = step + time * _apply(step, stencil)
        along = parts.sum(step * image)
        length = parts.spread(torch.where(going, square / along.clamp_min(1e-300), 0))
        x = torch.addcmul(x, length, step)
        residual = torch.addcmul(residual, length, image, value=-1)
        near = residual * inverse
        fresh = parts.sum(residual * near)
        step = torch.addcmul(near, parts.spread(fresh / square.clamp_min(1e-300)), step)
        square = fresh
    return x + parts.spread(0 * goal)  # NaN throughout a system whose right-hand side is not finite
