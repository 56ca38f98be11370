"""``pdegcnn vessels``: pictures of the photograph's size for any camera; nothing is lost, whatever fails."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from pdegcnn.command_line import info, main, vessels
from pdegcnn.ops import backend
from pdegcnn.vessels import photograph
from pdegcnn_examples.datasets import drawn_vessels

ORIENTATION = 0x0112
LOAD = vessels.load


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A network that takes what is darker than its surroundings for a vessel; small photographs."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Sigmoid()).eval()
    nn.init.constant_(model[0].weight, -1.0)
    nn.init.constant_(model[0].bias, -3.0)
    monkeypatch.setattr(vessels, "load", lambda chosen: (model.requires_grad_(False), "dark"))
    monkeypatch.setattr(photograph, "DIAMETER", 150.0)


def call(*arguments: object) -> int:
    return main(["vessels", *map(str, arguments)])


def eye(seed: int = 0) -> np.ndarray:
    return (drawn_vessels(1, 160, seed).images[0].movedim(0, -1).numpy() * 255).astype(np.uint8)


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    """The same eye as several cameras might store it, and two files that are not photographs."""
    folder = tmp_path / "eyes"
    folder.mkdir()
    picture = Image.fromarray(eye())
    picture.save(folder / "a.png")
    picture.resize((410, 410), Image.Resampling.BICUBIC).save(folder / "b.jpg", quality=95)
    wide = np.zeros((140, 260, 3), np.uint8)
    wide[:, 50:210] = eye()[10:150]
    Image.fromarray(wide).save(folder / "c.tif")
    Image.fromarray(wide[:, ::-1]).convert("L").save(folder / "c.ppm")
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(wide))).save(folder / "exif.jpg", exif=turned, quality=95)
    Image.fromarray(wide[..., 1].astype(np.uint16) * 257).save(folder / "deep.png")
    clear = np.concatenate((eye(), np.full((160, 160, 1), 255, np.uint8)), -1)
    Image.fromarray(clear).save(folder / "alpha.PNG")
    (folder / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(folder / "dark.png")
    (folder / "notes.txt").write_text("kept")
    (folder / "._a.png").write_bytes(b"what macOS leaves beside a file")
    return folder


def test_pictures_of_the_size_of_the_photograph(cameras, tmp_path, capsys):
    assert call(cameras, "--out", tmp_path / "new" / "masks") == 1
    said = capsys.readouterr()
    assert "2 of 9 photographs could not be segmented" in said.err
    assert "broken.png: expected a readable image" in said.err
    assert "dark.png: image: expected a photograph with a lit field of view" in said.err
    assert "Traceback" not in said.err and "\r" not in said.err
    assert said.out.count("field of view") == 7 and "260 x 140 pixels" in said.out
    written = {p.name: np.array(Image.open(p)) for p in (tmp_path / "new" / "masks").iterdir()}
    stems = {"a": (160, 160), "b": (410, 410), "c.tif": (140, 260), "c.ppm": (140, 260), "exif": (140, 260)}
    stems |= {"deep": (140, 260), "alpha": (160, 160)}
    assert set(written) == {f"{stem}_{kind}.png" for stem in stems for kind in vessels.KINDS}
    for stem, shape in stems.items():
        mask, chance, shown = (written[f"{stem}_{kind}.png"] for kind in vessels.KINDS)
        assert mask.shape == chance.shape == shape and shown.shape == (*shape, 3)
        assert set(np.unique(mask)) <= {0, 255} and mask.dtype == chance.dtype == np.uint8
        assert 0.01 < (mask > 0).mean() < 0.3 and (mask[:5, :5] == 0).all()
        assert (chance[mask > 0] >= 127).all()
    small = np.array(Image.fromarray(written["b_probability.png"]).resize((160, 160), Image.Resampling.BOX))
    assert np.abs(small.astype(float) - written["a_probability.png"]).mean() < 25  # the same eye at 2.6 times the size
    assert np.array_equal(written["alpha_mask.png"], written["a_mask.png"])
    both = (written["exif_mask.png"] > 0) & (written["c.tif_mask.png"] > 0)
    assert both.sum() > 0.8 * (written["c.tif_mask.png"] > 0).sum()
    assert (cameras / "notes.txt").read_text() == "kept"


def test_the_same_command_goes_on(cameras, tmp_path, capsys):
    """What is whole and of the same photograph and options stays; what is missing is made; nothing is overwritten."""
    out, photo = tmp_path / "masks", cameras / "a.png"
    assert call(photo, "--out", out) == 0
    first = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}
    (out / "a_overlay.png").unlink()
    assert call(photo, cameras / "b.jpg", "--out", out) == 0
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.name.startswith("a_")} == {
        name: content for name, (_, content) in first.items()
    }
    capsys.readouterr()
    assert call(photo, "--out", out) == 0
    assert "is done already" in capsys.readouterr().out
    assert call(photo, "--out", out, "--threshold", 0.9) == 1
    assert "a_mask.png is there already" in capsys.readouterr().err
    assert (out / "a_mask.png").read_bytes() == first["a_mask.png"][1]
    assert call(photo, "--out", out, "--threshold", 0.9, "--overwrite") == 0
    fewer = np.array(Image.open(out / "a_mask.png"))
    assert 0 < (fewer > 0).sum() < (np.array(Image.open(io.BytesIO(first["a_mask.png"][1]))) > 0).sum()


def test_files_of_others_are_not_overwritten(cameras, tmp_path, capsys):
    out = tmp_path / "masks"
    out.mkdir()
    (out / "a_mask.png").write_bytes(b"mine")
    assert call(cameras / "a.png", cameras / "b.jpg", "--out", out) == 1
    assert "a_mask.png is there already" in capsys.readouterr().err
    assert (out / "a_mask.png").read_bytes() == b"mine" and (out / "b_mask.png").exists()


def test_photographs_are_never_overwritten(tmp_path, capsys):
    """Not even by --overwrite, where one is called as the mask of another; and what was written is not read again."""
    for name in ("a.png", "a_mask.png"):
        Image.fromarray(eye()).save(tmp_path / name)
    before = (tmp_path / "a_mask.png").read_bytes()
    places = (tmp_path / "a.png", tmp_path / "a_mask.png", "--out", tmp_path, "--overwrite")
    assert call(*places) == 1
    assert "is itself a photograph" in capsys.readouterr().err
    assert (tmp_path / "a_mask.png").read_bytes() == before
    assert (tmp_path / "a_mask_mask.png").exists()
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(eye()).save(other / "b.png")
    for _ in range(2):
        assert call(other, "--out", other) == 0
    assert {p.name for p in other.iterdir()} == {"b.png", "b_mask.png", "b_probability.png", "b_overlay.png"}


@pytest.mark.parametrize("stems", [("a",), ("a", "a"), ("a", "b")], ids=str)
def test_the_same_command_twice_has_nothing_to_do(stems, tmp_path, capsys):
    """Whatever the pictures are called, also beside photographs that have gone: they are not photographs."""
    folder = tmp_path / "eyes"
    folder.mkdir()
    for stem, suffix in zip(stems, (".png", ".jpg")):
        Image.fromarray(eye()).save(folder / f"{stem}{suffix}")
    assert call(folder, "--out", folder) == 0
    capsys.readouterr()
    assert call(folder, "--out", folder) == 0
    assert capsys.readouterr().out.count("is done already") == len(stems)
    (folder / "a.png").rename(folder / "c.png")  # its pictures keep their names
    assert call(folder, "--out", folder) == 0
    assert capsys.readouterr().out.count("\n") == len(stems)
    written = next(p for p in folder.iterdir() if p.stem.endswith("_overlay"))
    capsys.readouterr()
    assert call(written, "--out", folder) == 1
    assert f"{written.name}: expected a photograph, got a picture that this command has written" in (
        capsys.readouterr().err
    )


def test_a_place_that_cannot_be_read_stops_no_other(tmp_path, monkeypatch, capsys):
    locked = tmp_path / "locked"
    locked.mkdir()
    Image.fromarray(eye()).save(tmp_path / "a.png")
    look, list_ = Path.is_file, Path.iterdir

    def refused(known):
        def call(path):
            if "locked" in path.parts:
                raise PermissionError(13, "Permission denied", str(path))
            return known(path)

        return call

    monkeypatch.setattr(Path, "iterdir", refused(list_))
    monkeypatch.setattr(Path, "is_file", refused(look))
    assert call(locked, locked / "x.png", tmp_path / "a.png", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.count("expected a photograph or a folder that can be read (Permission denied)") == 2
    assert (tmp_path / "out" / "a_mask.png").exists()


def test_equal_names_in_two_folders(tmp_path, capsys):
    for folder, seed in (("left", 0), ("right", 1)):
        (tmp_path / folder).mkdir()
        Image.fromarray(eye(seed)).save(tmp_path / folder / "eye.png")
    out = tmp_path / "out"
    assert call(tmp_path / "left", tmp_path / "right", tmp_path / "left" / "eye.png", "--out", out) == 0
    assert len(list(out.iterdir())) == 6
    one, two = (Image.open(out / f"{folder}_eye.png_mask.png") for folder in ("left", "right"))
    assert not np.array_equal(np.array(one), np.array(two))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.png", "x/b.png"], ["a", "b"]),
        (["x/a.png", "x/a.jpg"], ["a.png", "a.jpg"]),
        (["x/a.png", "y/a.png", "x/b.png"], ["x_a.png", "y_a.png", "b"]),
        (["p/x/a.png", "q/x/a.png"], ["p_x_a.png", "q_x_a.png"]),
    ],
)
def test_every_photograph_has_a_name_of_its_own(paths, names, tmp_path):
    found = [job.name for job in vessels.named([tmp_path / p for p in paths])]
    assert found == names


@given(
    st.lists(
        st.tuples(
            st.sampled_from("xy"), st.sampled_from(["a", "A", "x_a", "a.png"]), st.sampled_from([".png", ".PNG"])
        ),
        min_size=1,
        unique=True,
    )
)
def test_no_two_photographs_share_a_name(paths):
    """Also on disks that take upper case for lower case."""
    found = [job.name.lower() for job in vessels.named([Path("/eyes") / f / (n + s) for f, n, s in paths])]
    assert len(set(found)) == len(paths)


def test_names_that_the_terminal_cannot_show(tmp_path, monkeypatch):
    """A photograph is done when its pictures are written, whatever can be printed."""
    said = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in said.items():
        monkeypatch.setattr(sys, name, stream)
    Image.fromarray(eye()).save(tmp_path / "œil.png")
    assert call(tmp_path / "œil.png", "--out", tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"œil_{kind}.png" for kind in vessels.KINDS}
    assert call(tmp_path / "mŷs.png", "--out", tmp_path / "out") == 1
    for stream, text in zip(said.values(), (b"\\u0153il.png: 160 x 160 pixels", b"m\\u0177s.png: expected")):
        stream.flush()
        assert text in stream.buffer.getvalue()


def test_missing_and_empty_places(tmp_path, cameras, capsys):
    (tmp_path / "empty").mkdir()
    assert call(tmp_path / "empty", "--out", tmp_path / "out") == 1
    assert "the folder has none" in capsys.readouterr().err
    assert call(tmp_path / "nothing.png", cameras / "a.png", "--out", tmp_path / "out") == 1
    assert "nothing.png: expected a photograph or a folder" in capsys.readouterr().err
    assert (tmp_path / "out" / "a_mask.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "2"), "--threshold: expected a number from 0 to 1"),
        (("--angle", "1"), "--angle: expected a number from 5 to 180"),
        (("--diameter", "2"), "--diameter: expected"),
        (("--threshold", "nan"), "--threshold: expected"),
        ((), "the following arguments are required: --out"),
    ],
)
def test_wrong_arguments(arguments, message, cameras, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        call(cameras / "a.png", *(("--out", tmp_path / "out") if arguments else ()), *arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--device", "nowhere"), ("--weights", "none"), ("--weights", "a.png")])
def test_wrong_devices_and_weights_are_wrong_arguments(option, value, cameras, tmp_path, monkeypatch, capsys):
    """They end the program as others do, before anything is made."""
    monkeypatch.setattr(vessels, "load", LOAD)
    with pytest.raises(SystemExit) as end:
        call(cameras / "a.png", "--out", tmp_path / "out", option, value if option == "--device" else cameras / value)
    assert end.value.code == 2 and f"error: {option}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_out_must_be_a_folder(cameras, capsys):
    with pytest.raises(SystemExit) as end:
        call(cameras / "a.png", "--out", cameras / "notes.txt")
    assert end.value.code == 2 and "--out: expected a folder" in capsys.readouterr().err


def test_a_stop_leaves_whole_pictures_or_none(cameras, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    write, made = vessels.write_picture, []

    def stopping(path, values, source):
        if made:
            raise KeyboardInterrupt
        made.append(path)
        write(path, values, source)

    monkeypatch.setattr(vessels, "write_picture", stopping)
    assert call(cameras / "a.png", "--out", out) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["a_mask.png"]
    monkeypatch.setattr(vessels, "write_picture", write)
    assert call(cameras / "a.png", "--out", out) == 0 and len(list(out.iterdir())) == 3


def test_progress_is_for_terminals_alone():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        bar = vessels.Bar("eye.png", stream)
        bar.show(0.5)
        bar.clear()
    assert not log.getvalue()
    assert "eye.png ##########.......... " in terminal.getvalue() and " 50%" in terminal.getvalue()


def test_info(capsys, monkeypatch):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("pdegcnn 0.", f"torch {torch.__version__}", "numba", "processor:", "morphological_convolution"):
        assert word in said
    assert "missing for speed" in said
    monkeypatch.setitem(backend._PROBLEMS, "numba", "numba is not installed")
    monkeypatch.setattr(info, "version", lambda name: "")
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert (
        "pip install numba" in said and "pillow and safetensors not installed: pip install 'pdegcnn[vessels]'" in said
    )


def test_the_extras_of_the_project_are_those_of_info():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for extra, packages in info.EXTRAS.items():
        stated = re.search(rf"^{extra} = \[(.*)\]$", text, flags=re.M)
        assert stated is not None
        found = set(re.findall(r'"([\w-]+)>', stated[1])) | ({"safetensors"} if "[save]" in stated[1] else set())
        assert found == set(packages)


def test_as_a_module_and_without_torch_for_help():
    text = "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['pdegcnn', 'vessels', '--help']; "
    text += "runpy.run_module('pdegcnn', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "NAME_mask.png" in done.stdout


def test_reader_of_the_output_that_ends_early_leaves_no_traceback():
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "pdegcnn", "info"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1 and not done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device on this system")
def test_output_to_a_full_disk_ends_with_a_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pdegcnn", "info"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1 and done.stderr == "the output cannot be written: No space left on device\n"
