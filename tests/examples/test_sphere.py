"""The spherical examples run from the command line, write what they promise, and say what is wrong with bad input."""

import argparse
import importlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation

import pdegcnn as pg
from pdegcnn_examples.datasets import made_up_planets
from pdegcnn_examples.plots.spheres import random_rotations

from ..helpers import spherical

NAMES = ("spherical_digits", "land_sea", "wind", "sphere_detection")


def lines(text):
    """First words of every line before two blanks."""
    return {line.partition("  ")[0].strip() for line in text.splitlines()}


def check_folder(out, files):
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    assert {p.name for p in out.iterdir()} == files
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in out.glob("*.png"))
    return json.loads((out / "results.json").read_text())


def test_spherical_digits(example, tmp_path, capsys):
    out, data = tmp_path / "out" / "digits", tmp_path / "data"
    write_spherical_mnist(data, rotations(40))
    options = ("--smoke", "--data", data, "--out", out, "--band", 8, "--train", "upright")
    module = example("spherical_digits", *options)
    asked = {label for label in module.ROWS if not label.startswith("rotated") and "held out" not in label}
    assert asked <= lines(capsys.readouterr().out)
    networks = {"pdegcnn_upright_band8", "cnn_upright_band8"}
    results = check_folder(out, networks | {"results.json", "spherical_digits.png"})
    ours, plain = results["networks"]["PDE-G-CNN"], results["networks"]["plain CNN"]
    assert ours["equivariance_error"] < plain["equivariance_error"]
    grid = pg.sphere.SphereGrid.gauss_legendre(8)
    model = pg.models.spherical_classifier(grid)
    model.load_state_dict(load_file(out / "pdegcnn_upright_band8" / "weights.safetensors"))
    assert model.eval()(torch.rand(2, 1, *grid.shape)).isfinite().all()
    example("spherical_digits", *options, "--net", "pdegcnn")
    assert json.loads((out / "results.json").read_text())["networks"] == {"PDE-G-CNN": ours}  # not trained twice
    with pytest.raises(SystemExit, match="--out: folder: .* is of a run with other settings .*'seed': 0"):
        example("spherical_digits", *options, "--seed", 1)


def test_the_plain_cnn_has_six_times_the_parameters_and_the_spherical_one_as_many(module):
    digits = module("spherical_digits")
    grid = pg.sphere.SphereGrid.gauss_legendre(16)
    ours, plain, other = (digits.parameters(digits.build(name, grid)) for name in digits.FILES)
    assert plain >= 6 * ours
    assert other == pytest.approx(ours, rel=0.01)


def test_dilations_between_finer_samples_turn_with_the_digits(module):
    digits = module("spherical_digits")
    grid = pg.sphere.SphereGrid.gauss_legendre(10)
    model = digits.build(digits.FINER, grid).double()
    assert digits.parameters(model) < 10_000
    torch.manual_seed(0)
    x, other = spherical(pg.S2(grid), channels=1), digits.build("PDE-G-CNN", grid).double()
    turned, usual = (digits.invariance_error(net, x, grid) for net in (model, other))
    assert turned < 0.7 * usual


def test_a_spherical_cnn_on_digits(example, tmp_path):
    """It trains, and knows turned digits as it knows upright ones, up to its maxima; so do digits held out."""
    out, sizes = tmp_path / "digits", ("--directions", 5, "--validation", 20)
    options = ("--smoke", "--band", 8, "--train", "upright", "--net", "sphere_cnn", "--results", tmp_path / "digits")
    example("spherical_digits", *options, *sizes, "--out", out)
    name = "spherical_digits-sphere_cnn-0.json"
    files = {"sphere_cnn_upright_band8_directions5", "results.json", "spherical_digits.png", name}
    results = check_folder(out, files)
    assert set(results["networks"]) == {"spherical CNN"}
    assert results["networks"]["spherical CNN"]["equivariance_error"] < 0.2
    recorded = json.loads((out / name).read_text())
    figures = {"upright_rotated", "upright_upright", "validation_upright_rotated", "validation_upright_upright"}
    assert set(recorded["figures"]) == figures | {"equivariance_error"}
    assert recorded["network"] == {"net": "sphere_cnn", "directions": 5, "terms": None, "validation": 20}
    history = (out / "sphere_cnn_upright_band8_directions5" / "history.csv").read_text().splitlines()
    last = dict(zip(history[0].split(","), history[-1].split(",")))
    assert float(last["accuracy"]) == recorded["figures"]["validation_upright_upright"]


