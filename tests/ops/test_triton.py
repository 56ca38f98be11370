"""The Triton versions without a GPU: interpreted against the specification, and compiled for one."""

import importlib
import inspect
import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection

pytest.importorskip("triton", reason="Triton has wheels for Linux only")
HERE = Path(__file__).parent
FOLDERS = {"morphological_convolution": "morphology"}
POINTERS = {"u": "*fp32", "grad": "*fp32", "out": "*fp32", "kernel": "*fp32", "shift": "*fp32", "winner": "*u8"}
POINTERS |= dict.fromkeys(("fans", "tail", "following", "previous", "twin", "vertex", "wedge", "corners"), "*i64")
POINTERS |= dict.fromkeys(("keys", "corner", "angles", "transport", "scale"), "*fp64")
POINTERS |= dict.fromkeys(("radius", "angle", "positions"), "*fp64")
POINTERS |= dict.fromkeys(("flow", "mean", "areas", "profile", "scale", "total"), "*fp32")
POINTERS |= {"frame": "*fp32", "special": "*i32"}
POINTERS |= dict.fromkeys(("fields", "values", "offset", "turn", "matrix", "table", "law"), "*fp32")
POINTERS |= dict.fromkeys(("taps", "start", "order", "readers", "owner", "columns", "steps"), "*i64")
OWN = {"geodesic_flow": {"length": "*fp64"}}  # lengths of edges; of rings, it is a number
PARTS = ("test_backends.py", "test_ring_morphology.py", "test_ring_convolution.py", "test_laws.py")
PARTS += ("test_torch_machinery.py", "interpreted.py")
CHOSEN = "triton and not dilation_laws and (not test_torch_machinery or second_derivatives or functional_grad)"
CHOSEN += " and not (two_convolutions and (float64 or float16))"  # the pair has the arithmetic of each, tested in all
SIZES = {
    "NONE": 255,
    "KINDS": 2,
    "LANES": 8,
    "KO": 3,
    "KH": 3,
    "KW": 5,
    "TOP": 1,
    "LEFT": 2,
    "BLOCK": 128,
    "TAPS": 32,
    "CHUNK": 128,
    "NUMBER": 45,
    "ROWS": 4,
    "TILE": 4,
    "LINE": 64,
    "EMPTY": -math.inf,
}


def launched():
    """Every kernel that is launched, with each of the constants that change its code."""
    variants = {
        "KEEP": (True, False),
        "PAIR": (True, False),
        "SIGN": (1, -1),
        "PERIODIC": (True, False),
        "FORWARD": (True, False),
        "BOUNDARY": (0, 1, 2),
        "CHECK": (True, False),
        "ALL": (True, False),
        "BACK": (True, False),
    }
    served = [name for name, backends in registry.operators().items() if "triton" in backends]
    for operator in (FOLDERS.get(name, name) for name in served):
        module = importlib.import_module(f"pdegcnn.ops.{operator}.triton_impl")
        for name, function in vars(module).items():
            if hasattr(function, "arg_names") and f"{name}[" in inspect.getsource(module):
                names = [n for n in variants if n in function.arg_names]
                for values in product(*(variants[n] for n in names)):
                    yield operator, name, dict(zip(names, values))


def interpreted(*arguments):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE.parents[1])}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def test_interpreted_kernels_pass_the_tests_of_every_backend():
    """In one process: its start takes longer than some of these tests."""
    files = [str(HERE / part) for part in PARTS]
    run = interpreted("-m", "pytest", *files, "-k", CHOSEN, "-x", "-p", "no:cacheprovider", "-rA", "--durations=0")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    passed = [line for line in run.stdout.splitlines() if line.startswith("PASSED") and "triton" in line]
    assert all(any(part in line for line in passed) for part in PARTS) and "SKIPPED" not in run.stdout


@pytest.mark.parametrize("wide", ["fp32", "fp64"])
@pytest.mark.parametrize("operator, name, variant", [*launched()])
def test_kernels_compile_for_a_gpu(operator, name, variant, wide):
    """Types and control flow that the interpreter lets pass but a compiler does not; no device is needed."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(importlib.import_module(f"pdegcnn.ops.{operator}.triton_impl"), name)
    constants = {**SIZES, **variant, "WIDE": tl.float64 if wide == "fp64" else tl.float32}
    constants = {k: v for k, v in constants.items() if k in function.arg_names}
    pointers = {k: v.replace("fp32", wide) for k, v in POINTERS.items()} | {"sums": "*fp64", "grad_u": f"*{wide}"}
    pointers |= OWN.get(operator, {})
    kinds = {n: pointers.get(n.removesuffix("2"), "i32") for n in function.arg_names}
    signature = {n: "constexpr" if n in constants else kind for n, kind in kinds.items()}
    constants = {(function.arg_names.index(k),): v for k, v in constants.items()}
    compiled = triton.compile(ASTSource(function, signature, constants), target=GPUTarget("cuda", 80, 32))
    assert "ptx" in compiled.asm


def test_a_cpu_signal_is_refused_with_a_reason():
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.fail("run this file without TRITON_INTERPRET: it sets it itself")
    with pytest.raises(ValueError, match="runs on the CPU only under TRITON_INTERPRET=1"):
        convection(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 3), backend="triton")


def test_triton_is_not_imported_unless_it_runs():
    code = "import sys, torch, pdegcnn as pg; pg.backends(False); import pdegcnn.ops.morphology as m;"
    code += "m.morphological_convolution(torch.zeros(1, 1, 1, 3, 3), torch.zeros(1, 1, 1, 3, 3));"
    code += "bad = [n for n in sys.modules if n.startswith('pdegcnn.ops') and n.endswith('.triton_impl')];"
    code += "assert not bad, bad"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parents[1])
    assert run.returncode == 0, run.stderr


def test_absent_triton_is_a_soft_failure(monkeypatch):
    monkeypatch.setattr(registry, "_import_problem", lambda name: f"{name} is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert registry.refusal("convection", "triton", "cpu") == "triton is not installed"
