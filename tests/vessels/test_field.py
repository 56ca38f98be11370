"""The field of view is found whatever the camera; other pictures are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdegcnn.vessels import field as fields
from pdegcnn.vessels import find_field
from pdegcnn_examples.datasets import drawn_vessels


def disc(height, width, centre, diameter):
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows - centre[0], columns - centre[1]) < diameter / 2


@settings(deadline=None, max_examples=15)
@given(
    size=st.integers(120, 300),
    share=st.floats(0.6, 0.95),
    dark=st.integers(0, 25),
    light=st.integers(110, 240),
    wide=st.floats(1.0, 1.5),
)
def test_the_field_of_view_is_found(size, share, dark, light, wide):
    """Any size and exposure: the circle within two pixels or 2 %, the mask within 4 % of its area."""
    height, width = size, round(size * wide)
    centre, diameter = (size / 2, width / 2 - 3), share * size
    truth = disc(height, width, centre, diameter)
    random = np.random.default_rng(size)
    shade = light * (1 - 0.3 * np.hypot(*(np.mgrid[:height, :width] - np.array(centre)[:, None, None])) / size)
    picture = np.where(truth, shade, dark) + random.normal(0, 3, truth.shape)
    image = np.clip(picture[..., None] * np.array([1, 0.6, 0.3]), 0, 255).astype(np.uint8)
    found = find_field(image)
    assert abs(found.diameter - diameter) < max(2, 0.02 * diameter)
    assert (found.mask ^ truth).sum() < 0.04 * truth.sum()


def test_a_field_cut_by_the_frame_has_its_whole_circle():
    """Many cameras cut the circle above and below, and write beside it."""
    truth = disc(300, 420, (150, 205), 380)
    image = np.where(truth, 180, 5).astype(np.uint8)
    image[10:20, 5:12] = 255
    found = find_field(image)
    assert found.diameter == pytest.approx(380, rel=0.01)
    assert found.centre == pytest.approx((150, 205), abs=1.5)
    assert not found.mask[10:20, 5:12].any()


def test_scale_of_numbers_does_not_matter():
    picture = (drawn_vessels(1, 128).images[0].movedim(0, -1).numpy() * 255).astype(np.uint8)
    a, b = find_field(picture), find_field(picture / 255)
    assert np.array_equal(a.mask, b.mask) and a.diameter == b.diameter == pytest.approx(0.94 * 128, rel=0.02)


def test_a_picture_without_a_surround_is_all_field():
    random = np.random.default_rng(0)
    found = find_field(random.integers(120, 140, (90, 120, 3)).astype(np.uint8))
    assert found.mask.all() and found.diameter == 120


@pytest.mark.parametrize("image", [np.zeros((50, 50, 3)), np.full((50, 50), 7.0)])
def test_pictures_without_contrast(image):
    with pytest.raises(ValueError, match="^image: expected a photograph with a lit field of view"):
        find_field(image)


def test_other_values():
    with pytest.raises(ValueError, match="^image: expected finite"):
        find_field(np.full((50, 50), np.nan))
    for wrong in (np.eye(50) + 1j, np.full((50, 50), "a")):
        with pytest.raises(TypeError, match="^image: expected an array of real numbers"):
            find_field(wrong)


def test_other_shapes():
    for shape in ((50,), (8, 50, 3), (2, 50, 50, 3), (50, 50, 4)):
        with pytest.raises(ValueError, match="^image: expected"):
            find_field(np.ones(shape))


@settings(deadline=None, max_examples=8)
@given(size=st.integers(150, 260), step=st.integers(2, 4))
def test_large_pictures_are_shrunk_to_find_the_field(size, step):
    """As far as a block of pixels allows, the field is the one that is found in all pixels."""
    image = (disc(size, size + 37, (size / 2, size / 2 + 9), 0.8 * size) * 180).astype(np.uint8)
    exact = find_field(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "LONGEST", -(-(size + 37) // step))
        found = find_field(image)
    assert found.mask.shape == image.shape
    assert abs(found.diameter - exact.diameter) <= 2 * step
    assert np.hypot(*np.subtract(found.centre, exact.centre)) <= step
    assert (found.mask ^ exact.mask).mean() < 0.03 * step
