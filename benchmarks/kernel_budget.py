"""Counts of the machine code of every Triton kernel, beside its budget: ``python -m benchmarks.kernel_budget``.

No GPU is needed: the programs that compile and list machine code are in Triton's wheel. The table in
``docs/benchmarks/kernel_budget.md`` is what ``--write`` puts there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks import sass
from benchmarks.kernel_list import BYTES, ISSUE, Kernel, kernels

ARCHITECTURES = (80, 90, 100)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "kernel_budget.md"
INTRODUCTION = f"""# Instructions of the GPU kernels

Every Triton kernel is compiled for three generations of GPUs and its machine code is counted, without a GPU:
`python -m benchmarks.kernel_budget --write` made this page, and `tests/ops/test_kernel_budget.py` fails when a kernel
needs more than its budget or spills registers. These are counts, not times.

- **Instructions** for one tap (one shifted value that is compared) or one element of the output, as one thread
  executes them: with all that comes before and after the loops, and as if no branch was skipped.
- **Floor:** instructions that the arithmetic itself needs; for a kernel bound by memory, those that run in the time in
  which memory moves its data on an H100 SXM ({ISSUE / 1e12:.1f}e12 instructions, {BYTES / 1e12:.2f}e12 bytes a second).
- **Share:** floor divided by the count for sm_90, at most 100 %: how near to this ceiling the instructions alone let
  the kernel come. Latency, caches and occupancy are left out.
- **Loads, registers, spills** are those for sm_90.

"""


def counted(kernel: Kernel, architecture: int) -> sass.Count:
    """Counts of one thread divided by its work."""
    constants = dict(kernel.constants)
    if "WIDE" in constants:
        import triton.language as tl

        constants["WIDE"] = getattr(tl, constants["WIDE"].replace("fp", "float"))
    function = kernel.function()
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    with sass.temporary_cache():
        code, ptx = sass.assemble(function, kernel.types, constants, architecture, kernel.warps)
    listing, usage = sass.read(code)
    found = sass.count(listing, usage, kernel.trips, sass.spilled(listing, ptx))
    return found._replace(instructions=found.instructions / kernel.work, loads=found.loads / kernel.work)


def rows(chosen: Iterable[Kernel]) -> list[dict[str, object]]:
    """What ``--json`` prints; ``instructions_per_tap`` is per element where the table says so."""
    return [
        {
            "operator": kernel.operator,
            "arch": f"sm_{architecture}",
            "form": kernel.form,
            "instructions_per_tap": round(found.instructions, 3),
            "loads_per_tap": round(found.loads, 3),
            "registers": found.registers,
            "spills": found.spills,
        }
        for kernel in chosen
        for architecture in ARCHITECTURES
        for found in [counted(kernel, architecture)]
    ]


def table(chosen: Iterable[Kernel]) -> str:
    """Markdown table, one line for each kernel."""
    head = ["operator", "form", "of each", *(f"sm_{a}" for a in ARCHITECTURES), "budget", "floor", "share", "loads"]
    lines = [head + ["registers", "spills", "bound by"], ["---"] * (len(head) + 3)]
    for kernel in chosen:
        found = {a: counted(kernel, a) for a in ARCHITECTURES}
        hopper = found[90]
        line = [kernel.operator, kernel.form, kernel.unit, *(f"{found[a].instructions:.2f}" for a in ARCHITECTURES)]
        line += [f"{kernel.budget:g}", f"{kernel.floor:.3g}", f"{min(1, kernel.floor / hopper.instructions):.0%}"]
        lines.append(line + [f"{hopper.loads:.2f}", str(hopper.registers), str(hopper.spills), kernel.why])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="a list of objects, one for each kernel and architecture")
    parser.add_argument("--only", default="", help="kernels with this text in their operator or form")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} of the documentation")
    arguments = parser.parse_args()
    chosen = [k for k in kernels() if arguments.only in f"{k.operator} {k.form}"]
    if arguments.json:
        print(json.dumps(rows(chosen), indent=1))
        return
    text = table(chosen)
    print(text)
    if arguments.write and not arguments.only:
        from pdegcnn._files import write_file

        write_file(PAGE, lambda fresh: fresh.write_text(INTRODUCTION + text, encoding="utf-8"))


if __name__ == "__main__":
    main()