def test_digits_held_out_are_not_trained_on(module, tmp_path):
    digits = module("spherical_digits")
    write_spherical_mnist(tmp_path, rotations(12))
    chosen = argparse.Namespace(data=tmp_path, smoke=True, seed=0, validation=0)
    whole, test = digits.load(chosen)[0]
    chosen.validation = 5
    train, test_again, held = digits.load(chosen)[0]
    assert torch.equal(test.upright, test_again.upright)
    assert torch.equal(torch.cat((held.labels, train.labels)), whole.labels) and len(held.labels) == 5
    assert torch.equal(torch.cat((held.rotated, train.rotated)), whole.rotated)
    chosen.validation = 7
    with pytest.raises(SystemExit, match="--validation: expected at most half of 12 digits, got 7"):
        digits.load(chosen)


def test_land_sea(example, tmp_path, capsys):
    out = tmp_path / "land"
    module = example("land_sea", "--smoke", "--out", out, "--band", 8, "--train", "rotated")
    assert set(module.ROWS) <= lines(capsys.readouterr().out)
    states = {f"{name}.safetensors" for name in module.FILES.values()}
    results = check_folder(out, states | {"results.json", "land_sea.png"})
    networks = results["networks"]
    assert networks["PDE-G-CNN"]["parameters"] < networks["plain U-Net"]["parameters"] / 10
    assert networks["point by point"]["equivariance_error"] < networks["plain U-Net"]["equivariance_error"]


def test_made_up_planets_are_three_tenths_land_and_turn_as_one(module):
    land_sea = module("land_sea")
    planets = made_up_planets(3, 16, seed=4)
    grid = pg.sphere.SphereGrid.gauss_legendre(32)
    rotations = random_rotations(3, seed=2)
    plain, turned = land_sea.sampled(planets, grid), land_sea.sampled(planets, grid, rotations)
    share = grid.weights / (4 * torch.pi)
    torch.testing.assert_close((plain.land * share).sum((1, 2, 3)), torch.full((3,), 0.3).double(), atol=0.01, rtol=0)
    for r, a, b in zip(rotations, plain.temperature, turned.temperature):
        torch.testing.assert_close(pg.S2(grid).transform(a[None], rotation=r)[0], b, atol=1e-3, rtol=0)


def test_labels_count_on_one_side_of_the_earth_only(module):
    land_sea = module("land_sea")
    grid = pg.sphere.SphereGrid.gauss_legendre(16)
    planets = made_up_planets(2, 8, seed=4)._replace(side=land_sea.EAST)
    rotations = random_rotations(2, seed=2)
    for turns in (None, rotations):
        area = land_sea.sampled(planets, grid, turns).area
        assert area.sum((1, 2, 3)) / grid.weights.numel() == pytest.approx([0.5, 0.5], abs=0.03)
    east = rotations[1] @ land_sea.EAST  # where the labelled side went
    points = grid.xyz @ east
    assert bool((area[1, 0] > 0)[points > 0.01].all()) and not bool((area[1, 0] > 0)[points < -0.01].any())


def test_the_earth_is_read_and_split(module, tmp_path):
    land_sea = module("land_sea")
    lat, lon = np.linspace(90, -90, 37), np.arange(0, 360, 10.0)
    north = np.broadcast_to(lat[:, None] > 0, (37, 36)).astype(float)
    np.savez(tmp_path / "landfrac_0p5deg.npz", land_fraction=north, lat=lat, lon=lon)
    np.savez(tmp_path / "glosea4_surface_temp.npz", t=280.0 + np.zeros((5, 6, 145, 192)))
    first, last = land_sea.earth(tmp_path, 8)
    assert len(first.temperature) == 2 and len(last.temperature) == 3
    grid = pg.sphere.SphereGrid.gauss_legendre(8)
    samples = land_sea.sampled(first, grid)
    torch.testing.assert_close(samples.temperature, torch.full_like(samples.temperature, 280.0))
    assert bool((samples.land[0, 0] == (grid.xyz[..., 2] > 0)).all())


