"""Our layers against escnn's own. Needs escnn and numpy<2: ``make escnn`` runs this in a separate environment."""

from __future__ import annotations

import pytest
import torch
from escnn import gspaces, nn

import pdegcnn as pg
from pdegcnn.interop.escnn import convolution_kernel, from_regular, to_geometric, to_regular


def regular(count: int, channels: int) -> nn.FieldType:
    space = gspaces.rot2dOnR2(count)
    return nn.FieldType(space, channels * [space.regular_repr])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("size", [3, 5])
def test_group_convolution_is_escnns(count: int, size: int) -> None:
    layer = nn.R2Conv(regular(count, 2), regular(count, 3), size, padding=size // 2, bias=False).eval()
    x = torch.randn(2, 2 * count, 9, 8)
    expected = from_regular(layer(nn.GeometricTensor(x, layer.in_type)), count)
    ours = pg.functional.group_convolution(from_regular(x, count), convolution_kernel(layer))
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [4, 8])
def test_rotations_are_escnns(count: int) -> None:
    """A rotation of the image against the clock by 90 degrees is one by -90 here, where y points down."""
    u = torch.randn(2, 3, count, 7, 7)
    field = to_geometric(u)
    quarter = field.type.gspace.fibergroup.element(count // 4)
    torch.testing.assert_close(
        from_regular(field.transform(quarter), count), pg.SE2(count).transform(u, angle=-90), atol=1e-5, rtol=1e-5
    )


def test_a_pde_layer_between_escnn_layers_commutes_with_its_rotations() -> None:
    count = 8
    first = nn.R2Conv(
        nn.FieldType(gspaces.rot2dOnR2(count), 3 * [gspaces.rot2dOnR2(count).trivial_repr]),
        regular(count, 2),
        5,
        padding=2,
    )
    layer, last = (
        pg.nn.PDELayer(pg.SE2(count), 2, 2).eval(),
        nn.R2Conv(regular(count, 2), regular(count, 1), 3, padding=1),
    )

    def net(x: torch.Tensor) -> torch.Tensor:
        u = from_regular(first(nn.GeometricTensor(x, first.in_type)), count)
        return last(to_geometric(layer(u))).tensor

    x = torch.randn(1, 3, 9, 9)
    turned = pg.SE2(count).transform(from_regular(net(x), count), angle=90)
    torch.testing.assert_close(net(torch.rot90(x, -1, (-2, -1))), to_regular(turned), atol=1e-4, rtol=1e-4)


def test_wrong_layers_are_refused() -> None:
    def conv(size: int = 3, **options) -> nn.R2Conv:
        return nn.R2Conv(regular(4, 1), regular(4, 1), size, **options)

    for layer, name in ((conv(padding=0), "padding"), (conv(padding=1, stride=2), "stride"), (conv(4), "kernel_size")):
        with pytest.raises(ValueError, match=f"convolution.{name}: expected"):
            convolution_kernel(layer)
    space = gspaces.rot2dOnR2(4)
    lift = nn.R2Conv(nn.FieldType(space, [space.trivial_repr]), regular(4, 1), 3, padding=1)
    with pytest.raises(ValueError, match="convolution.in_type: expected regular fields of C_4"):
        convolution_kernel(lift)
    with pytest.raises(ValueError, match="field: expected regular fields"):
        from_regular(nn.GeometricTensor(torch.randn(1, 1, 5, 5), lift.in_type), 4)
