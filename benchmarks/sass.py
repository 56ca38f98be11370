"""Machine code of Triton kernels, compiled and counted without a GPU by the programs in Triton's wheel."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*?);")
LABEL = re.compile(r"^(\.L_x_\d+):")
TARGET = re.compile(r"\.L_x_\d+")


class Count(NamedTuple):
    """What one thread of a kernel executes, where every branch that leads on is counted as not taken.

    Args:
        instructions: all of them, those of loops as often as the loops run.
        loads: loads from global memory among them.
        registers: registers of a thread.
        spills: bytes of registers that did not fit and go to memory and back.
    """

    instructions: float
    loads: float
    registers: int
    spills: int


@contextmanager
def temporary_cache() -> Iterator[None]:
    """Let Triton keep what it compiles in a folder that is removed afterwards."""
    before = os.environ.get("TRITON_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="kernels-", ignore_cleanup_errors=True) as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["TRITON_CACHE_DIR"]
            if before is not None:
                os.environ["TRITON_CACHE_DIR"] = before


def assemble(
    function: Any, types: Mapping[str, str], constants: Mapping[str, Any], architecture: int, warps: int
) -> tuple[bytes, str]:
    """Machine code, and PTX, of a Triton function for the compute capability ``architecture`` (90 for sm_90).

    Args:
        function: what ``triton.jit`` made, not interpreted.
        types: Triton's type of each pointer or number, by name; ``"i32"`` where absent.
        constants: value of each ``tl.constexpr``, by name.
        architecture: compute capability.
        warps: warps of a program.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = function.arg_names
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    source = ASTSource(function, signature, {(names.index(n),): value for n, value in constants.items()})
    made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": warps})
    return made.asm["cubin"], made.asm["ptx"]


def read(cubin: bytes) -> tuple[str, str]:
    """Listing of machine code, and the resources that it uses."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return _run("nvdisasm", "-c", file.name), _run("cuobjdump", "-res-usage", file.name)


def _run(program: str, *arguments: str) -> str:
    """What a program of Triton's wheel prints."""
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / program
    done = subprocess.run([path, *arguments], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def spilled(listing: str, ptx: str) -> int:
    """Bytes that are spilled, by the assembler's word; local memory may also hold tables, as those of a sine."""
    if not re.search(r"\b(LDL|STL)\b", listing):
        return 0
    target = re.search(r"\.target (sm_(\d+)\w*)", ptx)
    assert target is not None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.ptx").write_text(ptx)
        program = "ptxas-blackwell" if int(target[2]) >= 100 else "ptxas"
        files = [str(Path(folder) / name) for name in ("kernel.ptx", "kernel.cubin")]
        said = _run(program, "-v", f"--gpu-name={target[1]}", files[0], "-o", files[1])
    return sum(int(n) for n in re.findall(r"(\d+) bytes spill", said))


def count(listing: str, usage: str, trips: Sequence[float], spills: int = 0) -> Count:
    """Count the instructions of a listing; loops at depth d run ``trips[d]`` times (once beyond the end of the list).

    A loop is what lies between a label and a branch back to it.
    """
    code: list[tuple[str, str]] = []
    places: dict[str, int] = {}
    for line in listing.splitlines():
        if label := LABEL.match(line):
            places[label[1]] = len(code)
        elif found := INSTRUCTION.match(line):
            code.append((found[1].split(".")[0], found[2]))
    targets = ((n, TARGET.search(rest)) for n, (name, rest) in enumerate(code) if name == "BRA")
    backward = [(places[t[0]], n) for n, t in targets if t and places.get(t[0], n) < n]
    ends = {start: max(n for s, n in backward if s == start) for start, _ in backward}
    total, loads = 0.0, 0.0
    for n, (name, _) in enumerate(code):
        if name == "NOP" or (name == "BRA" and n == len(code) - 1):
            continue
        times = 1.0
        for depth in range(sum(start <= n <= end for start, end in ends.items())):
            times *= trips[depth] if depth < len(trips) else 1
        total += times
        loads += times * name.startswith("LDG")
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None
    return Count(total, loads, int(registers[1]), spills)
