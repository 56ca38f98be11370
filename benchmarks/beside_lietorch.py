"""Times of the library beside LieTorch, the implementation of the authors of PDE-G-CNNs, on the CPU.

    python -m benchmarks.beside_lietorch PYTHON              # an interpreter with lietorch 0.6.2 and torch 2.0.1
    python -m benchmarks.beside_lietorch PYTHON --markdown   # the table as it stands in docs/benchmarks/against.md

Both run in fresh processes and take turns call by call (:mod:`benchmarks.against`). Networks have the same layers,
widths, sizes and windows: those of the publication. Values differ: LieTorch reads turned kernels at the nearest sample.
"""

from __future__ import annotations

import argparse
import functools

from benchmarks.against import ROOT, Call, Side, morphology, parser, serve, table, training_step

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
    options = parser(__doc__, "python", "interpreter that imports lietorch")
    options.add_argument("--serve", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        build = ours if given.serve == "ours" else theirs
        serve({name: functools.partial(build, name) for name in ROWS})
        return
    if given.python is None:
        options.error("expected the path of an interpreter that imports lietorch")
    heads = "LieTorch", "pdegcnn"
    table(
        given,
        ROWS,
        heads,
        lambda: (Side(ROOT, given.python, __file__, "theirs"), Side(ROOT, script=__file__, options="ours")),
    )


if __name__ == "__main__":
    main()
