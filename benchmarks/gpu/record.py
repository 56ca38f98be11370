"""What a run on a GPU found: rows that are written to a page and a CSV file after every part, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pdegcnn._files import write_file

FIELDS: tuple[str, ...] = ("part", "case", "dtype", "figure", "value", "unit", "verdict", "note")
VERDICTS = ("good", "wrong", "left out", "measured")


class Record:
    """Rows of one run on one device.

    Args:
        folder: where the page and the CSV file go.
        name: ends the names of the files: ``gpu-NAME.md``.
        device: "cuda", or "cpu" for a rehearsal.
        seconds: time for everything; cases that have not begun by then are left out.
    """

    def __init__(self, folder: Path, name: str, device: str, seconds: float) -> None:
        self.folder, self.name, self.device = folder, name, device
        self.rows: list[dict[str, str]] = []
        self.began = time.monotonic()
        self.ends = self.began + seconds

    def add(
        self,
        part: str,
        case: str,
        figure: str,
        value: float | None = None,
        unit: str = "",
        verdict: str = "measured",
        dtype: str = "",
        note: str = "",
    ) -> None:
        """Add one row and print it."""
        assert verdict in VERDICTS
        number = "" if value is None else f"{value:.4g}"
        entry = (part, case, dtype, figure, number, unit, verdict, " ".join(note.split())[:200])
        self.rows.append(dict(zip(FIELDS, entry)))
        print(" | ".join(x for x in entry if x), flush=True)

    def attempt(self, part: str, case: str, run: Callable[..., None], *arguments: Any, dtype: str = "") -> None:
        """Call ``run(*arguments)``; a failure is a row like any other, and time that is used up leaves the case out."""
        if time.monotonic() > self.ends:
            self.add(part, case, "run", verdict="left out", dtype=dtype, note="no time left")
            return
        try:
            run(*arguments)
        except ImportError as error:
            self.add(part, case, "run", verdict="left out", dtype=dtype, note=f"{type(error).__name__}: {error}")
        except Exception as error:  # whatever fails on a new machine must not end the run
            traceback.print_exc(file=sys.stderr)
            self.add(part, case, "run", verdict="wrong", dtype=dtype, note=f"{type(error).__name__}: {error}")

    @property
    def wrong(self) -> int:
        """Number of cases that failed."""
        return sum(row["verdict"] == "wrong" for row in self.rows)

    def write(self) -> list[Path]:
        """Write the page and the CSV file; return their paths."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / f"gpu-{self.name}.{ending}" for ending in ("md", "csv")]
        table = io.StringIO()
        writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        for path, text in zip(paths, (self.page(), table.getvalue())):
            write_file(path, lambda fresh, text=text: fresh.write_text(text, encoding="utf-8"))
        return paths

    def page(self) -> str:
        """The page: the machine, what went wrong, then one table for each part."""
        counts = ", ".join(f"{sum(r['verdict'] == v for r in self.rows)} {v}" for v in VERDICTS)
        minutes = (time.monotonic() - self.began) / 60
        lines = [f"# On {describe(self.device)[0]}", "", f"Made by `make gpu` in {minutes:.1f} minutes: {counts}.", ""]
        lines += [f"- {line}" for line in describe(self.device)] + [""]
        if self.device == "cpu":
            lines += ["**A rehearsal without a GPU: no figure here is a time of a GPU.**", ""]
        for part in dict.fromkeys(row["part"] for row in self.rows):
            lines += [f"## {part}", "", "| " + " | ".join(FIELDS[1:]) + " |", "|" + "---|" * (len(FIELDS) - 1)]
            lines += ["| " + " | ".join(r[f].replace("|", "/") for f in FIELDS[1:]) + " |" for r in self._order(part)]
            lines.append("")
        return "\n".join(lines)

    def _order(self, part: str) -> list[dict[str, str]]:
        """Rows of a part, those that went wrong first."""
        return sorted((r for r in self.rows if r["part"] == part), key=lambda row: row["verdict"] != "wrong")


def describe(device: str) -> list[str]:
    """Device, driver and versions, one thing a line."""
    lines = [platform.processor() or platform.machine()]
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        lines = [torch.cuda.get_device_name()]
        lines += [f"{properties.multi_processor_count} multiprocessors, {properties.total_memory / 2**30:.0f} GiB"]
        lines += [f"compute capability {properties.major}.{properties.minor}, CUDA {torch.version.cuda}"]
        lines += [f"driver {query('driver_version')}, clock up to {query('clocks.max.sm')} MHz"]
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for package in ("triton", "numba", "numpy", "scipy", "e3nn"):
        try:
            versions.append(f"{package} {__import__(package).__version__}")
        except Exception:  # a broken package is named like an absent one
            versions.append(f"no {package}")
    return [*lines, ", ".join(versions), f"{platform.platform()}, {os.cpu_count()} CPU cores"]


def query(field: str) -> str:
    """A field of the first GPU as nvidia-smi gives it, without its unit; "unknown" where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, f"--query-gpu={field}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.splitlines()[0].strip() if found else "unknown"


def short_name(device: str) -> str:
    """The device's name as part of a file's name."""
    text = torch.cuda.get_device_name() if device == "cuda" else "rehearsal"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
