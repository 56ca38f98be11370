"""A large image in tiles gives what it gives as a whole."""

import pytest
import torch
from torch import nn

from pdegcnn.models import tiled
from pdegcnn_examples.networks import vessels


@pytest.mark.parametrize("shape", [(50, 41), (32, 32), (7, 90)])
@pytest.mark.parametrize("tile", [16, 32])
def test_equal_everywhere_to_convolutions(shape, tile):
    """Sees 3 pixels: with a margin of 4 tiles change nothing, with 2 they do."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 5, padding=2), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1)).double()
    image = torch.rand(2, 2, *shape, dtype=torch.float64)
    whole = model(image)
    torch.testing.assert_close(tiled(model, image, tile, 4), whole, atol=1e-13, rtol=0)
    assert (tiled(model, image, tile, 2) - whole).abs().max() > 1e-6 or min(shape) <= tile >= max(shape)


@pytest.mark.parametrize(("name", "margin"), [("pde", 64), ("pde6", 32), ("ship", 64)])
def test_equal_to_the_vessel_networks(name, margin):
    """Three layers at half resolution and two at full see less than 64 pixels; at margin 8 the seams show."""
    torch.manual_seed(0)
    model = vessels.NETS[name]().double().eval()
    image = torch.rand(1, 3, 181, 21, dtype=torch.float64)
    with torch.no_grad():
        whole = model(image)
    assert whole.shape == (1, 1, 181, 21)
    scale = whole.std()
    torch.testing.assert_close(tiled(model, image, 48, margin) / scale, whole / scale, atol=1e-9, rtol=0)
    assert (tiled(model, image, 48, 8) - whole).abs().max() / scale > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tile": 33}, "tile: expected a multiple"), ({"margin": -2}, "margin: expected"), ({"margin": 3}, "margin")],
)
def test_bad_tiles(options, message):
    with pytest.raises(ValueError, match=message):
        tiled(nn.Identity(), torch.rand(1, 1, 8, 8), **options)


def test_parameters_are_as_few_as_promised():
    counts = {name: sum(p.numel() for p in build().parameters()) for name, build in vessels.NETS.items()}
    assert counts["pde"] <= 5000 and counts["pde6"] <= 5000 and counts["ship"] <= 5000
    assert counts["cnn6"] == pytest.approx(47352, rel=0.03) and counts["gcnn6"] == pytest.approx(39258, rel=0.03)