def test_wind(example, tmp_path, capsys):
    out = tmp_path / "wind"
    module = example("wind", "--smoke", "--out", out, "--band", 8)
    assert set(module.ROWS) <= lines(capsys.readouterr().out)
    results = check_folder(out, {"pdegcnn.safetensors", "unet.safetensors", "results.json", "wind.png"})
    ours, plain = results["networks"]["PDE-G-CNN"], results["networks"]["plain U-Net"]
    assert ours["equivariance_error"] < 1e-5 < plain["equivariance_error"]
    for what in ("divergence", "vorticity"):
        assert ours[f"{what}_rotated"] == pytest.approx(ours[f"{what}_upright"], rel=1e-4)


def test_detection(example, tmp_path, capsys):
    out, files = tmp_path / "out" / "detection", tmp_path / "results"
    module = example("sphere_detection", "--smoke", "--out", out, "--results", files, "--band", 8, "--train", "rotated")
    assert {label for label in module.ROWS if "upright" not in label} <= lines(capsys.readouterr().out)
    states = {"pdegcnn_rotated.safetensors", "cnn_rotated.safetensors"}
    results = check_folder(out, states | {"results.json", "sphere_detection.png"})
    ours, plain = results["networks"]["PDE-G-CNN"], results["networks"]["plain CNN"]
    assert ours["parameters"] < plain["parameters"] / 2 and 0 <= ours["boxes_rotated_rotated"] <= 1
    recorded = json.loads((files / "sphere_detection-pdegcnn-0.json").read_text())
    assert recorded["epochs"] == 1 and recorded["figures"]["boxes_rotated_rotated"] == ours["boxes_rotated_rotated"]


def test_scenes_hold_their_digits_in_their_boxes(module):
    detection = module("sphere_detection")
    grid = pg.sphere.SphereGrid.gauss_legendre(24)
    image = np.zeros((2, 28, 28))
    image[:, 4:24, 8:18] = 1.0  # filled: the box is all ink
    made = detection.scenes(image, np.array([3, 3]), 4, grid, seed=1)
    points = grid.xyz.reshape(-1, 3)
    for mode, (signals, boxes) in made.items():
        assert {len(b.labels) for b in boxes} <= {1, 2, 3} and all((b.labels == 3).all() for b in boxes), mode
        for signal, there in zip(signals, boxes):
            iou = detection_boxes().box_iou(*there[:2], *there[:2])
            torch.testing.assert_close(iou, torch.eye(len(iou)).double(), atol=1e-9, rtol=0)
            q = points @ there.rotations  # [n,P,3]
            share = (q[..., :2] / q[..., 2:]).abs() / there.half_angles[:, None].tan()
            within = ((share < 0.7).all(-1) & (q[..., 2] > 0)).any(0)
            near = ((share < 1.3).all(-1) & (q[..., 2] > 0)).any(0)
            values = signal.flatten() / 4
            assert values[within].mean() > 0.9 and values[~near].abs().mean() < 0.05
    for first, second in zip(*(made[mode].boxes for mode in ("upright", "rotated"))):
        turn = second.rotations[0] @ first.rotations[0].T
        torch.testing.assert_close(turn @ first.rotations, second.rotations)


def detection_boxes():
    return importlib.import_module("pdegcnn.models.spherical_boxes")


def test_the_lift_of_vectors_sees_derivatives_along_the_frame(module):
    """Along R e_x the lifted wind changes by div/2 on the mean over directions, along the other tilt by curl/2."""
    wind = module("wind")
    grid, step = pg.sphere.SphereGrid.gauss_legendre(8), 1e-3
    space = pg.SO3(grid, orientations=8)
    samples = wind.sampled(wind.made_up_winds(1, 8, seed=0), grid)
    lifted, target = wind.VectorLift(space)(samples.wind.double()), samples.target.double()

    def mean_change(vector):
        ahead, behind = (
            pg.functional.convection(lifted, space, sign * step * torch.tensor([vector], dtype=torch.float64))
            for sign in (1, -1)
        )
        return ((behind - ahead) / (2 * step)).mean(2)[0, 0]  # a convection brings what lies behind

    torch.testing.assert_close(mean_change([0.0, 1.0, 0.0]), target[0, 0] / 2, atol=1e-3, rtol=0)
    torch.testing.assert_close(mean_change([1.0, 0.0, 0.0]), target[0, 1] / 2, atol=1e-3, rtol=0)


