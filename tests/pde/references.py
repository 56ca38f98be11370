"""Solutions to compare the solvers on grids with, written without the library: periodic signals, float64.

Dilation: ``u_t = |grad u|^(2 alpha)`` by WENO5 differences (Jiang & Peng, *SIAM J. Sci. Comput.* 21 (2000)), a local
Lax-Friedrichs Hamiltonian and the third-order Runge-Kutta method of Shu & Osher. Convection: the value of a sum of
waves at moved points. Diffusion: a dense exponential for every spatial frequency.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CFL = 0.5
"""Share of the longest stable step."""


class Waves:
    """A real function on the plane and the circle: a sum of waves, periodic over ``size`` pixels.

    Args:
        orientations: number of orientations that :meth:`sample` gives; the function itself does not depend on it.
        size: period in pixels.
        order: highest angular order; 0 for functions on the plane.
        correlation: standard deviation of the blur, in pixels.
        seed: of the random amplitudes.
    """

    def __init__(self, size: int = 24, order: int = 3, correlation: float = 1.2, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        half = (size - 1) // 2
        self.size, self.n = size, torch.arange(-order, order + 1, dtype=torch.float64)
        self.k = 2 * math.pi * torch.arange(-half, half + 1, dtype=torch.float64) / size
        shape = (len(self.n), len(self.k), len(self.k))
        c = torch.complex(*(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)))
        c = c * torch.exp(-(correlation**2) * (self.k[:, None] ** 2 + self.k**2) / 2)
        c = c + c.flip(0, 1, 2).conj()
        c[order, half, half] = 0  # no mean
        self.amplitudes = c / c.abs().square().sum().sqrt()

    def sample(self, orientations: int = 1, per_pixel: int = 1) -> Tensor:
        """Values ``[Or, N, N]`` at ``per_pixel`` points a pixel along x and y."""
        theta = 2 * math.pi * torch.arange(orientations, dtype=torch.float64) / orientations
        line = torch.arange(self.size * per_pixel, dtype=torch.float64) / per_pixel
        turn, move = (torch.exp(1j * a[:, None] * b) for a, b in ((theta, self.n), (line, self.k)))
        return torch.einsum("on,yk,xl,nkl->oyx", turn, move, move, self.amplitudes).real

    def at(self, x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
        """Values at points of any shape."""
        turn, down, right = (
            torch.exp(1j * a.flatten()[:, None] * b) for a, b in ((theta, self.n), (y, self.k), (x, self.k))
        )
        return torch.einsum("pn,pk,pl,nkl->p", turn, down, right, self.amplitudes).real.reshape(x.shape)


def convected(wave: Waves, orientations: int, vector: Tensor, steps: int = 400) -> Tensor:
    """``u(g exp(-c))`` at the pixels ``[Or,N,N]``: the curve's end by many short steps."""
    s = -vector.double() / steps
    x = y = turn = torch.zeros((), dtype=torch.float64)
    for _ in range(steps):
        middle = turn + s[2] / 2
        x, y = x + middle.cos() * s[0] - middle.sin() * s[1], y + middle.sin() * s[0] + middle.cos() * s[1]
        turn = turn + s[2]
    theta = 2 * math.pi * torch.arange(orientations, dtype=torch.float64) / orientations
    line = torch.arange(wave.size, dtype=torch.float64)
    t, row, column = torch.meshgrid(theta, line, line, indexing="ij")
    c, s_ = t.cos(), t.sin()
    return wave.at(column + c * x - s_ * y, row + s_ * x + c * y, t + turn)


def diffused(u: Tensor, metric: Tensor, alpha: float, time: float = 1.0) -> Tensor:
    """``exp(-t (-Delta)^alpha) u`` for u ``[Or,N,N]`` and G ``[dim,dim]``; Or is odd, or u lacks its Nyquist mode."""
    count, size = u.shape[0], u.shape[-1]
    inverse = torch.linalg.inv(metric.double())
    k = 2 * math.pi * torch.fft.fftfreq(size, dtype=torch.float64)
    y, x = torch.meshgrid(k, k, indexing="ij")
    theta = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    c, s = theta.cos(), theta.sin()
    n = torch.fft.fftfreq(count, 1 / count, dtype=torch.float64)
    waves = torch.exp(1j * theta[:, None] * n) / math.sqrt(count)
    turn = (waves * (1j * n)) @ waves.mH
    ahead = torch.diag_embed(1j * (c * x[..., None] + s * y[..., None]))
    aside = torch.diag_embed(1j * (-s * x[..., None] + c * y[..., None]))
    frame = [ahead, aside, turn.expand(size, size, count, count)][: len(inverse)]
    generator = sum(-inverse[i, j] * frame[i] @ frame[j] for i in range(len(frame)) for j in range(len(frame)))
    values, vectors = torch.linalg.eigh((generator + generator.mH) / 2)
    decay = torch.exp(-time * values.clamp_min(0) ** alpha)
    spectrum = torch.fft.fft2(u).movedim(0, -1)[..., None]
    out = vectors @ (decay[..., None] * (vectors.mH @ spectrum.to(vectors.dtype)))
    return torch.fft.ifft2(out[..., 0].movedim(-1, 0)).real


