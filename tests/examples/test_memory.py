"""Memory that training keeps between steps."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from pdegcnn_examples import memory


@pytest.mark.parametrize("name", [None, *memory.MALLOPT])
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """Also where the C library has no such setting."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(memory.sys, "platform", "linux")
    for variable in memory.MALLOPT:
        monkeypatch.delenv(variable, raising=False)
    if name is not None:
        monkeypatch.setenv(name, "65536")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *setting: calls.append(setting)))
    memory.keep_freed_memory()
    assert calls == ([] if name else list(memory.MALLOPT.values()))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    memory.keep_freed_memory()
