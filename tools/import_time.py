"""How long ``import pdegcnn`` takes beside ``import torch``: ``python tools/import_time.py [--turns 5] [--parts]``.

Each import is a fresh process, the two take turns, and the medians of their processor seconds are compared, so that
other programs disturb little. ``--parts`` adds what the parts of the library take that are imported on first use.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence

LIMIT = 1.15
"""What the library may take, as a multiple of torch."""
PARTS = ("spaces", "nn", "models", "gauge", "sphere", "reversible", "export")


def seconds(statement: str) -> float:
    """Processor seconds of a statement in a fresh process."""
    code = f"import time; start = time.process_time(); {statement}; print(time.process_time() - start)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def compare(statements: Sequence[str], turns: int) -> dict[str, float]:
    """Median seconds of statements that take turns."""
    found = {statement: [] for statement in statements}
    for _ in range(turns):
        for statement, values in found.items():
            values.append(seconds(statement))
    return {statement: statistics.median(values) for statement, values in found.items()}


def main() -> None:
    """Print the times and the ratio; exit with 1 if the library takes too long."""
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    made.add_argument("--turns", type=int, default=5, help="processes for each (%(default)s)")
    made.add_argument("--parts", action="store_true", help="also parts of the library")
    chosen = made.parse_args()
    torch, library = "import torch", "import torch, pdegcnn"
    parts = [f"import torch, pdegcnn.{part}" for part in PARTS] if chosen.parts else []
    found = compare([torch, library, *parts], chosen.turns)
    for statement, value in found.items():
        print(f"{value:7.3f} s  {value / found[torch]:5.2f}  {statement}")
    if found[library] > LIMIT * found[torch]:
        raise SystemExit(f"import pdegcnn: expected at most {LIMIT} times torch")


if __name__ == "__main__":
    main()