def dilated(u: Tensor, metric: Tensor, alpha: float, per_pixel: int = 1, time: float = 1.0) -> Tensor:
    """Solve ``u_t = (p^T G^-1 p)^alpha``, p the derivatives along the moving frame, from u ``[Or,N,N]``.

    ``per_pixel`` points a pixel; on the plane Or is 1 and G is ``[2,2]``.
    """
    inverse = torch.linalg.inv(metric.double())
    theta = 2 * math.pi * torch.arange(u.shape[0], dtype=torch.float64) / u.shape[0]
    c, s = theta.cos()[:, None, None], theta.sin()[:, None, None]
    steps = [1 / per_pixel, 1 / per_pixel, 2 * math.pi / u.shape[0]][: len(inverse)]
    axes = [2, 1, 0][: len(inverse)]

    def slope(u: Tensor) -> tuple[Tensor, float]:
        """Right-hand side, and the longest stable step."""
        pairs = [_one_sided(u, axis, h) for axis, h in zip(axes, steps)]
        middle = [(a + b) / 2 for a, b in pairs]
        p = torch.stack([c * middle[0] + s * middle[1], c * middle[1] - s * middle[0], *middle[2:]])
        raised = torch.einsum("ij,j...->i...", inverse, p)
        square = (p * raised).sum(0).clamp_min(1e-12)
        speed = 2 * alpha * square ** (alpha - 1) * raised  # dH/dp along the frame
        along = [c * speed[0] - s * speed[1], s * speed[0] + c * speed[1], *speed[2:]]
        fastest = [float(v.abs().max()) for v in along]
        change = square**alpha
        for (left, right), v in zip(pairs, along):
            bound = _neighbourhood(v.abs())
            change = change + bound * (right - left) / 2
        return change, CFL / sum(v / h for v, h in zip(fastest, steps))

    left = time
    while left > 1e-12:
        change, longest = slope(u)
        dt = min(left, longest)
        first = u + dt * change
        second = 0.75 * u + 0.25 * (first + dt * slope(first)[0])
        u = u / 3 + 2 / 3 * (second + dt * slope(second)[0])
        left -= dt
    return u


def _neighbourhood(v: Tensor) -> Tensor:
    """Largest value among a point and its neighbours along each axis."""
    for axis in range(v.ndim):
        if v.shape[axis] > 1:
            v = torch.maximum(v, torch.maximum(v.roll(1, axis), v.roll(-1, axis)))
    return v


def _one_sided(u: Tensor, axis: int, step: float) -> tuple[Tensor, Tensor]:
    """WENO5 derivatives from the left and from the right."""
    forward = (u.roll(-1, axis) - u) / step
    d = [forward.roll(-i, axis) for i in (-3, -2, -1, 0, 1, 2)]
    return _weno(d[0], d[1], d[2], d[3], d[4]), _weno(d[5], d[4], d[3], d[2], d[1])


def _weno(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    smooth = (
        13 / 12 * (a - 2 * b + c) ** 2 + (a - 4 * b + 3 * c) ** 2 / 4,
        13 / 12 * (b - 2 * c + d) ** 2 + (b - d) ** 2 / 4,
        13 / 12 * (c - 2 * d + e) ** 2 + (3 * c - 4 * d + e) ** 2 / 4,
    )
    weights = [g / (1e-6 + q) ** 2 for g, q in zip((0.1, 0.6, 0.3), smooth)]
    parts = (a / 3 - 7 * b / 6 + 11 * c / 6, -b / 6 + 5 * c / 6 + d / 3, c / 3 + 5 * d / 6 - e / 6)
    return sum(w * p for w, p in zip(weights, parts)) / sum(weights)
