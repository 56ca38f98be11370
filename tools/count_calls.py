"""Count the Python calls of one forward pass inside the package, for layers on several spaces.

    PDEGCNN_BACKEND=torch python tools/count_calls.py [--chain]

Columns: calls of functions of the package, those of them that check arguments (`_checks`), changes of file from caller
to called, files, longest chain of nested calls. ``--chain`` prints the longest chain of a dilation layer on SE(2).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import pdegcnn as pg

ROOT = str(Path(pg.__file__).parent)


class Counter:
    """Counts what ``sys.setprofile`` reports."""

    def __init__(self) -> None:
        self.calls = self.checks = self.changes = self.depth = 0
        self.files: set[str] = set()
        self.chain: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Take note of a call."""
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(ROOT):
            return
        self.calls += 1
        self.checks += file.endswith("_checks.py")
        self.files.add(file)
        chain, caller = [], frame
        while caller is not None:
            if caller.f_code.co_filename.startswith(ROOT):
                name = caller.f_code.co_filename.removeprefix(ROOT + "/")
                chain.append(f"{name}:{caller.f_code.co_name}")
            caller = caller.f_back
        if len(chain) > 1:
            self.changes += chain[0].partition(":")[0] != chain[1].partition(":")[0]
        if len(chain) > self.depth:
            self.depth, self.chain = len(chain), chain[::-1]


def count(run: Callable[[], Any]) -> Counter:
    """Return the counts of a call of ``run``; a call before it fills caches."""
    run()
    counter = Counter()
    sys.setprofile(counter)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counter


def main() -> None:
    """Print a row for each layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", action="store_true", help="print the longest chain of a dilation layer on SE(2)")
    chosen = parser.parse_args()
    grid = pg.sphere.SphereGrid.gauss_legendre(5)
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(1))
    se2, so3 = pg.SE2(8), pg.SO3(grid, 5)
    terms = ("convection", "diffusion", "dilation", "erosion")
    rows = {
        "SE2, four terms": (se2, terms, (8, 9, 9)),
        "SO3, four terms": (so3, terms, (5, *grid.shape)),
        "Mesh, four terms": (mesh, terms, (mesh.orientations, mesh.vertex_count)),
        "SE2, dilation": (se2, ("dilation",), (8, 9, 9)),
    }
    print(f"{'layer':20} calls checks changes files chain")
    for name, (space, chosen_terms, shape) in rows.items():
        layer, u = pg.nn.PDELayer(space, 2, 2, chosen_terms), torch.rand(1, 2, *shape)
        found = count(lambda layer=layer, u=u: layer(u))
        columns = found.calls, found.checks, found.changes, len(found.files), found.depth
        print(f"{name:20} {columns[0]:5} {columns[1]:6} {columns[2]:7} {columns[3]:5} {columns[4]:5}")
        if chosen.chain and name == "SE2, dilation":
            print(*found.chain, sep="\n")


if __name__ == "__main__":
    main()
