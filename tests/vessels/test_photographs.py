"""Photographs become what networks see, and masks of their own size."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import pdegcnn as pg
from pdegcnn.vessels import overlay, photograph, prepare, probability, restore, segment
from pdegcnn.vessels.width import narrowed
from pdegcnn_examples.datasets import drawn_vessels


def test_turned_photographs_prepare_to_turned_ones():
    """Field of view, box and contrast have no direction: a quarter turn commutes to rounding."""
    image = drawn_vessels(1, 150).images[0]
    a, b = prepare(image), prepare(image.rot90(1, (1, 2)).contiguous())
    assert a.pixels.shape[-1] % 2 == 0 and a.diameter == pytest.approx(b.diameter, rel=1e-3)
    inside = (a.pixels.rot90(1, (1, 2)) - b.pixels).abs() * b.field
    assert inside.mean() < 0.02
    back = restore(torch.ones_like(a.field, dtype=torch.float32), a, (150, 150))
    truth = drawn_vessels(1, 150).fields[0]
    assert ((back > 0.5) ^ truth).float().mean() < 0.02


def test_mirrored_photographs_have_mirrored_vessels():
    """A network of convolutions has a handedness; what is reported of a photograph has none."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3, padding=1), torch.nn.Sigmoid()).eval()
    pixels = torch.randn(3, 20, 24)
    chances = probability(model, pixels)
    torch.testing.assert_close(probability(model, pixels.flip(-1)).flip(-1), chances)
    assert (chances - model(pixels[None])[0, 0]).abs().max() > 0.01


def test_a_cut_field_of_view_has_no_dark_edge():
    """A picture that is field of view throughout, and is made smaller: its border is as bright as the rest."""
    rows, columns = np.mgrid[:900, :1200]
    image = torch.from_numpy(0.5 + 0.05 * np.sin(rows / 9) * np.sin(columns / 9)).float().expand(3, -1, -1)
    ready = prepare(image)
    border = ready.field & ~torch.from_numpy(ndimage.binary_erosion(ready.field.numpy()))
    assert ready.pixels[1][border].mean().abs() < 0.5  # in deviations


def test_contrast_reaches_to_the_rim():
    """Light that falls off at the border of the field of view takes no contrast from what lies within."""
    size = round(photograph.DIAMETER) + 24
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    depth = photograph.DIAMETER / 2 - np.hypot(rows, columns)
    texture = 0.5 + 0.05 * np.sin(rows) * np.sin(columns)
    seen = photograph.even_out(torch.from_numpy(texture * np.clip(depth / 5, 0, 1))[None], torch.from_numpy(depth > 0))[
        0
    ]
    centre, near = seen[torch.from_numpy(depth > 100)].std(), seen[torch.from_numpy((depth > 8) & (depth < 30))].std()
    assert near == pytest.approx(float(centre), rel=0.15)


@pytest.fixture(scope="module")
def shipped():
    """The network that comes with the package."""
    return pg.models.vessel_segmentation(pretrained="drive")


