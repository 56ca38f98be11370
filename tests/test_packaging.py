"""What is installed: one version everywhere, types, versions of Python, pins that fit together."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pdegcnn as pg

ROOT = Path(__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    assert re.search(r'^version = "(.+)"$', text("pyproject.toml"), flags=re.M)[1] == pg.__version__  # type: ignore[index]
    examples = text("examples/pyproject.toml")
    assert re.search(r'^version = "(.+)"$', examples, flags=re.M)[1] == pg.__version__  # type: ignore[index]
    assert re.search(r'"pdegcnn==(.+)"', examples)[1] == pg.__version__  # type: ignore[index]
    assert re.search(r"^version: (.+)$", text("CITATION.cff"), flags=re.M)[1] == pg.__version__  # type: ignore[index]
    assert re.search(r"^## \[(.+?)\]", text("CHANGELOG.md"), flags=re.M)[1] == pg.__version__  # type: ignore[index]


def test_the_wheel_is_typed_and_says_what_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (place,) = [n for n in names if n.endswith("/METADATA")]
        said = message_from_bytes(wheel.read(place))
    assert {n.partition("/")[0] for n in names} == {"pdegcnn", f"pdegcnn-{pg.__version__}.dist-info"}
    assert "pdegcnn/py.typed" in names
    least = re.fullmatch(r">=3\.(\d+)", said["Requires-Python"])
    stated = {int(n) for n in re.findall(r"Python :: 3\.(\d+)", "\n".join(said.get_all("Classifier")))}
    assert least
    assert min(stated) == int(least[1]) <= sys.version_info.minor <= max(stated)
    assert stated == set(range(min(stated), max(stated) + 1))


def test_every_dependency_is_pinned() -> None:
    """Also those of the extras; pip would otherwise take what came out yesterday."""
    pins = {re.sub(r"[-_.]+", "-", n).lower() for n in re.findall(r"^([\w.-]+)==", text("constraints.txt"), flags=re.M)}
    asked: set[str] = set()
    for project in ("pyproject.toml", "examples/pyproject.toml"):
        block = re.search(r"^dependencies = .*?^\[tool", text(project), flags=re.M | re.S)
        assert block
        found = re.findall(r'"([A-Za-z][\w.-]*)(?:\[\w+\])?[>=]=', block[0])
        asked |= {re.sub(r"[-_.]+", "-", name).lower() for name in found} - {"pdegcnn"}
    assert len(asked) > 20
    assert asked <= pins, f"no version of {sorted(asked - pins)} in constraints.txt"


IMPORTS = """
import sys

import pdegcnn as pg

assert not {"torch", "scipy", "e3nn"} & sys.modules.keys(), "import pdegcnn takes other packages along"
assert set(pg.__all__) <= set(dir(pg))
for name in pg.__all__:
    getattr(pg, name)
assert "e3nn" not in sys.modules, "e3nn takes as long to import as torch"
assert pg.SE2 is pg.spaces.SE2 and pg.load is pg.io.load and pg.ops is sys.modules["pdegcnn.ops"]
assert str(pg.sphere.irreps(1)) == "1x0e+1x1o" and "e3nn" in sys.modules
assert not hasattr(pg, "nothing")
"""


def test_parts_are_imported_on_first_use() -> None:
    """So ``import pdegcnn`` takes no longer than ``import torch``: ``tools/import_time.py`` measures it."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
