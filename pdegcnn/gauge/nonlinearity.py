"""Nonlinearities and normalisation that commute with changes of gauge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks, _fft
from pdegcnn._dtypes import widen
from pdegcnn._modules import parameter
from pdegcnn._typing import Device, DType, Factory, fft
from pdegcnn.gauge.features import Features, check_features, check_spins
from pdegcnn.nn._processes import Normalisation, StandIn, sum_over
from pdegcnn.nn.normalization import BatchNorm


class _Pointwise(nn.Module):
    """A layer at each vertex by itself; it needs no mesh and takes features of the spins in ``channels``."""

    def __init__(self, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.channels = check_spins("channels", channels)

    def _one_width(self) -> int:
        widths = set(self.channels.values())
        if len(widths) > 1:
            raise ValueError(f"channels: expected the same number of channels for every spin, got {self.channels}")
        return widths.pop()

    def extra_repr(self) -> str:
        """Return channels."""
        return f"{self.channels}"


class NormReLU(_Pointwise):
    r"""ReLU of the length, :math:`z \mapsto z \max(|z| + b, 0)/|z|`, with a bias for each channel; for spin 0 of x + b.

    Exactly equivariant. Source: harmonic networks (arXiv 1612.04642).

    Args:
        channels: number of channels of each spin, ``{spin: count}``.
        device: where the parameters live.
        dtype: their real dtype.
    """

    def __init__(self, channels: Mapping[int, int], *, device: Device = None, dtype: DType = None) -> None:
        super().__init__(channels)
        factory: Factory = {"device": device, "dtype": dtype}
        self.bias = nn.ParameterDict(
            {str(k): nn.Parameter(torch.empty(c, **factory)) for k, c in self.channels.items()}
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the bias to zero for spin 0 and to a small threshold for other spins."""
        for spin, bias in self.bias.items():
            nn.init.constant_(bias, -0.01 if int(spin) else 0.0)

    def forward(self, features: Mapping[int, Tensor]) -> Features:
        """Apply the nonlinearity at each vertex.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins.
        """
        out: Features = {}
        weight = next(iter(self.bias.values()))
        for spin, z in check_features("features", features, self.channels, weight=weight).items():
            bias, size = self.bias[str(spin)][:, None], length(z) if spin else z
            factor = torch.relu(size + bias)
            out[spin] = (z * (factor / size)).to(z.dtype) if spin else factor
        return out


class GatedNonlinearity(_Pointwise):
    """Multiply fields by the sigmoid of learned affine combinations of spin 0; apply a ReLU to spin 0. Equivariant.

    Args:
        channels: number of channels of each spin, ``{spin: count}``.
        device: where the parameters live.
        dtype: their real dtype.
    """

    def __init__(self, channels: Mapping[int, int], *, device: Device = None, dtype: DType = None) -> None:
        super().__init__(channels)
        if 0 not in self.channels:
            raise ValueError(f"channels: expected spin 0 for the gates, got spins {sorted(self.channels)}")
        total = sum(c for spin, c in self.channels.items() if spin)
        self.gates = nn.Conv1d(self.channels[0], max(total, 1), 1, device=device, dtype=dtype)

    def forward(self, features: Mapping[int, Tensor]) -> Features:
        """Apply the nonlinearity at each vertex.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins; spin 0 must be among them.
        """
        fields = check_features("features", features, self.channels, weight=self.gates.weight)
        gates, first = torch.sigmoid(self.gates(fields[0])), 0
        out = {0: torch.relu(fields[0])}
        for spin, channels in self.channels.items():
            if spin:
                out[spin] = fields[spin] * gates[:, first : first + channels]
                first += channels
        return out


