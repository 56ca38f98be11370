"""Check and time everything on a GPU, in one command and at most eight minutes: ``make gpu``.

Every operator, layer, network and function is compared with the CPU in every precision; torch.compile, CUDA graphs,
autocast and memory are tried; operators are timed beside plain torch and training steps beside other networks. The
findings go to ``docs/benchmarks/gpu-NAME.md`` and ``.csv``, rewritten after each part. With ``--dry`` (``make gpu
DRY=1``) the same code runs in Triton's interpreter and on the CPU, with tiny inputs, into a folder that is removed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path

PARTS = ("operators", "layers", "torch", "times")
FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"


def main() -> int:
    """Number of cases that went wrong, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="rehearse on the CPU")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the page and the CSV file")
    parser.add_argument("--name", help="end of the files' names; by default the name of the device")
    parser.add_argument("--minutes", type=float, default=8.0, help="time after which no case begins")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to do; all by default")
    arguments = parser.parse_args()
    if not arguments.dry:
        return run(arguments, arguments.out)
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    with tempfile.TemporaryDirectory(prefix="gpu-rehearsal-") as folder:
        return run(arguments, Path(folder))


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """Do the parts that were asked for."""
    import torch

    from benchmarks.gpu.agreement import check_layers, check_operators
    from benchmarks.gpu.machinery import check_machinery
    from benchmarks.gpu.record import Record, short_name
    from benchmarks.gpu.times import check_times

    warnings.filterwarnings("ignore", category=RuntimeWarning)  # the interpreter's, on infinity minus infinity
    device = "cpu" if arguments.dry else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("gpu: expected a CUDA device, got none; `make gpu DRY=1` rehearses on the CPU", file=sys.stderr)
        return 1
    record = Record(folder, arguments.name or short_name(device), device, 60 * arguments.minutes)
    checks = dict(zip(PARTS, (check_operators, check_layers, check_machinery, check_times)))
    for part in arguments.parts:
        record.attempt(part, "all", checks[part], record, arguments.dry)
        for path in record.write():
            print(f"wrote {path}", flush=True)
    print(f"{record.wrong} wrong of {len(record.rows)} rows")
    return int(record.wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
