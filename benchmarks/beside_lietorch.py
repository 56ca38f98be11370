"""Times of the library beside LieTorch, the implementation of the authors of PDE-G-CNNs, on the CPU.

    python -m benchmarks.beside_lietorch PYTHON              # an interpreter with lietorch 0.6.2 and torch 2.0.1
    python -m benchmarks.beside_lietorch PYTHON --markdown   # the table as it stands in docs/benchmarks/against.md

Both run in fresh processes and take turns call by call (:mod:`benchmarks.against`). Networks have the same layers,
widths, sizes and windows: those of the publication. Values differ: LieTorch reads turned kernels at the nearest sample.
"""

from __future__ import annotations

import argparse
import functools
import os

from benchmarks.against import ROOT, Call, Side, compare, morphology, serve, training_step

SHAPE = (4, 16, 8, 64, 64)
DIGITS, VESSELS = "digits, training step [32,1,28,28]", "vessels, training step [8,3,64,64]"
MORPHOLOGY = f"morphology [{','.join(map(str, SHAPE))}] 5x5x5"
PARTS = {f"{MORPHOLOGY}, values": "values", f"{MORPHOLOGY}, forward + backward": "forward + backward"}
ROWS = (*PARTS, DIGITS, VESSELS)


def ours(name: str) -> Call:
    """Return the call of a row, of this library."""
    import torch

    import pdegcnn as pg

    if name in PARTS:
        return morphology(SHAPE, PARTS[name])
    if name == DIGITS:
        return training_step(pg.models.rotated_digits(size=(24, 14)), torch.rand(32, 1, 28, 28))
    return training_step(pg.models.vessel_segmentation(), torch.rand(8, 3, 64, 64))


def theirs(name: str) -> Call:
    """Return the call of a row, of LieTorch."""
    import torch
    from lietorch.models.drive import CDEPdeNN6
    from lietorch.models.rotnist import CDEPdeM2Classifier4
    from lietorch.nn.m2 import morphological_convolution_m2

    if name == DIGITS:
        return training_step(CDEPdeM2Classifier4(), torch.rand(32, 1, 28, 28))
    if name == VESSELS:
        return training_step(CDEPdeNN6(3), torch.rand(8, 3, 64, 64))
    u, kernel = torch.randn(SHAPE).requires_grad_(), torch.rand(SHAPE[1], 5, 5, 5).requires_grad_()

    def values() -> None:
        with torch.no_grad():
            morphological_convolution_m2(u, kernel)

    def both() -> None:
        morphological_convolution_m2(u, kernel).backward(torch.ones_like(u))

    return {"values": values, "forward + backward": both}[PARTS[name]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="?", help="interpreter that imports lietorch")
    parser.add_argument("--rows", nargs="+", default=[""], help="only rows whose names hold one of these")
    parser.add_argument("--seconds", type=float, default=4.0, help="time to spend on a row with each library")
    parser.add_argument("--markdown", action="store_true", help="print a table for a page")
    parser.add_argument("--serve", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        build = ours if given.serve == "ours" else theirs
        serve({name: functools.partial(build, name) for name in ROWS})
        return
    if given.python is None:
        parser.error("expected the path of an interpreter that imports lietorch")
    print(f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads, load {os.getloadavg()[0]:.1f} at the start")
    line = "{0:66}{1:10.1f}{2:10.1f}{3:8.1f}{4:7.1f}"
    if given.markdown:
        line = "| {0} | {1:.1f} | {2:.1f} | {3:.1f} | {4:.1f} |"
        print("\n| | LieTorch, ms | pdegcnn, ms | ratio | load |\n|---|---:|---:|---:|---:|")
    else:
        print(f"{'':66}{'LieTorch':>10}{'pdegcnn':>10}{'ratio':>8}{'load':>7}")
    for name in [n for n in ROWS if any(part in n for part in given.rows)]:
        sides = Side(ROOT, given.python, __file__, "theirs"), Side(ROOT, script=__file__, options="ours")
        old, new = compare(name, sides, given.seconds)
        print(line.format(name, old, new, old / new, os.getloadavg()[0]), flush=True)
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
