"""Gauge-equivariant convolution between spins."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn._typing import Device, DType, Factory
from pdegcnn.gauge.features import Features, check_features, check_spins, in_precision
from pdegcnn.ops.transport_gather import transport_gather
from pdegcnn.ops.transport_gather.mixing import from_rows, mix, to_rows
from pdegcnn.pde.mesh_stencils import filter_stencil, intertwiner_count
from pdegcnn.spaces import Mesh


class GaugeConv(nn.Module):
    r"""Gauge-equivariant convolution: neighbours are transported to each vertex and weighted by equivariant kernels.

    .. math:: out_v = W f_v + \sum_w K(r_w, \theta_w)\, \rho_{w \to v} f_w

    A kernel from spin m to n that does not depend on the reference direction is :math:`R(r)\, e^{i (n-m) \theta}` times
    a complex weight for the transported field, and :math:`R(r)\, e^{i (n+m) \theta}` for its conjugate. Channels are
    mixed before neighbours are gathered, so nothing of the size of the edges is kept for the backward pass. Sources:
    gauge equivariant mesh CNNs (arXiv 2003.05425); Gerken et al. (arXiv 2105.13926).

    Args:
        in_channels: channels for each spin of the input, such as ``{0: 8, 1: 8}``.
        out_channels: channels for each spin of the output.
        radius: neighbours within this geodesic distance in units of the mesh; None: those that share an edge.
        radial: number of radial profiles R; 1: constant.
        bias: add a learned constant to spin 0.
        device: where the parameters live.
        dtype: their real dtype.

    Shape:
        ``forward(features, mesh)``: spin 0 real ``[B,C,V]``, spin k complex ``[B,C,V]``; returns the spins of the
        output in the same layout. The mesh may change from call to call.

    Raises:
        ValueError: for spins, channels or vertices that do not fit.
        TypeError: if spin 0 is not real, another spin is not complex, or the precision differs from that of the
            weights.

    Example:
        >>> import torch, pdegcnn as pg
        >>> mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(1))
        >>> conv = pg.gauge.GaugeConv({0: 2}, {0: 3, 1: 3})
        >>> {spin: tuple(u.shape) for spin, u in conv({0: torch.rand(1, 2, 42)}, mesh).items()}
        {0: (1, 3, 42), 1: (1, 3, 42)}
    """

    def __init__(
        self,
        in_channels: Mapping[int, int],
        out_channels: Mapping[int, int],
        *,
        radius: float | None = None,
        radial: int = 1,
        bias: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.in_channels = check_spins("in_channels", in_channels)
        self.out_channels = check_spins("out_channels", out_channels)
        if radius is not None:
            radius = _checks.plain_number("radius", radius, 0.0, math.inf, open_low=True)
        self.radius, self.radial = radius, _checks.positive_int("radial", radial)
        factory: Factory = {"device": device, "dtype": dtype}
        self.weights, self.centres = nn.ParameterDict(), nn.ParameterDict()
        for n, wide in self.out_channels.items():
            for m, channels in self.in_channels.items():
                parts = 1 if m == n == 0 else 2
                shape = (intertwiner_count(m, n) * radial, wide, channels, parts)
                self.weights[f"{m}to{n}"] = nn.Parameter(torch.empty(shape, **factory))
            if n in self.in_channels:
                self.centres[str(n)] = nn.Parameter(torch.empty(wide, self.in_channels[n], 2 if n else 1, **factory))
        has_bias = _checks.flag("bias", bias) and 0 in self.out_channels
        self.bias = nn.Parameter(torch.empty(self.out_channels[0], **factory)) if has_bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly with a variance that keeps the scale of smooth fields; set the bias to zero."""
        for n in self.out_channels:
            own = [w for key, w in self.weights.items() if key.endswith(f"to{n}")]
            own += [self.centres[str(n)]] if str(n) in self.centres else []
            inputs = sum(w.numel() // w.shape[-3 if w.ndim == 4 else 0] for w in own)
            for w in own:
                nn.init.uniform_(w, -math.sqrt(3 / inputs), math.sqrt(3 / inputs))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, features: Mapping[int, Tensor], mesh: Mesh) -> Features:
        """Convolve the features on ``mesh``.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins; the spins of ``in_channels``.
            mesh: where the features live; its reference directions are those of the features.

        Returns:
            Features of the spins and channels of ``out_channels`` in the same layout.
        """
        weight = next(iter(self.weights.values()))
        fields = check_features("features", features, self.in_channels, mesh, weight)
        if _checks.autocasts(weight.device):
            with torch.autocast(weight.device.type, enabled=False):  # factors of neighbours need the weights' precision
                return self._convolve(fields, mesh, weight.dtype)
        return self._convolve(fields, mesh, weight.dtype)

    def _convolve(self, fields: Features, mesh: Mesh, dtype: torch.dtype) -> Features:
        fields = in_precision(fields, wide_dtype(dtype))  # half precision has no stencils
        rows = {m: to_rows(fields[m]) for m in self.in_channels}
        out: Features = {}
        for n in self.out_channels:
            parts = [self._gather(rows[m], m, n, mesh) for m in self.in_channels]
            if n in self.in_channels:
                parts.append(mix(rows[n], widen(self.centres[str(n)])[None], conjugate=False)[:, :, 0])
            out[n] = from_rows(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0], n)
        if self.bias is not None:
            out[0] = out[0] + self.bias[:, None]
        return in_precision(out, dtype)

    def _gather(self, rows: Tensor, m: int, n: int, mesh: Mesh) -> Tensor:
        stencil = filter_stencil(mesh, m, n, self.radius, self.radial, rows)
        mixed = mix(rows, widen(self.weights[f"{m}to{n}"]), conjugate=intertwiner_count(m, n) == 2)
        return transport_gather(mixed, stencil)

    def extra_repr(self) -> str:
        """Return channels and neighbourhood."""
        return f"{self.in_channels}, {self.out_channels}, radius={self.radius}, radial={self.radial}"
