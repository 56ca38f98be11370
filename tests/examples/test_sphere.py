"""The spherical examples run from the command line, write what they promise, and say what is wrong with bad input."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pdegcnn as pg

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("spherical_digits",)


@pytest.fixture
def example(monkeypatch):
    """Runs an example inside this process, with arguments, and returns its module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delenv("PDEGCNN_DATA", raising=False)

    def run(name, *arguments):
        module = importlib.import_module(name)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        module.main()
        return module

    return run


def lines(text):
    """First words of every line before two blanks."""
    return {line.partition("  ")[0].strip() for line in text.splitlines()}


def check_folder(out, files):
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    assert {p.name for p in out.iterdir()} == files
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in out.glob("*.png"))
    return json.loads((out / "results.json").read_text())


def test_spherical_digits(example, tmp_path, capsys):
    out = tmp_path / "digits"
    module = example("spherical_digits", "--smoke", "--out", out, "--band", 8)
    assert set(module.ROWS) <= lines(capsys.readouterr().out)
    states = {f"{net}_{mode}.safetensors" for net in ("pdegcnn", "cnn") for mode in ("rotated", "upright")}
    results = check_folder(out, states | {"results.json", "spherical_digits.png"})
    ours, plain = results["networks"]["PDE-G-CNN"], results["networks"]["plain CNN"]
    assert ours["equivariance_error"] < plain["equivariance_error"]
    grid = pg.sphere.SphereGrid.gauss_legendre(8)
    model = pg.models.spherical_classifier(grid)
    model.load_state_dict(load_file(out / "pdegcnn_upright.safetensors"))
    assert model.eval()(torch.rand(2, 1, *grid.shape)).isfinite().all()


def test_the_plain_cnn_has_ten_times_the_parameters(example, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    digits = importlib.import_module("spherical_digits")
    grid = pg.sphere.SphereGrid.gauss_legendre(16)
    ours, plain = (digits.parameters(digits.build(name, grid)) for name in digits.FILES)
    assert plain >= 10 * ours


def write_spherical_mnist(folder, rotations):
    """A tiny set in the layout of spherical MNIST: smooth blobs near the pole."""
    from pdegcnn.data.sphere_digits import _grid

    points, random = torch.from_numpy(_grid()), np.random.default_rng(0)
    centre = torch.nn.functional.normalize(torch.tensor([0.3, 0.1, 1.0], dtype=torch.float64), dim=0)

    def blob(r):
        return (255 * torch.exp(8 * (points @ (torch.from_numpy(r) @ centre) - 1))).numpy().astype(np.uint8)

    count = len(rotations)
    upright, turned = np.stack([blob(np.eye(3))] * count), np.stack([blob(r) for r in rotations])
    y = random.integers(0, 10, count)
    np.savez(folder / "train12k.npz", nr=upright, r=turned, y=y, rot=rotations)
    np.savez(folder / "test10k_nr.npz", nr=upright, y=y)


def test_real_digits_are_rotated_as_their_rotations_say(example, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    digits = importlib.import_module("spherical_digits")
    rotations = importlib.import_module("sphere_picture").random_rotations(6, seed=3).numpy()
    write_spherical_mnist(tmp_path, rotations)
    split = digits.spherical_mnist(tmp_path)
    assert split.test.rotated is None
    grid = pg.sphere.SphereGrid.gauss_legendre(16)
    train, test = digits.prepare(split, grid)
    # The same blobs, turned by the rotations of each set: by coefficients in the test set, by sampling in the other.
    for r, s, a, b in zip(split.train.rotations, split.test.rotations, train.rotated, test.rotated):
        torch.testing.assert_close(pg.S2(grid).transform(a[None], rotation=(s @ r.T))[0], b, atol=0.05, rtol=0)
    share = grid.weights / (4 * torch.pi)
    assert abs(float((train.upright * share).sum((-1, -2)).mean())) < 1e-5
    assert float((train.upright**2 * share).sum((-1, -2)).mean()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seconds", "0"), "--seconds: expected a positive number"),
        (("--seed", "-1"), "--seed: expected a number >= 0"),
        (("--data", "/no/such/folder"), "--data: "),
    ],
)
def test_bad_arguments(name, arguments, message, example, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        example(name, *arguments, "--smoke", "--out", tmp_path / "out")
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_band(example, capsys):
    with pytest.raises(SystemExit):
        example("spherical_digits", "--band", "31")
    assert "--band: expected a number from 8 to 30, got 31" in capsys.readouterr().err
