"""Times of the library beside those of an earlier revision of it.

    python -m benchmarks.against REV              # every row
    python -m benchmarks.against REV --rows digits mesh
    python -m benchmarks.against REV --markdown   # the table as it stands in docs/benchmarks/against.md

Each revision runs in a fresh process, and the two take turns call by call, so that the load of the machine
falls on both. With OMP_NUM_THREADS=1 the times are processor times. Medians are printed, and the load.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
Call = Callable[[], Any]


def rows() -> dict[str, Callable[[], Call]]:
    """Return what is measured: the name of each row and what builds the call."""
    found: dict[str, Callable[[], Call]] = {
        "digits large, training step [32,1,28,28]": lambda: digits("large"),
        "digits default, training step [32,1,28,28]": lambda: digits(None),
        "vessels, training step [8,3,64,64]": vessels,
        "spherical classifier, training step [16,1,64 rings]": spherical,
        "mesh PDE layer, four terms, forward + backward, 10,242 vertices": mesh_layer,
        "connection diffusion, spin 0, 16 channels, forward + backward": lambda: diffusion(0),
        "connection diffusion, spin 1, 16 channels, forward + backward": lambda: diffusion(1),
    }
    for shape in ((4, 16, 8, 64, 64), (32, 32, 8, 14, 14), (32, 48, 8, 7, 7)):
        name = f"morphology [{','.join(map(str, shape))}] 5x5x5"
        for what in ("values", "winners", "forward + backward"):
            found[f"{name}, {what}"] = lambda s=shape, w=what: morphology(s, w)
    return found


def training_step(net: Any, x: Any) -> Call:
    """Return a call of forward and backward pass."""

    def step() -> None:
        net.zero_grad()
        net(x).square().sum().backward()

    return step


def digits(name: str | None) -> Call:
    """Return a training step of the classifier of digits."""
    import torch

    import pdegcnn as pg

    return training_step(pg.models.rotated_digits(pretrained=name).train(), torch.rand(32, 1, 28, 28))


def vessels() -> Call:
    """Return a training step of the vessel segmentation."""
    import torch

    import pdegcnn as pg

    return training_step(pg.models.vessel_segmentation(), torch.rand(8, 3, 64, 64))


def spherical() -> Call:
    """Return a training step of the classifier on the sphere."""
    import torch

    import pdegcnn as pg

    grid = pg.sphere.SphereGrid.gauss_legendre(32)
    return training_step(pg.models.spherical_classifier(grid), torch.rand(4, 1, *grid.shape))


def mesh_layer() -> Call:
    """Return forward and backward pass of a PDE layer on a mesh."""
    import torch

    import pdegcnn as pg

    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(5))
    u = torch.rand(1, 8, 8, mesh.vertex_count).requires_grad_()
    return training_step(pg.nn.PDELayer(mesh, 8, 8), u)


def diffusion(spin: int) -> Call:
    """Return forward and backward pass of an implicit step."""
    import torch

    import pdegcnn as pg

    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(5))
    layer = pg.gauge.Diffusion(16, spin)
    u = torch.randn(1, 16, mesh.vertex_count, dtype=torch.complex64 if spin else torch.float32).requires_grad_()

    def step() -> None:
        layer.zero_grad()
        out = layer({spin: u}, mesh)[spin]
        (out.abs() if spin else out).square().sum().backward()

    return step


def morphology(shape: tuple[int, ...], what: str) -> Call:
    """Return a call of the morphological convolution."""
    import torch

    import pdegcnn as pg
    from pdegcnn.ops.morphology import morphological_convolution

    assert pg.__version__
    u, kernel = torch.randn(shape).requires_grad_(), torch.rand(*shape[1:3], 5, 5, 5).requires_grad_()

    def values() -> None:
        with torch.no_grad():
            morphological_convolution(u, kernel)

    def winners() -> None:
        morphological_convolution(u, kernel)

    def both() -> None:
        morphological_convolution(u, kernel).backward(torch.ones_like(u))

    return {"values": values, "winners": winners, "forward + backward": both}[what]


def serve(builders: Mapping[str, Callable[[], Call]]) -> None:
    """Answer on standard output: a line with the seconds of one call for each line with the name of a row."""
    import torch

    torch.manual_seed(0)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    built: dict[str, Call] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in built:
            built.clear()
            built[name] = builders[name]()
            built[name]()
        start = clock()
        built[name]()
        print(f"{clock() - start:.9f}", flush=True)


class Side:
    """The library of one folder in a separate process, which serves the rows of a script."""

    def __init__(self, folder: Path, python: str = sys.executable, script: str = __file__, options: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'examples'}"}
        command = [python, "-P", str(Path(script).resolve()), "--serve", *options.split()]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def seconds(self, name: str) -> float:
        """Return the time of one call."""
        pipes: tuple[IO[str] | None, IO[str] | None] = (self.process.stdin, self.process.stdout)
        assert pipes[0] is not None and pipes[1] is not None
        pipes[0].write(f"{name}\n")
        pipes[0].flush()
        answer = pipes[1].readline()
        if not answer:
            raise RuntimeError(f"the process that ran {name!r} ended with {self.process.wait()}")
        return float(answer)

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def compare(name: str, sides: tuple[Side, Side], budget: float) -> tuple[float, float]:
    """Return median milliseconds of a row on both sides; each spends about ``budget`` seconds."""
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < 3 or (sum(times[0]) < budget and len(times[0]) < 40):
        for side, found in zip(sides, times, strict=True):
            found.append(side.seconds(name))
    return 1e3 * statistics.median(times[0]), 1e3 * statistics.median(times[1])


def parser(description: str | None, first: str, about: str) -> argparse.ArgumentParser:
    """Return the options of a comparison, whose first argument says what to compare with."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(first, nargs="?", help=about)
    made.add_argument("--rows", nargs="+", default=[""], help="only rows whose names hold one of these")
    made.add_argument("--seconds", type=float, default=4.0, help="time to spend on a row with each side")
    made.add_argument("--markdown", action="store_true", help="print a table for a page")
    return made


