"""The machine code of every Triton kernel, counted without a GPU, against its budget."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton has wheels for Linux only")

from benchmarks import kernel_budget, sass  # noqa: E402
from benchmarks.kernel_list import kernels  # noqa: E402
from pdegcnn.ops.morphology import triton_source  # noqa: E402

ROOT = Path(__file__).parents[2]
LIST = list(kernels())
LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   LDG.E R4, [R2.64] ;
.L_x_1:
        /*0020*/              @!P0 FADD R5, R4, R4 ;
        /*0030*/               @P1 BRA `(.L_x_1) ;
        /*0040*/                   STL [R1], R5 ;
        /*0050*/               @P0 BRA `(.L_x_0) ;
        /*0060*/                   EXIT ;
.L_x_2:
        /*0070*/                   BRA `(.L_x_2) ;
        /*0080*/                   NOP ;
"""


def test_loops_count_as_often_as_they_run():
    found = sass.count(LISTING, "REG:40 STACK:0", (3, 5))
    outside, outer, inner = 2, 3, 2
    assert found == (outside + 1 + 3 * outer + 3 * 5 * inner, 3, 40, 0)


@pytest.mark.parametrize("index", range(len(LIST)), ids=[f"{k.operator}-{k.form}" for k in LIST])
def test_kernel_keeps_its_budget(index):
    kernel = LIST[index]
    for architecture in kernel_budget.ARCHITECTURES:
        found = kernel_budget.counted(kernel, architecture)
        assert found.instructions <= kernel.budget, f"sm_{architecture}: {found.instructions:.2f} instructions"
        assert found.spills == 0, f"sm_{architecture}: {found.spills} spills"


def test_every_kernel_is_listed():
    """All functions that are launched, ``name[grid](...)``, in the modules of the Triton versions."""
    listed, launched = {k.name for k in LIST}, set()
    for path in [ROOT / "pdegcnn" / "ops" / "triton_strips.py", *(ROOT / "pdegcnn" / "ops").glob("*/triton_impl.py")]:
        folder = path.relative_to(ROOT / "pdegcnn" / "ops").with_suffix("").as_posix().replace("/", ".")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
                target = node.func.value
                own = folder if isinstance(target, ast.Name) else folder.replace("triton_impl", "triton_source")
                launched.add(f"{own}.{ast.unparse(target).split('.')[-1]}")
    assert launched == listed


def test_the_page_has_every_kernel_and_budget():
    lines = (ROOT / "docs" / "benchmarks" / "kernel_budget.md").read_text().splitlines()
    for kernel in LIST:
        (line,) = [x for x in lines if x.startswith(f"| {kernel.operator} | {kernel.form} |")]
        assert f"| {kernel.budget:g} |" in line


def test_json_of_the_first_kernel():
    command = [sys.executable, "-m", "benchmarks.kernel_budget", "--json", "--only", "gradient in the kernel, 5x5x5"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    keys = ["operator", "arch", "form", "instructions_per_tap", "loads_per_tap", "registers", "spills"]
    found = json.loads(run.stdout)
    assert [r["arch"] for r in found[:3]] == ["sm_80", "sm_90", "sm_100"] and all(list(r) == keys for r in found)


@pytest.mark.parametrize("sign", (1, -1))
def test_written_source_holds_every_tap_once(sign):
    text = triton_source.forward((3, 3, 5), 2, sign, True, "float32")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for i in range(3):
        for j in range(5):
            uses = text.count(f"{'-' if sign > 0 else '+'} k{i}_{j}\n") + text.count(f"k{i}_{j})\n")
            assert uses == 2, "each tap serves each of the two rows"
