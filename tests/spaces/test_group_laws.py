"""Group laws, generic over every listed space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.spaces import SPACES, HomogeneousSpace, RotationSpace
from pdegcnn.spaces.rotations import quaternion_to_matrix

from ..helpers import SPACE_CASES, SPHERE_CASES

GROUPS = [pg.R2(), pg.SE2(), pg.R3(), *SPHERE_CASES[:2]]
coordinate = st.floats(-3.0, 3.0)


def elements(space: HomogeneousSpace) -> st.SearchStrategy[torch.Tensor]:
    tensor = st.lists(coordinate, min_size=space.dim, max_size=space.dim)
    return tensor.map(lambda c: space.exp(torch.tensor(c, dtype=torch.float64)))


def close(space: HomogeneousSpace, g: torch.Tensor, h: torch.Tensor) -> None:
    """Equal as group elements: angles modulo a full turn, quaternions up to sign."""
    if isinstance(space, RotationSpace):
        g, h = quaternion_to_matrix(g), quaternion_to_matrix(h)
    away = (g - h).clone()
    if isinstance(space, pg.SE2):
        away[..., 2] = torch.remainder(away[..., 2] + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(away, torch.zeros_like(away), atol=1e-11, rtol=0)


def test_every_listed_space_is_tested() -> None:
    assert {type(s) for s in SPACE_CASES} == set(SPACES)
    assert {type(s) for s in GROUPS} == {s for s in SPACES if issubclass(s, HomogeneousSpace)}


@pytest.mark.parametrize("space", GROUPS, ids=str)
@given(data=st.data())
def test_group_axioms(space: HomogeneousSpace, data: st.DataObject) -> None:
    g, h, k = (data.draw(elements(space)) for _ in range(3))
    e = space.identity()
    close(space, space.compose(space.compose(g, h), k), space.compose(g, space.compose(h, k)))
    close(space, space.compose(g, e), g)
    close(space, space.compose(e, g), g)
    close(space, space.compose(g, space.inverse(g)), e)
    close(space, space.inverse(space.compose(g, h)), space.compose(space.inverse(h), space.inverse(g)))


@pytest.mark.parametrize("space", GROUPS, ids=str)
@given(data=st.data(), s=st.floats(-0.5, 0.5), t=st.floats(-0.5, 0.5))
def test_exponential_is_a_one_parameter_group(space: HomogeneousSpace, data: st.DataObject, s: float, t: float) -> None:
    c = torch.tensor(data.draw(st.lists(coordinate, min_size=space.dim, max_size=space.dim)), dtype=torch.float64)
    close(space, space.compose(space.exp(s * c), space.exp(t * c)), space.exp((s + t) * c))
    close(space, space.inverse(space.exp(c)), space.exp(-c))


@pytest.mark.parametrize("space", GROUPS, ids=str)
@given(data=st.data())
def test_logarithm_inverts_the_exponential(space: HomogeneousSpace, data: st.DataObject) -> None:
    c = torch.tensor(data.draw(st.lists(coordinate, min_size=space.dim, max_size=space.dim)), dtype=torch.float64)
    if isinstance(space, RotationSpace):
        c = 0.6 * c  # within half a turn
    torch.testing.assert_close(space.log(space.exp(c)), c, atol=1e-10, rtol=1e-10)
    g = data.draw(elements(space))
    close(space, space.exp(space.log(g)), g)


@given(data=st.data())
def test_coordinates_of_the_inverse_are_the_negatives(data: st.DataObject) -> None:
    space = pg.SE2()
    g = data.draw(elements(space))
    torch.testing.assert_close(space.half_angle(space.inverse(g)), -space.half_angle(g), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(space.log(space.inverse(g)), -space.log(g), atol=1e-10, rtol=1e-10)


def test_exponential_of_a_screw_is_an_arc() -> None:
    quarter = pg.SE2().exp(torch.tensor([math.pi / 2, 0.0, math.pi / 2], dtype=torch.float64))
    torch.testing.assert_close(quarter, torch.tensor([1.0, 1.0, math.pi / 2], dtype=torch.float64))


@pytest.mark.parametrize("space", [s for s in SPACE_CASES if isinstance(s, pg.SE2)], ids=str)
def test_taps_are_the_way_from_tap_to_centre(space: pg.SE2) -> None:
    sizes = space.kernel_sizes((3, 5, 3))
    taps = space.taps(sizes, torch.empty((), dtype=torch.float64))
    assert taps.shape == (space.orientations, *sizes, 3)
    step = 2 * math.pi / space.orientations
    for o in range(space.orientations):
        g = torch.tensor([0.0, 0.0, o * step], dtype=torch.float64)
        h = torch.tensor([-1.0, 2.0, (o + sizes[0] // 2) * step], dtype=torch.float64)
        close(space, taps[o, -1, -1, 0], space.compose(space.inverse(h), g))


def test_rotation_of_a_signal_turns_its_orientations() -> None:
    space = pg.SE2(8)
    u = torch.zeros(1, 1, 8, 5, 5)
    u[0, 0, 1, 2, 4] = 1.0  # orientation 45 degrees, at +x
    turned = space.transform(u, angle=90)
    assert turned[0, 0, 3, 4, 2] == 1.0  # orientation 135 degrees, at +y (downwards)
    torch.testing.assert_close(space.transform(turned, angle=-90), u)


def test_rotations_compose_and_fade_only_by_interpolation() -> None:
    space = pg.SE2(8)
    line = torch.arange(33, dtype=torch.float64) - 16
    image = torch.exp(-((line[:, None] - 3) ** 2 + line**2) / 18)[None, None]
    twice = space.transform(space.transform(image, angle=20), angle=25)
    assert (twice - space.transform(image, angle=45)).abs().max() < 1e-3  # the fourth-order error of two cubic splines
    peak = space.transform(image, angle=45)[0, 0].argmax().item()
    row, column = divmod(peak, 33)
    assert (row - 16, column - 16) == (2, -2)


@pytest.mark.parametrize("space", SPHERE_CASES[:2], ids=str)
def test_without_exact_motions_all_rotations_move_the_same_band_limited_part(space: RotationSpace) -> None:
    """A turn that permutes samples moves all of a signal with ``exact=True``, else what any rotation moves."""
    nlat, nlon = space.grid.shape
    u = torch.rand(1, 1, *(space.orientations,) * space.has_orientations, nlat, nlon, dtype=torch.float64)
    turn = quaternion_to_matrix(space.exp(torch.tensor([0.0, 0.0, 2 * math.pi / nlon], dtype=torch.float64)))
    assert torch.equal(space.band_limit(u, rotation=turn), u)
    smooth = space.band_limit(u, rotation=turn, exact=False)
    tilted = quaternion_to_matrix(space.exp(torch.tensor([0.3, 0.1, 0.2], dtype=torch.float64)))
    torch.testing.assert_close(smooth, space.band_limit(u, rotation=tilted), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        space.transform(u, rotation=turn, exact=False), space.transform(smooth, rotation=turn), atol=1e-12, rtol=0
    )


@given(data=st.data(), turns=st.integers(-2, 2))
def test_whole_turns_are_not_seen(data: st.DataObject, turns: int) -> None:
    """Coordinates are those of the element; of the path that turns by all of the angle there are others."""
    space, g = pg.SE2(), data.draw(elements(pg.SE2()))
    further = g + torch.tensor([0.0, 0.0, 2 * math.pi * turns], dtype=torch.float64)
    for coordinates in (space.log, space.half_angle):
        found = coordinates(further)
        assert -math.pi < found[2] <= math.pi
        near_the_edge = math.pi - abs(float(g[2])) < 1e-9
        if not near_the_edge:
            torch.testing.assert_close(found, coordinates(g), atol=1e-9, rtol=1e-9)
    close(space, space.exp(space.log(further)), g)
    assert space.log_of_path(further)[2] == space.half_angle_of_path(further)[2] == further[2]


def test_angles_within_a_turn_keep_every_bit() -> None:
    space, angle = pg.SE2(), torch.tensor([1e-17, -3.0, math.pi, 0.1], dtype=torch.float64)
    g = torch.stack((angle, angle, angle), -1)
    assert torch.equal(space.half_angle(g)[:, 2], angle)
    assert torch.equal(space.half_angle(g), space.half_angle_of_path(g))
    assert torch.equal(space.log(g), space.log_of_path(g))


@pytest.mark.parametrize("space", GROUPS, ids=str)
def test_group_operations_check_the_last_axis(space: HomogeneousSpace) -> None:
    e = space.identity()
    for wrong in (e[:-1], torch.cat((e, e[:1])), e[0]):
        calls = [
            ("g", lambda wrong=wrong: space.compose(wrong, e)),
            ("h", lambda wrong=wrong: space.compose(e, wrong)),
            ("g", lambda wrong=wrong: space.inverse(wrong)),
            ("g", lambda wrong=wrong: space.log(wrong)),
            ("g", lambda wrong=wrong: space.half_angle(wrong)),  # pyright: ignore[reportAttributeAccessIssue] - of all groups
        ]
        for name, call in calls:
            with pytest.raises(ValueError, match=rf"^{name}: expected .*\[\.\.\., {len(e)}\], got shape"):
                call()
    with pytest.raises(ValueError, match=rf"^c: expected .*\[\.\.\., {space.dim}\], got shape"):
        space.exp(torch.zeros(space.dim + 1, dtype=torch.float64))
    with pytest.raises(TypeError, match="^g: expected a floating-point tensor"):
        space.inverse(e.long())