def table(
    given: argparse.Namespace, names: Iterable[str], heads: tuple[str, str], start: Callable[[], tuple[Side, Side]]
) -> None:
    """Print the chosen rows: the times of two sides, which are fresh processes for each row, and their ratio."""
    print(f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads, load {os.getloadavg()[0]:.1f} at the start")
    line = "{0:66}{1:10.1f}{2:10.1f}{3:8.2f}{4:7.1f}"
    if given.markdown:
        line = "| {0} | {1:.1f} | {2:.1f} | {3:.2f} | {4:.1f} |"
        print(f"\n| | {heads[0]}, ms | {heads[1]}, ms | ratio | load |\n|---|---:|---:|---:|---:|")
    else:
        print(f"{'':66}{heads[0]:>10}{heads[1]:>10}{'ratio':>8}{'load':>7}")
    for name in [n for n in names if any(part in n for part in given.rows)]:
        sides = start()
        first, second = compare(name, sides, given.seconds)
        print(line.format(name, first, second, first / second, os.getloadavg()[0]), flush=True)
        for side in sides:
            side.close()


def unpack(revision: str, folder: str) -> str:
    """Write the files of a revision into a folder and return its short name."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    command = ["git", "rev-parse", "--short", revision]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Print the table."""
    options = parser(__doc__, "revision", "what to compare with: anything git can name")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        serve(rows())
        return
    if given.revision is None:
        options.error("expected a revision to compare with")
    with tempfile.TemporaryDirectory() as folder:
        before = unpack(given.revision, folder)
        table(given, rows(), (before, "now"), lambda: (Side(Path(folder)), Side(ROOT)))


if __name__ == "__main__":
    main()
