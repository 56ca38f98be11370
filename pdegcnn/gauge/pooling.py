"""Pooling to a coarser mesh and back, for features of any spin and for signals on the bundle of directions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn.gauge.features import Features, check_features, check_mesh
from pdegcnn.pde.mesh_levels import add_up, level_pairs, pool, unpool
from pdegcnn.spaces import Mesh


class MeshPool(nn.Module):
    """Average a signal over the neighbourhoods of the vertices of ``mesh.coarsen(factor)``, transported to them.

    The mean is the adjoint of :class:`MeshUnpool` in the inner product by vertex areas. Constants are kept. So is the
    sum weighted by the coarse vertices' shares of the area (:meth:`areas`). Directions of the bundle are interpolated
    linearly.

    Args:
        factor: ratio of the numbers of vertices, above 1.
        mode: ``"mean"``, or ``"max"`` over the vertices nearest to each coarse one (spin 0 and the bundle only).

    Shape:
        ``forward(signal, mesh)``: features (a dictionary from spin to ``[B,C,V]``) or a signal on the bundle
        ``[B,C,Or,V]``; returns the same with the W vertices of ``mesh.coarsen(factor)``.

    Raises:
        ValueError: for shapes that do not fit the mesh, or for a maximum of spins above 0.
    """

    def __init__(self, factor: float = 4.0, mode: str = "mean") -> None:
        super().__init__()
        self.factor = _checks.plain_number("factor", factor, 1.0, math.inf, open_low=True)
        self.mode = _checks.choice("mode", mode, ("mean", "max"))

    def forward(self, signal: Mapping[int, Tensor] | Tensor, mesh: Mesh) -> Features | Tensor:
        """Pool a signal from ``mesh`` to its coarse mesh.

        Args:
            signal: features (spin -> ``[B,C,V]``) or a signal ``[B,C,Or,V]`` on the V vertices of ``mesh``.
            mesh: the fine mesh.

        Returns:
            The same kind of signal on the vertices of ``mesh.coarsen(factor)``.
        """
        fields = _checked(signal, mesh, mesh)
        if isinstance(fields, Tensor):
            return pool(fields, mesh, self.factor, self.mode)
        if self.mode == "max":
            if set(fields) != {0}:
                raise ValueError(f"signal: expected spin 0 alone for mode='max', got spins {sorted(fields)}")
            return {0: pool(fields[0].unsqueeze(2), mesh.with_orientations(1), self.factor, "max").squeeze(2)}
        count = mesh.coarsen(self.factor).vertex_count
        return {k: self._field(u, k, count, mesh) for k, u in fields.items()}

    def areas(self, mesh: Mesh) -> Tensor:
        """Return the area of ``mesh`` that belongs to each coarse vertex, ``[W]``, in its square units, float64.

        Args:
            mesh: the fine mesh.
        """
        double = torch.empty(0, dtype=torch.float64, device=mesh.areas.device)
        pairs, count = mesh.interpolation(self.factor, double), mesh.coarsen(self.factor).vertex_count
        return double.new_zeros(count).index_add(0, pairs.coarse, pairs.weight * mesh.areas[pairs.fine])

    def _field(self, u: Tensor, spin: int, count: int, mesh: Mesh) -> Tensor:
        wide = widen(u)
        pairs = level_pairs(mesh, self.factor, wide)
        factor = pairs.share * mesh.interpolation(self.factor, wide).transport.conj() ** spin if spin else pairs.share
        return add_up(wide.index_select(2, pairs.fine) * factor, pairs.coarse, count).to(u.dtype)

    def extra_repr(self) -> str:
        """Return the factor and mode."""
        return f"{self.factor}, mode={self.mode!r}"


class MeshUnpool(nn.Module):
    """Interpolate a signal from ``mesh.coarsen(factor)`` to ``mesh``: linearly, with transport.

    Constants are kept, values stay within their bounds (lengths below the greatest), and vertices that belong to both
    meshes keep their values.

    Args:
        factor: as in :class:`MeshPool`.

    Shape:
        ``forward(signal, mesh)``: features or a signal on the bundle over the coarse mesh; returns the same over
        ``mesh``, the fine one.

    Raises:
        ValueError: for shapes that do not fit the coarse mesh.
    """

    def __init__(self, factor: float = 4.0) -> None:
        super().__init__()
        self.factor = _checks.plain_number("factor", factor, 1.0, math.inf, open_low=True)

    def forward(self, signal: Mapping[int, Tensor] | Tensor, mesh: Mesh) -> Features | Tensor:
        """Interpolate a signal to ``mesh``.

        Args:
            signal: features or a signal on the vertices of ``mesh.coarsen(factor)``.
            mesh: the fine mesh.

        Returns:
            The same kind of signal on the vertices of ``mesh``.
        """
        check_mesh(mesh)
        fields = _checked(signal, mesh.coarsen(self.factor), mesh)
        if isinstance(fields, Tensor):
            return unpool(fields, mesh, self.factor)
        return {k: self._field(u, k, mesh) for k, u in fields.items()}

    def _field(self, u: Tensor, spin: int, mesh: Mesh) -> Tensor:
        wide = widen(u)
        pairs = mesh.interpolation(self.factor, wide)
        factor = pairs.weight * pairs.transport**spin if spin else pairs.weight
        return add_up(wide.index_select(2, pairs.coarse) * factor, pairs.fine, mesh.vertex_count).to(u.dtype)

    def extra_repr(self) -> str:
        """Return the factor."""
        return f"{self.factor}"


def _checked(signal: Mapping[int, Tensor] | Tensor, where: Mesh, mesh: Mesh) -> Features | Tensor:
    """Return features or a signal on the bundle that fit the mesh ``where``, else raise."""
    check_mesh(mesh)
    if isinstance(signal, Tensor):
        return where.check_signal("signal", signal)
    return check_features("signal", signal, None, where)
