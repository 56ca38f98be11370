"""Transforms, Wigner matrices and SO(3) transforms beside others': ``python benchmarks/sphere.py``.

Writes a table to docs/benchmarks. Needs torch-harmonics (``pip install --no-deps torch-harmonics``); e3nn comes with
the library. Processor time of one thread, so that other programs disturb little. Every comparison is one run: versions
take turns, medians are reported, ratios are what to read.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch_harmonics as th
from e3nn import o3

from pdegcnn.sphere import (
    SO3FFT,
    InverseRealSHT,
    InverseSO3FFT,
    RealSHT,
    SphereGrid,
    from_e3nn,
    to_e3nn,
    wigner_D,
)
from pdegcnn.sphere._legendre import legendre_block

FIELDS = ["what", "size", "dtype", "version", "milliseconds", "times ours", "error", "MiB of buffers", "load"]
ROWS: list[dict[str, object]] = []


def medians(functions: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Processor milliseconds per call: versions take turns, each turn long enough for the clock, median over turns."""
    counts, times = {}, {name: [] for name in functions}
    for name, function in functions.items():
        function()
        start = time.process_time()
        function()
        counts[name] = max(1, int(0.02 / (time.process_time() - start)))
    for _ in range(turns):
        for name, function in functions.items():
            start = time.process_time()
            for _ in range(counts[name]):
                function()
            times[name].append((time.process_time() - start) / counts[name])
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def buffers(*modules: torch.nn.Module) -> float:
    """MiB that buffers and cached tables of the modules hold."""
    found = {b.data_ptr(): b.numel() * b.element_size() for m in modules for b in (*m.buffers(), *m.parameters())}
    return sum(found.values()) / 2**20


def report(what: str, size: str, dtype: torch.dtype, times: dict[str, float], **columns: dict[str, float]) -> None:
    ours = next(iter(times.values()))
    for version, value in times.items():
        row = dict.fromkeys(FIELDS, "")
        row.update({"what": what, "size": size, "dtype": str(dtype).removeprefix("torch."), "version": version})
        row.update({"milliseconds": f"{value:.2f}", "times ours": f"{value / ours:.2f}"})
        row.update({"load": f"{os.getloadavg()[0]:.1f}"})
        for column, values in columns.items():
            if version in values:
                row[column.replace("_", " ")] = f"{values[version]:.3g}"
        print(row, flush=True)
        ROWS.append(row)


def step(analysis: torch.nn.Module, synthesis: torch.nn.Module, f: torch.Tensor) -> None:
    """Forward and backward through both."""
    x = f.clone().requires_grad_()
    synthesis(analysis(x)).square().sum().backward()


def transforms(size: int, batch: int, dtype: torch.dtype, turns: int) -> None:
    """RealSHT against torch-harmonics, cast to the dtype and as it comes (float64 tables), on the same Gauss grid."""
    grid = SphereGrid.gauss_legendre(size)
    pairs = {"pdegcnn": (RealSHT(grid, dtype=dtype), InverseRealSHT(grid, dtype=dtype))}
    made = [t(*grid.shape, lmax=size, mmax=size, grid="legendre-gauss") for t in (th.RealSHT, th.InverseRealSHT)]
    pairs["torch-harmonics, cast"] = (made[0].to(dtype), made[1].to(dtype))
    if dtype == torch.float32:
        made = [t(*grid.shape, lmax=size, mmax=size, grid="legendre-gauss") for t in (th.RealSHT, th.InverseRealSHT)]
        pairs["torch-harmonics, as it comes"] = (made[0], made[1])
    f = torch.randn(batch, *grid.shape, dtype=dtype)
    with torch.no_grad():
        spectra = {name: pair[0](f) for name, pair in pairs.items()}
        smooth = pairs["pdegcnn"][1](spectra["pdegcnn"])
        errors = {n: float((s(a(smooth)) - smooth).norm() / smooth.norm()) for n, (a, s) in pairs.items()}
        held = {n: buffers(pair[0]) for n, pair in pairs.items()}
        label = f"L={size}, batch {batch}"
        times = medians({n: lambda a=a: a(f) for n, (a, _) in pairs.items()}, turns)
        report("SHT analysis", label, dtype, times, error=errors, MiB_of_buffers=held)
        times = medians({n: lambda s=s, c=spectra[n]: s(c) for n, (_, s) in pairs.items()}, turns)
        report("SHT synthesis", label, dtype, times)
    times = medians({n: lambda p=p: step(*p, f) for n, p in pairs.items()}, turns)
    report("SHT both, with gradient", label, dtype, times)


