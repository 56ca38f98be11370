"""Networks in files: the same network comes back, or an error that says why not."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import pdegcnn as pg
from pdegcnn.io import FORMAT, KEY
from pdegcnn.io.recipes import from_json, to_json

from ..export.small_models import GRID, SMALL, of_tensors

DEFAULT = {"format": FORMAT, "builder": "rotated_digits", "arguments": {}}


@pytest.mark.parametrize("name", SMALL)
def test_every_network_comes_back(name: str, tmp_path: Path) -> None:
    build, shape = SMALL[name]
    model, x = build(), torch.randn(shape)
    of_tensors(model)(x)  # statistics of batch norm
    expected = model.eval()(x)
    path = pg.save(copy.deepcopy(pickle.loads(pickle.dumps(model))), tmp_path / "model.safetensors")
    torch.testing.assert_close(pg.load(path)(x), expected, atol=0, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # readable for those whom umask lets


def test_spaces_grids_and_dtypes_come_back() -> None:
    grids = [GRID, *(pg.sphere.SphereGrid.equiangular(4, k) for k in ("driscoll_healy", "full_band"))]
    grids.append(pg.sphere.SphereGrid.clenshaw_curtis(5, 9))
    grids += [pg.sphere.SphereGrid.reduced_gauss(5), pg.sphere.SphereGrid.gauss_legendre(4, 11)]
    spaces = [pg.R2(), pg.R3(), pg.R3(0.7), pg.R3((2.0, 0.5, 1 / 3)), pg.SE2(6), pg.S2(GRID), pg.SO3(GRID, 5)]
    for value in (*grids, *spaces, torch.bfloat16, (1, (2.5, "a"), None, True)):
        assert from_json("value", json.loads(json.dumps(to_json("value", value)))) == value
    for value in (pg.sphere.SphereGrid.icosahedral(1), object(), float("nan"), torch.int8):
        with pytest.raises(TypeError, match="model: expected numbers, words"):
            to_json("model", value)


@pytest.mark.parametrize(
    "space",
    [pg.R2(), pg.R3((2.0, 0.5, 1 / 3)), pg.SE2(4), pg.S2(GRID), pg.SO3(GRID, 4)],
    ids=lambda s: type(s).__name__,
)
def test_networks_on_every_space_that_has_a_recipe_come_back(space: pg.spaces.Space, tmp_path: Path) -> None:
    model = pg.models.unet(space, in_channels=1, out_channels=2, channels=(2, 3))
    back = pg.load(pg.save(model, tmp_path / "model"))
    assert back.recipe == model.recipe
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    shape = tuple(space.grid.shape) if isinstance(space, (pg.S2, pg.SO3)) else (8,) * (3 if space.dim == 3 else 2)
    shape = (8, 8) if isinstance(space, pg.SE2) else shape
    x = torch.randn(1, 1, *shape)
    torch.testing.assert_close(back(x), model.eval()(x), rtol=0, atol=0)


def test_dtype_and_options_are_kept(tmp_path: Path) -> None:
    build = pg.models.vessel_segmentation
    model = build(2, space=pg.SE2(4), layers=3, channels=2, dtype=torch.float64, metric="spd", device="cpu")
    back = pg.load(pg.save(model, tmp_path / "a"), device="cpu")
    assert back.recipe == model.recipe
    assert next(back.parameters()).dtype == torch.float64
    assert not back.training


@pytest.fixture(params=[torch.float32, torch.float64])
def default(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """Torch's default dtype while a file is loaded."""
    before = torch.get_default_dtype()
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("told", [{}, {"dtype": torch.float32}, {"pretrained": "small"}])
def test_a_network_has_the_dtype_of_its_file(
    told: dict[str, Any], dtype: torch.dtype, default: torch.dtype, tmp_path: Path
) -> None:
    """Not that of its builder or of torch."""
    model = pg.models.rotated_digits(**told).to(dtype)
    path = pg.save(model, tmp_path / "model")
    torch.set_default_dtype(default)
    back = pg.load(path)
    assert back.recipe == model.recipe
    for name, value in model.state_dict().items():
        assert back.state_dict()[name].dtype == value.dtype and torch.equal(back.state_dict()[name], value)
    x = torch.rand(2, 1, 28, 28, dtype=dtype)
    torch.testing.assert_close(back(x), model.eval()(x))