class TensorProduct(_Pointwise):
    r"""Add products of channels to features: :math:`f_s + \sum w\, f_m f_n` over all m + n = s or m - n = s.

    For differences the second factor is conjugated. Exactly equivariant. All spins have the same number of channels,
    and products are taken channel by channel. The result is a polynomial of degree two: keep inputs near unit scale,
    for example by :class:`SpinNorm`.

    Args:
        channels: number of channels of each spin, ``{spin: count}``; all counts are equal.
        device: where the parameters live.
        dtype: their real dtype.
    """

    def __init__(self, channels: Mapping[int, int], *, device: Device = None, dtype: DType = None) -> None:
        super().__init__(channels)
        width, spins = self._one_width(), list(self.channels)
        self.terms = [(m, n, m + n, +1) for m in spins for n in spins if m <= n and m + n in spins]
        self.terms += [(m, n, m - n, -1) for m in spins for n in spins if 0 < n <= m and m - n in spins]
        self.weight = nn.Parameter(torch.empty(len(self.terms), width, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly, so that the products of a spin have about half its variance."""
        bound = math.sqrt(1.5 * len(self.channels) / max(len(self.terms), 1))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: Mapping[int, Tensor]) -> Features:
        """Apply the product at each vertex.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins; the same C for all.
        """
        given = check_features("features", features, self.channels, weight=self.weight)
        fields = {spin: widen(z) for spin, z in given.items()}
        out = dict(fields)
        for (m, n, s, sign), weight in zip(self.terms, self.weight):
            product = fields[m] * (fields[n] if sign > 0 else fields[n].conj())
            if s == 0 and product.is_complex():
                product = product.real
            out[s] = out[s] + weight[:, None] * product
        return {spin: out[spin].to(z.dtype) for spin, z in given.items()}


class RegularReLU(_Pointwise):
    """ReLU of the field as a function of direction: sample it at N angles, apply the ReLU, return to spins.

    Equivariant under changes of gauge by multiples of ``2 pi / N``. For others the error falls with N, because the ReLU
    adds spins that alias on N samples. Source: gauge equivariant mesh CNNs (arXiv 2003.05425), section 5.

    Args:
        channels: channels for each spin, all equal.
        samples: number N of angles, more than twice the highest spin.
    """

    def __init__(self, channels: Mapping[int, int], samples: int = 7) -> None:
        super().__init__(channels)
        self._one_width()
        self.samples = _checks.positive_int("samples", samples)
        if samples <= 2 * max(self.channels):
            raise ValueError(
                f"samples: expected more than {2 * max(self.channels)} for spin {max(self.channels)}, got {samples}"
            )

    def forward(self, features: Mapping[int, Tensor]) -> Features:
        """Apply the nonlinearity at each vertex.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins; the same C for all.
        """
        fields = check_features("features", features, self.channels)
        u = torch.relu(to_directions({spin: widen(z) for spin, z in fields.items()}, self.samples))
        return {spin: z.to(fields[spin].dtype) for spin, z in from_directions(u, list(self.channels)).items()}


class SpinNorm(Normalisation, _Pointwise):
    """Batch norm for spin 0; division by the root mean square and a scale for other spins, which keeps directions.

    Running means are kept for evaluation, as in ``torch.nn.BatchNorm1d``. After
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` they are averaged over all processes.

    Args:
        channels: number of channels of each spin, ``{spin: count}``.
        eps: positive number added to the mean square.
        momentum: weight of the current batch in the running means, in [0, 1].
        device: where the parameters live.
        dtype: their real dtype.
    """

    def __init__(
        self,
        channels: Mapping[int, int],
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(channels)
        _checks.number("eps", eps, 0.0, math.inf, open_low=True)
        _checks.number("momentum", momentum, 0.0, 1.0)
        self.eps = eps
        self.momentum: float | None = momentum
        factory: Factory = {"device": device, "dtype": dtype}
        scalars = self.channels.get(0)
        self.scalar = BatchNorm(scalars, eps=eps, momentum=momentum, **factory) if scalars else None
        self.scale = nn.ParameterDict()
        for spin, channels_ in self.channels.items():
            if spin:
                self.scale[str(spin)] = nn.Parameter(torch.ones(channels_, **factory))
                self.register_buffer(f"spin{spin}_running_mean", torch.ones(channels_, **factory))
        self.batches = 0
        self.stand_in = StandIn(self)

    def reset_parameters(self) -> None:
        """Set scales and running statistics to one, for spin 0 those of batch norm."""
        if self.scalar is not None:
            self.scalar.reset_parameters()
        for scale in self.scale.values():
            nn.init.ones_(scale)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set running statistics to those of unit fields."""
        if self.scalar is not None:
            self.scalar.reset_running_stats()
        self.batches = 0
        for buffer in self.buffers(recurse=False):
            nn.init.ones_(buffer)

    def forward(self, features: Mapping[int, Tensor]) -> Features:
        """Normalise the features over batch and vertices.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins.
        """
        out = check_features("features", features, self.channels, weight=parameter(self))
        if self.scalar is not None:
            out[0] = self.scalar(out[0])
        training, share = self._takes_statistics(), self.momentum
        if training and share is None:  # the mean over batches, as torch's update_bn expects
            self.batches += 1
            share = 1 / self.batches
        for key, scale in self.scale.items():
            z, running = out[int(key)], getattr(self, f"spin{key}_running_mean")
            group = self._processes() if training else None
            square = running
            if training and (
                z.shape[0] or group is not None
            ):  # an empty batch has no statistics, as in torch's batch norm
                square = _mean_square(z, group)
                with torch.no_grad():
                    running.lerp_(square.to(running.dtype), share)
            out[int(key)] = (z * (scale / (widen(square) + self.eps).sqrt())[:, None]).to(z.dtype)
        return out


def _mean_square(z: Tensor, group: Any) -> Tensor:
    """Return the mean square moduli ``[C]`` of ``z [B,C,V]``, over the processes of ``group`` unless it is None."""
    z = widen(z)  # squares of halves leave their range
    square = z.real**2 + z.imag**2
    if group is None:
        return square.mean((0, 2))
    sums = sum_over(group, torch.cat((square.sum((0, 2)), square.new_tensor([square[:, 0].numel()]))))
    return sums[:-1] / sums[-1].detach().clamp_min(1)


def length(z: Tensor) -> Tensor:
    """Return the modulus, at least a tiny positive number, with gradient zero at zero; float32 for halves."""
    z = widen(z)
    tiny = torch.finfo(z.real.dtype).tiny
    return (z.real**2 + z.imag**2).clamp_min(tiny).sqrt()


def to_directions(fields: Mapping[int, Tensor], count: int) -> Tensor:
    """Return values at N angles from the reference direction, ``[B,C,Or,V]``: ``sum_k Re(z_k e^(-i k theta))``."""
    total: Any = 0
    for spin, z in fields.items():
        real = z.real.dtype if z.is_complex() else z.dtype
        angle = torch.arange(count, device=z.device, dtype=torch.float64) * (2 * math.pi * spin / count)
        c, s = angle.cos().to(real)[:, None], angle.sin().to(real)[:, None]
        z = z.unsqueeze(2)
        total = total + (z.real * c + z.imag * s if spin else z)
    return total.expand(-1, -1, count, -1)


def from_directions(u: Tensor, spins: list[int]) -> Features:
    """Return fields of the given spins (each below N/2) whose values at N angles fit ``u [B,C,Or,V]`` best."""
    spectrum = _fft.apply(fft.ifft, u, dim=2)  # (1/N) sum_i u_i e^(+i k theta_i)
    return {k: 2 * spectrum[:, :, k] if k else spectrum[:, :, 0].real for k in spins}