def grids(size: int, batch: int, turns: int) -> None:
    """Round trips on the grids that have transforms, at one band."""
    made = {
        "gauss_legendre": SphereGrid.gauss_legendre(size),
        "reduced_gauss": SphereGrid.reduced_gauss(size),
        "full_band": SphereGrid.equiangular(size, "full_band"),
        "driscoll_healy": SphereGrid.equiangular(size),
    }
    pairs = {n: (RealSHT(g, size - 1), InverseRealSHT(g, size - 1)) for n, g in made.items()}
    with torch.no_grad():
        c = pairs["gauss_legendre"][0](torch.randn(batch, *made["gauss_legendre"].shape))
        errors = {n: float((a(s(c)) - c).norm() / c.norm()) for n, (a, s) in pairs.items()}
        times = medians({n: lambda a=a, s=s: a(s(c)) for n, (a, s) in pairs.items()}, turns)
    report("SHT there and back, by grid", f"L={size}, batch {batch}", torch.float32, times, error=errors)


def e3nn_grid(lmax: int, batch: int, turns: int) -> None:
    """e3nn's transform on its own grid of 2(lmax+1) rings, against ours between the same irreps and a Gauss grid."""
    grid = SphereGrid.gauss_legendre(lmax + 1)
    sht, isht = RealSHT(grid, lmax), InverseRealSHT(grid, lmax)
    res = (2 * (lmax + 1), 2 * lmax + 1)
    there, back = o3.ToS2Grid(lmax, res, normalization="integral"), o3.FromS2Grid(res, lmax, normalization="integral")
    x = torch.randn(batch, (lmax + 1) ** 2)

    def ours() -> torch.Tensor:
        return to_e3nn(sht(isht(from_e3nn(x))))

    with torch.no_grad():
        versions = {"pdegcnn": ours, "e3nn": lambda: back(there(x))}
        errors = {n: float((f() - x).norm() / x.norm()) for n, f in versions.items()}
        held = {"pdegcnn": buffers(sht, isht), "e3nn": buffers(there, back)}
        times = medians(versions, turns)
    report("irreps to grid and back", f"lmax={lmax}, batch {batch}", x.dtype, times, error=errors, MiB_of_buffers=held)


def wigner(degree: int, count: int, turns: int) -> None:
    rotations = o3.rand_matrix(count)
    eye = torch.eye(2 * degree + 1)
    versions = {
        "pdegcnn": lambda: wigner_D(degree, rotations),
        "e3nn": lambda: o3.Irrep(degree, 1).D_from_matrix(rotations),
    }
    errors = {n: float((f() @ f().mT - eye).abs().max()) for n, f in versions.items()}
    times = medians(versions, turns)
    report("Wigner D (error: of orthogonality)", f"l={degree}, {count} rotations", torch.float32, times, error=errors)


class PerDegree(torch.nn.Module):
    """The plain way on SO(3): a complex transform with both Fourier axes, then one sum per degree."""

    def __init__(self, grid: SphereGrid, lmax: int) -> None:
        super().__init__()
        theta = torch.tensor(grid.theta, dtype=torch.float64)
        up = [legendre_block(lmax, range(lmax + 1), theta.cos().numpy(), n) for n in range(lmax + 1)]
        d = torch.tensor(up[0]).new_zeros(lmax + 1, len(theta), 2 * lmax + 1, 2 * lmax + 1)
        sign = (-1.0) ** torch.arange(lmax + 1)
        for n in range(lmax + 1):
            table = torch.tensor(up[n]).permute(1, 2, 0)  # [l, ring, m]
            d[:, :, lmax:, lmax + n] = table
            d[:, :, : lmax + 1, lmax - n] = (table * sign * (-1) ** n).flip(2)
            d[:, :, lmax:, lmax - n] = sign[:, None, None] * sign * table.flip(1)
            d[:, :, : lmax + 1, lmax + n] = (sign[:, None, None] * (-1) ** n * table.flip(1)).flip(2)
        self.lmax = lmax
        self.register_buffer("weights", torch.tensor(grid.ring_weights, dtype=torch.float32)[:, None, None])
        for degree in range(lmax + 1):
            part = d[degree, :, lmax - degree : lmax + degree + 1, lmax - degree : lmax + degree + 1]
            self.register_buffer(f"d{degree}", part.to(torch.complex64).contiguous())

    def forward(self, f: torch.Tensor) -> list[torch.Tensor]:
        """Blocks [batch, m, n] by degree of complex or real f [batch, fibre, nlat, nlon]."""
        waves = torch.fft.fft2(f.to(torch.complex64), dim=(1, 3)).permute(0, 2, 3, 1) / f.shape[1] * self.weights
        out = []
        for degree in range(self.lmax + 1):
            span = torch.arange(-degree, degree + 1)
            part = waves[:, :, span % waves.shape[2]][..., span % waves.shape[3]]
            out.append(torch.einsum("brmn,rmn->bmn", part, self.get_buffer(f"d{degree}")))
        return out

    def synthesis(self, blocks: list[torch.Tensor], nlon: int, fibre: int) -> torch.Tensor:
        """Return the real part of the signal."""
        rings = self.weights.shape[0]
        waves = blocks[0].new_zeros(len(blocks[0]), rings, nlon, fibre)
        for degree, block in enumerate(blocks):
            span = torch.arange(-degree, degree + 1)
            part = torch.einsum("bmn,rmn->brmn", block, self.get_buffer(f"d{degree}"))
            waves[:, :, (span % nlon)[:, None], span % fibre] += part
        return torch.fft.ifft2(waves, dim=(2, 3), norm="forward").real.permute(0, 3, 1, 2)


