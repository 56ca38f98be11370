"""Diffusion of spin fields by the connection Laplacian."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn._typing import Device, DType
from pdegcnn.gauge.features import Features, check_features, real_of
from pdegcnn.ops.shifted_solve import shifted_solve
from pdegcnn.ops.transport_gather.mixing import from_rows, to_rows
from pdegcnn.pde.mesh_stencils import laplacian_stencil, ordered_laplacian
from pdegcnn.spaces import Mesh
from pdegcnn.spaces.mesh_operators import Eigenmodes

METHODS = ("implicit", "spectral")
LONGEST = 30.0
"""Greatest logarithm of a time: on any mesh, only the harmonic part is then left, and products do not overflow."""
TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-9}
"""Residual, relative to the right-hand side, at which the solver stops; it runs in float64."""


class Diffusion(nn.Module):
    r"""Diffusion :math:`\partial_t u = -L_k^\alpha u` by the connection Laplacian, for a learned time of each channel.

    ``"implicit"`` takes one step :math:`(M + t L) u = M u_0`, by preconditioned conjugate gradients in float64 for all
    channels at once; the gradients in u and t are exact (adjoint equation). ``"spectral"`` applies
    :math:`\exp(-t \lambda^\alpha)` to the lowest ``modes`` eigenfunctions of each connected component of the surface,
    and to all that share the last of these eigenvalues. Times are in square units of the mesh. Sources: vector heat
    method (Sharp, Soliman & Crane 2019); learned times: DiffusionNet (arXiv 2012.00888).

    Args:
        channels: number of channels C.
        spin: the spin k that diffuses; features of other spins pass unchanged.
        method: ``"implicit"`` or ``"spectral"``.
        alpha: power in (0, 1]; the implicit step needs 1.
        modes: number of eigenfunctions for each component in the spectral method; see :meth:`pdegcnn.Mesh.modes`.
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
        alpha = _checks.plain_number("alpha", alpha, 0.0, 1.0, open_low=True)
        if method == "implicit" and alpha != 1.0:
            raise ValueError(f"alpha: expected 1 for method='implicit' ('spectral' takes any in (0, 1]), got {alpha}")
        self.alpha, self.modes = alpha, _checks.positive_int("modes", modes)
        self.log_time = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw times log-uniformly between 0.1 and 10 square units."""
        nn.init.uniform_(self.log_time, -math.log(10), math.log(10))

    @property
    def time(self) -> Tensor:
        """The time of each channel, ``[C]``, positive and bounded; float32 for half precision."""
        return widen(self.log_time).clamp_max(LONGEST).exp()

    def forward(self, features: Mapping[int, Tensor], mesh: Mesh) -> Features:
        """Diffuse the features of the layer's spin.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins; other spins than the layer's are
                returned as they are.
            mesh: where the features live.
        """
        fields = check_features("features", features, None, mesh)
        if self.spin not in fields:
            raise ValueError(f"features: expected spin {self.spin} among the spins, got {sorted(fields)}")
        check_features("features", {self.spin: fields[self.spin]}, {self.spin: self.channels}, mesh)
        return {**fields, self.spin: self.solve(fields[self.spin], mesh)}

    def solve(self, u: Tensor, mesh: Mesh) -> Tensor:
        """Diffuse one field ``[B,C,V]``.

        Args:
            u: real for spin 0, complex for other spins.
            mesh: where the field lives.
        """
        if _checks.autocasts(u.device):
            with torch.autocast(u.device.type, enabled=False):
                return self.solve(u, mesh)
        time = self.time.to(wide_dtype(real_of(u.dtype)))
        if self.method == "implicit":
            return implicit_step(u, mesh, self.spin, time)
        return self._spectral(widen(u), mesh, time).to(u.dtype)

    def _spectral(self, u: Tensor, mesh: Mesh, time: Tensor) -> Tensor:
        modes = mesh.modes(self.spin, self.modes, u)
        _, root = laplacian_stencil(mesh, self.spin, u.real if u.is_complex() else u)
        weighted = u * root**2
        if len(modes) == 1:
            return self._decayed(weighted, modes[0], time)
        pieces = [self._decayed(weighted.index_select(2, m.vertices), m, time) for m in modes]
        return torch.empty_like(u).index_copy(2, torch.cat([m.vertices for m in modes]), torch.cat(pieces, dim=2))

    def _decayed(self, weighted: Tensor, modes: Eigenmodes, time: Tensor) -> Tensor:
        """Return what the modes of one piece of the surface make of a field times the vertex areas."""
        decay = torch.exp(-time[:, None] * modes.values.to(time.dtype) ** self.alpha).to(real_of(weighted.dtype))
        functions = modes.functions if self.spin else modes.functions.real
        return (weighted @ functions.conj() * decay) @ functions.mT

    def extra_repr(self) -> str:
        """Return channels, spin and method."""
        return f"{self.channels}, spin={self.spin}, method={self.method!r}, alpha={self.alpha}"


def _checked_spin(spin: object) -> int:
    if isinstance(spin, int) and not isinstance(spin, bool) and spin == 0:
        return spin
    return _checks.positive_int("spin", spin)


def implicit_step(u: Tensor, mesh: Mesh, spin: int, time: Tensor) -> Tensor:
    """Solve ``(M + t L_k) x = M u`` for ``u [B,C,V]`` and times ``[C]``.

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
            "gauge.Diffusion(method='implicit'): expected eager execution, got a trace by torch.jit or make_fx, which "
            "would fix the number of iterations; use method='spectral'"
        )
    stencil, root, order = ordered_laplacian(mesh, spin, torch.empty(0, dtype=torch.float64, device=u.device))
    tolerance = TOLERANCES[wide_dtype(real_of(u.dtype))]
    rows, time = to_rows(u.index_select(2, order)).double(), time.double()
    channels = u.shape[1]
    if spin == 0:  # two real channels as one complex one: rows [B,V,2,C/2], times [2,C/2]
        rows = torch.unflatten(nn.functional.pad(rows, (0, channels % 2)), 2, (2, -1)).contiguous()
        time = nn.functional.pad(time, (0, channels % 2), value=1.0).view(2, -1)
    weight = root[:, None, None]
    solved = shifted_solve(rows * weight, time, stencil, mesh.sizes, tolerance) / weight
    back = order.argsort()
    if spin == 0:
        return solved.flatten(2)[:, :, :channels].transpose(1, 2).index_select(2, back).to(u.dtype)
    return from_rows(solved.index_select(1, back), spin).to(u.dtype)
