"""Compilation of loop modules with Numba: specialised source files, disk cache, threads that survive a fork."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from pdegcnn._dtypes import HALF, widen
from pdegcnn._files import write_file

BEGIN, END = "# rows: generic\n", "# rows: end\n"
ENTRY: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True, "_nrt": False}
"""Options of a loop that Python calls. Loops write numbers: assigning an array to another takes three seconds to
compile, for the text of its error.

No function makes arrays: :func:`with_room` gives them. So references to arrays need not be counted, which took two
locked instructions for each view of one, up to half of the time of short loops, and a tenth of the time to compile.
"""
PART: dict[str, Any] = ENTRY | {"no_cpython_wrapper": True}
"""Options of a function that other loops call: without what Python needs to call it, which takes time to compile."""
INSIDE: dict[str, Any] = {"inline": "always"}
"""Options of a function that one other loop calls in one place: its text becomes part of that loop, which takes half as
long to compile."""
LOG = logging.getLogger("pdegcnn")
_SAID: set[str] = set()
_POOL: dict[tuple[int, int], ThreadPoolExecutor] = {}


def cache_dir() -> Path:
    """Return the folder of compiled code: ``PDEGCNN_CACHE_DIR``, else the user's cache folder, else a temporary one."""
    given = os.environ.get("PDEGCNN_CACHE_DIR")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pdegcnn"
    try:
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            return base
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="pdegcnn-"))


@cache
def specialise(source: str, rows: Callable[[int], str] | None, width: int) -> ModuleType:
    """Import the loop module in file ``source`` with its generic row functions, if any, replaced by ``rows(width)``.

    The new source is a separate file in :func:`cache_dir`, named by the hash of its text, and Numba keeps the
    machine code next to it: a later process loads it instead of compiling (2 to 6 seconds per width and dtype).
    """
    text = Path(source).read_text(encoding="utf-8")
    if rows is not None:
        head, rest = text.split(BEGIN)
        text = head + rows(width) + rest.split(END)[1]
    return import_text(f"loops_{Path(source).parent.name}_{width}", text)


def import_text(name: str, text: str) -> ModuleType:
    """Import ``text`` as a module, from a separate file in :func:`cache_dir` named by ``name`` and the text's hash.

    Compilers read the source of a function from its file, and debuggers show it.
    """
    name = f"pdegcnn_{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    path = cache_dir() / f"{name}.py"
    if not path.exists():
        _say_once(path.parent)
        write_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    for loop in vars(module).values():
        if isinstance(compiling := getattr(loop, "compile", None), MethodType):
            loop.compile = _without_collector(compiling)
    return module


def _without_collector(compiling: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``compiling`` with Python's garbage collector stopped: it would take a tenth of the time."""

    def run(*args: Any, **options: Any) -> Any:
        running = gc.isenabled()
        gc.disable()
        try:
            return compiling(*args, **options)
        finally:
            if running:
                gc.enable()

    return run


def _say_once(folder: Path) -> None:
    """Log, once in a process, why the first calls take long."""
    if not _SAID:
        _SAID.add("compiling")
        LOG.warning(
            "compiling kernels: this is done once, in the first calls; their machine code is kept in %s", folder
        )


def parallel(function: Callable[..., Any], items: int, *args: Any) -> None:
    """Run ``function(*args, start, stop)``, which releases the GIL, over the range ``items`` in torch's threads."""
    threads = max(1, min(torch.get_num_threads(), items))
    if threads == 1:
        function(*args, 0, items)
        return
    pool = _POOL.get((os.getpid(), threads))
    if pool is None:  # threads do not survive a fork: one pool per process
        pool = _POOL.setdefault((os.getpid(), threads), ThreadPoolExecutor(threads - 1, "pdegcnn"))
    pieces = min(items, 4 * threads)
    bounds = [items * piece // pieces for piece in range(pieces + 1)]
    queue = iter(list(zip(bounds, bounds[1:])))

    def work() -> None:
        for start, stop in queue:  # a list iterator yields each piece once, also with several threads
            function(*args, start, stop)

    others = [pool.submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


Room = tuple[int | tuple[int, ...], torch.dtype, float]


def with_room(loop: Callable[..., Any], *rooms: Room) -> Callable[..., Any]:
    """Return ``loop`` with arrays before its arguments, new in every call: one for each room (shape, dtype, value).

    A size stands for the shape of a line. An array that a loop allocates by itself takes longer to compile. Those of
    torch begin at whole cache lines.
    """

    def room(size: int | tuple[int, ...], dtype: torch.dtype, value: float) -> Any:
        return torch.full((size,) if isinstance(size, int) else size, value, dtype=dtype).numpy()

    return lambda *args: loop(*(room(*x) for x in rooms), *args)


def array(tensor: Tensor) -> Any:
    """Return a contiguous NumPy view of a tensor for the loops; half precision becomes float32."""
    return (widen(tensor) if tensor.dtype in HALF else tensor).detach().resolve_neg().contiguous().numpy()