def rotations(size: int, fibre: int, batch: int, turns: int) -> None:
    """SO3FFT at all |n| < size, against the plain way."""
    grid = SphereGrid.gauss_legendre(size)
    fft, ifft = SO3FFT(grid, fibre), InverseSO3FFT(grid, fibre)
    f = torch.randn(batch, fibre, *grid.shape)
    with torch.no_grad():
        W = fft(f)
        smooth = ifft(W)
        errors = {"pdegcnn": float((ifft(fft(smooth)) - smooth).norm() / smooth.norm())}
        held = {"pdegcnn": buffers(fft)}
        analyses: dict[str, Callable[[], object]] = {"pdegcnn": lambda: fft(f)}
        syntheses: dict[str, Callable[[], object]] = {"pdegcnn": lambda: ifft(W)}
        if fft.nmax == size - 1:
            plain = PerDegree(grid, size - 1)
            blocks = plain(smooth)
            again = plain.synthesis(blocks, grid.nlon, fibre)
            errors["per degree, complex"] = float((again - smooth).norm() / smooth.norm())
            held["per degree, complex"] = buffers(plain)
            analyses["per degree, complex"] = lambda: plain(f)
            syntheses["per degree, complex"] = lambda: plain.synthesis(blocks, grid.nlon, fibre)
        label = f"L={size}, fibre {fibre}, batch {batch}"
        times = medians(analyses, turns)
        report("SO(3) analysis", label, f.dtype, times, error=errors, MiB_of_buffers=held)
        report("SO(3) synthesis", label, f.dtype, medians(syntheses, turns))
    report("SO(3) both, with gradient", label, f.dtype, medians({"pdegcnn": lambda: step(fft, ifft, f)}, turns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    parser.add_argument("--turns", type=int, default=9, help="turns per version")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    before, turns = os.getloadavg()[0], arguments.turns
    for dtype in (torch.float32, torch.float64):
        transforms(256, 16, dtype, turns)
    transforms(64, 16, torch.float32, turns)
    grids(128, 16, turns)
    e3nn_grid(16, 64, turns)
    for degree in (8, 12, 16, 20):
        wigner(degree, 1000, turns)
    rotations(16, 32, 4, turns)
    rotations(32, 64, 4, turns)
    rotations(32, 16, 32, turns)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "sphere.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(ROWS)
    note = (
        f"torch {torch.__version__}, torch-harmonics {th.__version__}, {platform.machine()}, processor time of "
        f"one thread; load average {before:.1f} before and {os.getloadavg()[0]:.1f} after. Median of {turns} turns; "
        "the versions of one comparison take turns. Error: of the round trip, relative, unless said otherwise. "
        "Buffers: of the analysis (irreps: of both). `torch-harmonics, as it comes` keeps float64 tables. "
        "`per degree, complex` is the plain way to transform on SO(3), written for this comparison: two complex "
        "Fourier transforms and one sum per degree.\n"
    )
    lines = ["# Times and errors on the sphere\n", note, f"| {' | '.join(FIELDS)} |", "|---" * len(FIELDS) + "|"]
    lines += [f"| {' | '.join(str(row[f]) for f in FIELDS)} |" for row in ROWS]
    (arguments.out / "sphere.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
