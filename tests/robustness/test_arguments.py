"""Arguments that no signal or size fits are refused by name, and those that fit in half precision or none are taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pdegcnn as pg

SE2, R3 = pg.SE2(8), pg.R3()
S2 = pg.S2(pg.sphere.SphereGrid.gauss_legendre(4))
SO3 = pg.SO3(S2.grid, 4)
BOXES = torch.tensor([[8.0, 8.0, 6.0, 2.0, 0.0], [3.0, 3.0, 4.0, 2.0, 1.0]])


@pytest.mark.parametrize("motion", [{"angle": 90}, {"angle": 30}, {"shift": (1, 0)}], ids=str)
@pytest.mark.parametrize("shape", [(3, 9, 9), (1, 1, 4, 9, 9), (1, 1, 1, 8, 9, 9)], ids=str)
def test_motions_refuse_what_is_no_signal(shape: tuple[int, ...], motion: Any) -> None:
    with pytest.raises(ValueError, match=r"^signal: expected .*\[B,C,Or,H,W\]"):
        SE2.transform(torch.rand(shape), **motion)
    with pytest.raises(ValueError, match=r"^signal: expected \[B,C,H,W\]"):
        pg.R2().transform(torch.rand(3, 9, 9), **motion)


@pytest.mark.parametrize("motion", [{"angle": 90}, {"shift": (1, 0, 0)}], ids=str)
@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 4, 4, 4), (1, 1, 1, 4, 4, 4)], ids=str)
def test_motions_of_volumes_too(shape: tuple[int, ...], motion: Any) -> None:
    with pytest.raises(ValueError, match=r"^signal: expected \[B,C,D,H,W\]"):
        R3.transform(torch.rand(shape), **motion)


@pytest.mark.parametrize("space", (SE2, R3, pg.R2()), ids=str)
def test_invariants_stay(space: Any) -> None:
    for u in (torch.rand(2, 3), torch.rand(2)):
        assert space.transform(u, angle=90) is u


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_half_precision_turns(dtype: torch.dtype) -> None:
    u = torch.rand(1, 1, 8, 7, 7).to(dtype)
    for angle in (30, 45, 90):
        turned = SE2.transform(u, angle=angle)
        assert turned.dtype == dtype
        expected = SE2.transform(u.float(), angle=angle)
        torch.testing.assert_close(turned.float(), expected, rtol=0.02, atol=0.02)


def test_batch_norm_refuses_signals_of_another_space() -> None:
    for space, shape in ((S2, (1, 2, 3, 3)), (SO3, (1, 2, 4, 8)), (SE2, (1, 2, 4, 5, 5)), (SE2, (1, 2, 5, 5))):
        for norm in (pg.nn.BatchNorm(2, space), pg.nn.BatchNorm(2, space).eval()):
            with pytest.raises(ValueError, match="^input: expected"):
                norm(torch.rand(shape))
    pg.nn.BatchNorm(2)(torch.rand(1, 2, 3, 3))


@pytest.mark.parametrize("size", [(17.5, 18), (True, 18), 18, (0, 18), (9,), "99", torch.tensor([9, 9])], ids=str)
def test_upsample_refuses_sizes_that_are_none(size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="^size: expected"):
        pg.nn.Upsample(SE2)(torch.rand(1, 1, 8, 9, 9), size=size)


def test_upsample_takes_any_sequence_of_sizes() -> None:
    u = torch.rand(1, 1, 8, 4, 4)
    for size in ((7, 9), [7, 9], torch.Size((7, 9))):
        assert pg.nn.Upsample(SE2)(u, size=size).shape[-2:] == (7, 9)


@pytest.mark.parametrize("options", [{"longitudinal": -3.0}, {"lateral": 0.0}, {"alpha": 9}, {"alpha": 0.4}], ids=str)
def test_project_refuses_wrong_numbers_at_once(options: dict[str, Any]) -> None:
    (name,) = options
    for mode in ("max", "dilated"):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            pg.nn.Project(SE2, mode, **options)


@pytest.mark.parametrize("shape", [(0, 2, 8, 6, 6), (0, 2, 6, 6), (0, 2, 6, 6, 6)], ids=str)
def test_pooling_takes_empty_batches(shape: tuple[int, ...]) -> None:
    dims = 3 if len(shape) == 5 and shape[2] == 6 else 2
    u = torch.rand(shape, requires_grad=True)
    out = pg.nn.MaxPool(2, dims=dims)(u)
    assert out.shape == (*shape[:-dims], *(3,) * dims)
    out.sum().backward()
    assert u.grad is not None
    assert u.grad.shape == shape


def test_average_precision_counts_scores_and_labels() -> None:
    labels, scores = torch.tensor([0, 0]), torch.tensor([0.5, 0.6])
    right: Any = {"boxes": BOXES, "scores": scores, "labels": labels}
    for name, value in (("scores", scores[:1]), ("labels", labels[:1])):
        with pytest.raises(ValueError, match=rf"^{name} of found\[0\]: expected shape \[2\], one for each box"):
            pg.models.average_precision([{**right, name: value}], [right])
    with pytest.raises(ValueError, match=r"^labels of truth\[0\]: expected shape \[2\]"):
        pg.models.average_precision([right], [{**right, "labels": labels[:1]}])
    frames, half = torch.eye(3).expand(2, 3, 3), torch.full((2, 2), 0.3)
    whole = pg.models.SphericalBoxes(frames, half, labels, scores)
    with pytest.raises(ValueError, match=r"^scores of found\[0\]: expected shape \[2\]"):
        pg.models.average_precision([whole._replace(scores=scores[:1])], [whole])


def test_detection_loss_refuses_labels_that_are_no_numbers_of_classes() -> None:
    maps, frames, half = torch.rand(1, 4, 4, 4, 8), torch.eye(3)[None], torch.full((1, 2), 0.3)
    with pytest.raises(TypeError, match="^truth: labels: expected a tensor of int64, got torch.float32"):
        pg.models.detection_loss(maps, SO3, [pg.models.SphericalBoxes(frames, half, torch.zeros(1), torch.ones(1))])
    with pytest.raises(ValueError, match="^truth: labels: expected shape"):
        labels = torch.zeros(2, dtype=torch.long)
        pg.models.detection_loss(maps, SO3, [pg.models.SphericalBoxes(frames, half, labels, torch.ones(1))])


def test_a_backend_that_an_operator_lacks_names_those_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDEGCNN_BACKEND", "numba")
    text = r"^backend: expected .*no numba version \(.*morphology.* have one\); unset PDEGCNN_BACKEND, so that each"
    with pytest.raises(ValueError, match=text):
        pg.functional.diffusion(torch.rand(1, 1, 4, 5, 5), pg.SE2(4), torch.ones(3), kernel_size=3)
