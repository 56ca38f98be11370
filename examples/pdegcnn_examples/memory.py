"""Memory of training: what one step holds, measured in a separate process, and how to keep it between steps."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CLEAR = Path("/proc/self/clear_refs")
"""Writing 5 here resets the peak (Linux)."""


MALLOPT = {"MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1), "MALLOC_MMAP_THRESHOLD_": (-3, 2**30)}
"""Settings of the GNU C library by environment variable: number and value for ``mallopt``."""


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors for the next step, unless the environment says otherwise.

    The GNU C library hands it back to the system by default and fetches it again page by page, which takes a tenth of
    a step. Other C libraries do nothing here.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and not any(name in os.environ for name in MALLOPT):
        for setting in MALLOPT.values():
            mallopt(*setting)


def resident(name: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure(step: Callable[[], object]) -> tuple[float, float]:
    """Megabytes that ``step`` holds at its peak beyond what is there before it, and its seconds."""
    CLEAR.write_text("5", encoding="utf-8")
    before, start = resident("VmRSS"), time.perf_counter()
    step()
    return (resident("VmHWM") - before) / 1e6, time.perf_counter() - start


def elsewhere(arguments: Sequence[str]) -> tuple[float, float] | None:
    """What a fresh process of this program prints as JSON for ``arguments``; None where peaks cannot be measured."""
    if not CLEAR.exists():
        return None
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    command = [sys.executable, sys.argv[0], *arguments]
    env["MALLOC_MMAP_THRESHOLD_"] = "65536"
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: the process ended with {done.returncode}\n{done.stderr}")
    peak, seconds = json.loads(done.stdout)
    return peak, seconds