def eye(size, vessels, rim=4.0, seed=0):
    """A drawn photograph [3,size,size] whose light falls off over ``rim`` pixels of its field of view."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    away = 0.46 * size - np.hypot(rows, columns)
    shade = 1 + 0.1 * ndimage.gaussian_filter(random.normal(0, size / 4, (size, size)), size / 6)
    shade = shade * (1 - 0.35 * vessels) + random.normal(0, 0.02, (size, size))
    light = np.clip(away / rim, 0, 1) * shade
    return torch.from_numpy(np.clip(light * np.array([0.7, 0.4, 0.2])[:, None, None], 0, 1)).float(), away


@pytest.mark.parametrize("rim", [0.5, 3.0, 6.0])
def test_no_ring_at_the_border_of_the_field(shipped, monkeypatch, rim):
    """Without vessels nothing is marked where light falls off, whether at once or over some pixels."""
    monkeypatch.setattr(photograph, "DIAMETER", 0.92 * 140)
    image, away = eye(140, np.zeros((140, 140)), rim)
    found = segment(shipped, image)
    ring = torch.from_numpy((away > 0) & (away < 12))
    assert (found.mask & ring).sum() <= 0.01 * ring.sum()


def test_vessels_are_found_up_to_the_border_and_nowhere_outside(shipped, monkeypatch):
    monkeypatch.setattr(photograph, "DIAMETER", 0.92 * 140)
    line = np.abs(np.mgrid[:140, :140][0] - 70) < 2
    image, away = eye(140, line)
    found = segment(shipped, image)
    truth = torch.from_numpy(line & (away > 3))
    assert (found.mask & truth).sum() > 0.9 * truth.sum()
    assert not (found.mask & ~found.field).any() and not found.probability[~found.field].any()
    assert found.mask.sum() < 2 * truth.sum()
    assert torch.equal(found.mask, found.probability >= 0.5)
    shown = overlay(image, found.mask)
    assert torch.equal(shown[:, ~found.mask], image[:, ~found.mask])
    assert (shown[1] - image[1])[found.mask].mean() > 0.3


def test_pixels_beyond_the_rim_are_mirror_images():
    """A field of waves goes on beyond its border as waves of the same height, without an edge."""
    rows, columns = np.mgrid[:160, :160] - 79.5
    waves = np.sin(rows / 3) * np.cos(columns / 4)
    core = np.hypot(rows, columns) < 60
    made = photograph._mirrored(np.where(core, waves, 9.0)[None], core)[0]
    assert np.array_equal(made[core], waves[core])
    near = (np.hypot(rows, columns) > 60) & (np.hypot(rows, columns) < 75)
    assert abs(made[near].std() / waves[core].std() - 1) < 0.2 and np.abs(made).max() <= 1
    step = np.abs(np.diff(made, axis=0))[79 - 20 : 79 + 20]
    assert step.max() < 1.6 * np.abs(np.diff(waves, axis=0)).max()


def test_progress_goes_from_nothing_to_all():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3, padding=1), torch.nn.Sigmoid()).eval()
    shares = []
    probability(model, torch.randn(3, 70, 50), tile=32, margin=4, progress=shares.append)
    assert shares == [k / 6 for k in range(1, 7)]


def test_wrong_models_and_images_say_what_to_do():
    grey = torch.rand(3, 64, 64)
    logits = torch.nn.Conv2d(3, 1, 1).eval()
    torch.nn.init.constant_(logits.bias, 5.0)
    with pytest.raises(ValueError, match=r"^model: expected probabilities in \[0, 1\].*Sigmoid"):
        probability(logits, grey)
    with pytest.raises(ValueError, match=r"^model: expected a network in eval mode.*model.eval\(\)"):
        segment(torch.nn.Conv2d(3, 1, 1), grey)
    with pytest.raises(TypeError, match=r"^image: expected .* got uint8: image.float\(\) / 255"):
        segment(logits, (255 * grey).byte())
    with pytest.raises(ValueError, match=r"^image: expected values in \[0, 1\], got"):
        segment(logits, 255 * grey)
    with pytest.raises(ValueError, match="^image: expected a tensor of rank 3"):
        segment(logits, grey[None])
    with pytest.raises(ValueError, match="^image: expected 3 channels"):
        segment(logits, grey[:1])
    for name, wrong in (("threshold", 1.5), ("diameter", 3.0), ("angle", 0.0)):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            segment(logits, grey, **{name: wrong})
    two = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Sigmoid()).eval()
    with pytest.raises(ValueError, match=r"^model: expected one probability for each pixel.*got \(2, 2, 64, 64\)"):
        probability(two, grey)
    with pytest.raises(ValueError, match=r"^model: expected an output .*64,64.*got \(2, 1, 32, 32\)"):
        probability(torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.AvgPool2d(2)).eval(), grey)
    with pytest.raises(TypeError, match="^model: expected a network"):
        probability(lambda x: x[:, :1], grey)
    with pytest.raises(ValueError, match="^tile: expected a positive int"):
        probability(logits, grey, tile=0)


def test_a_diameter_far_below_what_is_lit_is_refused():
    """It would make the picture many times as large; one that is somewhat too low is taken."""
    image = eye(200, np.zeros((200, 200)))[0]
    for wrong in (16.0, 40.0):
        with pytest.raises(ValueError, match=r"^diameter: expected at least 0.25 of the \d+ pixels .* got"):
            prepare(image, wrong)
    assert prepare(image, 60.0).pixels.shape[-1] < 4 * (photograph.DIAMETER + 24)


def test_results_of_other_shapes_and_colours_are_refused():
    grey = torch.rand(3, 64, 64)
    ready = prepare(grey, 64)
    for values in (torch.rand(1, ready.field.shape[1]), torch.rand(())):
        with pytest.raises(ValueError, match="^values: expected"):
            restore(values, ready, (64, 64))
    with pytest.raises(ValueError, match="^mask: expected a shape"):
        overlay(grey, torch.ones(2, 3, 64, 64, dtype=torch.bool))
    for colour in ((255, 0, 0), (0.1, 0.2), (float("nan"), 0, 0)):
        with pytest.raises(ValueError, match="^colour: expected"):
            overlay(grey, torch.ones(64, 64, dtype=torch.bool), colour)


@pytest.mark.parametrize("shape", [(30, 41), (32, 32)])
def test_two_scales_turn_with_the_image(shape):
    """Of even sizes to rounding; an odd size is made even at one side, which a turn sees at that border alone."""
    torch.manual_seed(0)
    model = pg.models.vessel_segmentation(layers=5, scales=2, channels=4, logits=True).double().eval()
    x = torch.randn(1, 3, *shape, dtype=torch.float64)
    turned, straight = model(x.rot90(1, (2, 3))), model(x).rot90(1, (2, 3))
    assert straight.shape == (1, 1, shape[1], shape[0])
    if shape[1] % 2 == 0:
        torch.testing.assert_close(turned, straight, atol=1e-11, rtol=1e-9)


def test_two_scales_need_a_layer_each():
    with pytest.raises(ValueError, match="^layers: expected at least 4"):
        pg.models.vessel_segmentation(layers=3, scales=2)
    with pytest.raises(ValueError, match="^scales: expected one of 1, 2, got 3"):
        pg.models.vessel_segmentation(scales=3)


@pytest.mark.parametrize("half_width", [3.0, 6.0, 9.0])
@pytest.mark.parametrize("turned", [False, True])
def test_widths_are_those_of_the_photograph(half_width, turned):
    """A vessel with soft sides and a light reflex along its middle, in a mask that is several pixels too wide."""
    rows = np.abs(np.mgrid[:160, :200][0] - 80.0)
    light = 0.6 - 0.2 / (1 + np.exp((rows - half_width) / 0.7)) + (0.12 if half_width > 5 else 0) * (rows < 1)
    wide, field = rows < half_width + 4, np.ones((160, 200), bool)
    if turned:
        light, wide, field = light.T, wide.T, field.T
    found = narrowed(wide, light, field, 2.6)
    widths = found.sum(1 if turned else 0)[30:-30]
    assert np.abs(widths - 2 * half_width).max() <= 1.5  # the light is smoothed by a pixel, the borders are soft
    assert found[80 if not turned else 100, 100 if not turned else 80]
    assert not narrowed(np.zeros_like(wide), light, field, 2.6).any()


def test_masks_of_large_photographs_are_as_wide_as_their_vessels(shipped, monkeypatch):
    monkeypatch.setattr(photograph, "DIAMETER", 0.92 * 140)
    line = np.abs(np.mgrid[:420, :420][0] - 210) < 5
    image, away = eye(420, ndimage.gaussian_filter(line.astype(float), 1.0), rim=6.0)
    found = segment(shipped, image)
    truth = torch.from_numpy(line & (away > 12))
    assert (found.mask & truth).sum() > 0.85 * truth.sum()
    across = found.mask[:, 120:300].sum(0).float().median()
    assert abs(float(across) - 9) <= 2
    assert ((found.probability >= 0.5)[:, 120:300].sum(0).float().median()) >= across
