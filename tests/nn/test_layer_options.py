"""A layer refuses options that no term takes; builders pass on only those of their own that one takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pdegcnn as pg

SE2, R2 = pg.SE2(4), pg.R2()
SO3 = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(4), 4)
S2 = pg.S2(pg.sphere.SphereGrid.gauss_legendre(4))
IDLE: list[tuple[pg.spaces.Space, tuple[str, ...], dict[str, Any], str]] = [
    (SE2, ("diffusion",), {"diffusion": "spectral", "boundary": "zeros"}, "boundary: expected one of 'periodic'"),
    (SE2, ("diffusion",), {"diffusion": "spectral", "padding_mode": "zeros"}, "boundary: expected one of 'periodic'"),
    (SE2, ("diffusion",), {"diffusion": "spectral", "kernel_size": 5}, "kernel_size: expected None for spectral diff"),
    (R2, ("diffusion",), {"diffusion": "spectral", "radius": 2.0}, "radius: expected None for spectral diffusion"),
    (R2, ("diffusion",), {"diffusion": "spectral", "distance": "half_angle"}, "distance: expected None for spectral"),
    (SE2, ("convection",), {"convection": "spectral", "boundary": "zeros"}, "boundary: expected one of 'periodic'"),
    (SE2, ("convection",), {"kernel_size": 5}, "kernel_size: expected None for convection on SE2"),
    (SE2, ("convection",), {"oversample": 2}, "oversample: expected None for convection"),
    (SE2, ("dilation", "erosion"), {"boundary": "zeros"}, "boundary: expected None for dilation, erosion"),
    (SE2, ("diffusion",), {"convection": "nonsense"}, "convection: expected None for diffusion on .*, got 'nonsense'"),
    (SE2, ("dilation",), {"diffusion": "spectral"}, "diffusion: expected None for dilation on .*, got 'spectral'"),
    (S2, ("diffusion",), {"convection": "spectral"}, "convection: expected None for diffusion"),
    (SE2, ("convection",), {"metric": "nonsense"}, "metric: expected 'diagonal' for convection on .*, got 'nonsense'"),
    (SE2, ("convection",), {"alpha": 0.8}, "alpha: expected 0.65 for convection on .*, got 0.8"),
    (SE2, ("convection",), {"learn_alpha": True}, "learn_alpha: expected False for convection on .*, got True"),
    (SE2, ("convection",), {"semifield": "log_plus", "temperature": 0.1}, "semifield: expected 'max_plus' for conv"),
    (SE2, ("convection", "dilation"), {"smoothing": 1.0}, "smoothing: expected None for convection, dilation"),
    (SO3, ("convection",), {"subgrid": "newton"}, "subgrid: expected None for convection"),
]


@pytest.mark.parametrize(("space", "terms", "options", "text"), IDLE, ids=[str(row[2]) for row in IDLE])
def test_an_option_that_no_term_takes_is_refused(
    space: pg.spaces.Space, terms: tuple[str, ...], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        pg.nn.PDELayer(space, 2, 2, terms, **options)


@pytest.mark.parametrize("options", [{"kernel_size": 5}, {"radius": 2.0}, {"distance": "half_angle"}], ids=str)
def test_functions_refuse_them_too(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}: expected None for spectral diffusion on R2"):
        pg.functional.diffusion(torch.rand(1, 1, 4, 4), R2, torch.ones(2), method="spectral", **options)


def test_an_option_that_one_term_takes_is_allowed() -> None:
    terms = ("convection", "diffusion", "dilation")
    options = {"convection": "spectral", "diffusion": "spectral", "kernel_size": 3, "boundary": "periodic"}
    layer = pg.nn.PDELayer(SE2, 2, 2, terms, learn_alpha=True, metric="spd", **options)
    assert layer.terms["dilation"].solver.options.kernel_size == 3
    assert layer.terms["diffusion"].solver.options.boundary == "periodic"
    pg.nn.PDELayer(SE2, 2, 2, ("convection", "diffusion"), convection="spectral", boundary="zeros")
    pg.nn.PDELayer(SE2, 2, 2, ("convection",), convection="spectral", padding_mode="circular")


def test_a_parameter_is_no_power() -> None:
    with pytest.raises(TypeError, match="^alpha: expected a number .*learn_alpha=True.*, got a tensor of shape"):
        pg.nn.PDELayer(SE2, 2, 2, ("dilation",), alpha=torch.nn.Parameter(torch.tensor(0.7)))  # pyright: ignore[reportArgumentType] - wrong on purpose


BUILDERS: dict[str, Any] = {
    "rotated_digits": lambda **options: pg.models.rotated_digits(channels=(2, 2), **options),
    "vessel_segmentation": lambda **options: pg.models.vessel_segmentation(layers=3, channels=2, **options),
    "detector": lambda **options: pg.models.detector(channels=(2,), layers=1, **options),
    "hyperbolic": lambda **options: pg.models.equivariant_hyperbolic_segmenter(1, 2, 2, 1, **options),
    "unet": lambda **options: pg.models.unet(pg.SE2(4), channels=(2, 2), **options),
    "spherical_classifier": lambda **options: pg.models.spherical_classifier(S2.grid, channels=(2, 2), **options),
    "spherical_segmenter": lambda **options: pg.models.spherical_segmenter(S2.grid, width=2, levels=1, **options),
    "spherical_detector": lambda **options: pg.models.spherical_detector(S2.grid, width=2, layers=1, **options),
}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("term", ("convection", "diffusion", "dilation"))
def test_builders_have_networks_of_every_term(name: str, term: str) -> None:
    BUILDERS[name](terms=(term,))


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_refuse_what_no_term_takes(name: str) -> None:
    for options in ({"kernel_size": 7}, {"metric": "spd"}, {"learn_alpha": True}, {"diffusion": "spectral"}):
        (option,) = options
        with pytest.raises(ValueError, match=f"^{option}: expected"):
            BUILDERS[name](terms=("convection",), **options)