def test_of_several_dtypes_the_widest_holds_all(tmp_path: Path) -> None:
    model = pg.models.rotated_digits().half()
    next(model.parameters()).data = torch.rand_like(next(model.parameters()).double())
    back = pg.load(pg.save(model, tmp_path / "model"))
    for p, q in zip(back.parameters(), model.parameters(), strict=True):
        assert p.dtype == torch.float64 and torch.equal(p, q.double())


def write(path: Path, header: object, tensors: dict | None = None) -> Path:
    save_file(tensors or {"a": torch.zeros(1)}, path, {KEY: header if isinstance(header, str) else json.dumps(header)})
    return path


BAD_HEADERS = {
    "cannot be read": ["{", "[]", "{}", json.dumps({**DEFAULT, "arguments": [1]}), "[" * 100_000],
    "is of format": [{**DEFAULT, "format": FORMAT + 1}, {**DEFAULT, "format": "1"}, {**DEFAULT, "format": 0}],
    "names the network": [{**DEFAULT, "builder": "os.system"}, {**DEFAULT, "builder": 3}],
    "path: .* does not take": [{**DEFAULT, "arguments": a} for a in ({"nonsense": 1}, {"classes": -1}, {"device": 1})],
    "expected an argument as": [
        {**DEFAULT, "arguments": {"space": {"type": "exec", "code": "1"}}},
        {**DEFAULT, "arguments": {"space": {"type": "SE2", "orientations": -1}}},
        {**DEFAULT, "arguments": {"space": {"type": "S2", "grid": 3}}},
    ],
    "does not fit its network": [DEFAULT],
}


@pytest.mark.parametrize(("message", "header"), [(m, h) for m, headers in BAD_HEADERS.items() for h in headers])
def test_strange_headers_are_refused(message: str, header: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        pg.load(write(tmp_path / "model", header))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = pg.save(pg.models.rotated_digits(), tmp_path / "model")
    whole = path.read_bytes()
    for data in (b"", whole[:7], whole[:200], whole[:-5], b"PK\x03\x04" + whole, b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="which is damaged"):
            pg.load(path)
    torch.save(torch.zeros(3), path)  # a pickle
    with pytest.raises(ValueError, match="which is damaged"):
        pg.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not how to build a network"):
        pg.load(path)
    with pytest.raises(FileNotFoundError, match="path: expected a file of pdegcnn.save"):
        pg.load(tmp_path / "nothing")


def test_other_shapes_and_dtypes_are_refused(tmp_path: Path) -> None:
    model = pg.models.rotated_digits()
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    first = next(iter(tensors))
    for value in (tensors[first][..., :-1].contiguous(), tensors[first].long(), tensors[first].cfloat()):
        with pytest.raises(ValueError, match=f"does not fit its network: expected {first}"):
            pg.load(write(tmp_path / "model", DEFAULT, {**tensors, first: value}))


def test_what_cannot_be_saved_says_so(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="model: expected a network of pdegcnn.models"):
        pg.save(torch.nn.Linear(2, 2), tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="path: expected a file in a folder"):
        pg.save(pg.models.rotated_digits(), tmp_path / "no" / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pg.save(pg.models.rotated_digits(), tmp_path / "model")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        pg.save(pg.models.rotated_digits(5), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_hub_folders(tmp_path: Path) -> None:
    hub = pytest.importorskip("pdegcnn.io.hub", exc_type=ImportError)
    model, x = pg.models.rotated_digits().eval(), torch.rand(1, 1, 28, 28)
    hub.HubModel(model).save_pretrained(tmp_path / "net")
    back = hub.HubModel.from_pretrained(tmp_path / "net").eval()
    assert torch.equal(back(x), model(x))