def test_winds_of_the_earth_are_turned_into_the_grids_frame(module, tmp_path):
    """A solid rotation about the pole blows east, has no divergence and the vorticity 2 cos theta."""
    wind = module("wind")
    lat, lon = np.linspace(90, -90, 73), np.arange(0, 360, 2.5)
    u = np.broadcast_to(np.cos(np.deg2rad(lat))[:, None], (12, 73, 144))
    np.savez(tmp_path / "wind_monthly_2p5deg.npz", u=u, v=0 * u, lat=lat, lon=lon)
    first, last = wind.earth(tmp_path, 8)
    assert len(first) == 9 and len(last) == 3
    grid = pg.sphere.SphereGrid.gauss_legendre(8)
    target = wind.sampled(last, grid).target
    torch.testing.assert_close(target[0, 0], torch.zeros(grid.shape), atol=1e-3, rtol=0)
    torch.testing.assert_close(target[0, 1], (2 * grid.xyz[..., 2]).float(), atol=5e-3, rtol=0)


def rotations(count):
    """Random rotation matrices [count,3,3]."""
    return Rotation.from_quat(np.random.default_rng(0).normal(size=(count, 4))).as_matrix()


def write_spherical_mnist(folder, rotations):
    """A tiny set in the layout of spherical MNIST: smooth blobs near the pole."""
    from pdegcnn_examples.datasets.sphere_digits import _grid

    points, random = torch.from_numpy(_grid()), np.random.default_rng(0)
    centre = torch.nn.functional.normalize(torch.tensor([0.3, 0.1, 1.0], dtype=torch.float64), dim=0)

    def blob(r):
        return (255 * torch.exp(8 * (points @ (torch.from_numpy(r) @ centre) - 1))).numpy().astype(np.uint8)

    count = len(rotations)
    upright, turned = np.stack([blob(np.eye(3))] * count), np.stack([blob(r) for r in rotations])
    y = random.integers(0, 10, count)
    folder.mkdir(exist_ok=True)
    np.savez(folder / "train12k.npz", nr=upright, r=turned, y=y, rot=rotations)
    np.savez(folder / "test10k_nr.npz", nr=upright, y=y)


def test_real_digits_are_rotated_as_their_rotations_say(module, tmp_path):
    digits = module("spherical_digits")
    rotations = random_rotations(6, seed=3).numpy()
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
        (("--epochs", "0"), "--epochs: expected a number >= 1, got 0"),
        (("--seed", "-1"), "--seed: expected a number >= 0"),
        (("--data", "/no/such/folder"), "--data: folder: expected a folder with"),
    ],
)
def test_bad_arguments(name, arguments, message, example, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        example(name, *arguments, "--smoke", "--out", tmp_path / "out")
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "band", "message"),
    [
        ("spherical_digits", 31, "--band: expected a number from 8 to 30, got 31"),
        ("land_sea", 18, "--band: expected a multiple of 4 from 8 to 48, got 18"),
        ("sphere_detection", 10, "--band: expected a multiple of 4 from 8 to 48, got 10"),
        ("wind", 52, "--band: expected a multiple of 4 from 8 to 48, got 52"),
    ],
)
def test_bad_band(name, band, message, example, capsys):
    with pytest.raises(SystemExit):
        example(name, "--band", band)
    assert message in capsys.readouterr().err


def test_table_of_equivariance_errors(example, capsys):
    example("sphere_equivariance", "--smoke", "--band", "4")
    shown = {line[:28].strip(): float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[1:]}
    linear = ("lift to SO(3)", "convection on SO(3)", "diffusion on SO(3)", "spectral pooling", "mean over SO(3)")
    assert max(shown[name] for name in (*linear, "projection by mean", "square, oversample 2")) < 5e-6
    assert shown["ReLU, oversample 4"] < shown["ReLU, oversample 2"] < shown["ReLU, oversample 1"]
