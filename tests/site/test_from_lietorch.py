"""The page for users of LieTorch: it names what LieTorch 0.8.2 exports, and every call on it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import pdegcnn as pg

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "from_lietorch.md").read_text(encoding="utf-8")
SETUP = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)[0]
CELLS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if re.match(r"\| [^|]*\| .*`", line)]
ROWS = {cells[0].strip(): re.findall(r"`([^`]*)`", cells[1]) for cells in CELLS}
NAMES = """LiftM2Cakewavelets LiftM2Cartesian ReflectionPadM2 MaxProjectM2 SumProjectM2 ConvM2Cartesian ConvectionM2
AnisotropicDilatedProjectM2 LinearConvolutionM2 MorphologicalConvolutionM2 FractionalDilationM2 LinearM2 DiffusionM2
FractionalDilationM2NonDiag FractionalErosionM2 FractionalErosionM2NonDiag ConvectionDilationPdeM2 LinearR2
ConvectionErosionPdeM2 CDEPdeLayerM2NonDiag SpatialResampleM2 MorphologicalConvolutionR2 FractionalDilationR2
FractionalErosionR2 ConvectionR2 DiffusionR2 SpatialResampleR2 DiceLoss"""
LAYERS = ("CDE", "DE", "DDE", "CDDE", "DS", "CDS")
EXPORTED = {
    *re.findall(r"\w+", NAMES),
    *(f"{layer}PdeLayerM2" for layer in LAYERS),
    *(f"{layer}PdeLayerR2Finslerian" for layer in LAYERS),
    *(f"{layer}PdeLayerR2{kind}" for layer in LAYERS if layer != "DE" for kind in ("", "Isotropic")),
}
"""What ``lietorch.nn`` of release 0.8.2 exports."""


def namespace() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(SETUP, found)
    return found


def test_every_exported_name_is_on_the_page() -> None:
    named = set(re.findall(r"\w+", " ".join(ROWS)))
    assert named >= EXPORTED, EXPORTED - named


@pytest.mark.parametrize("name", ROWS)
def test_every_call_runs(name: str) -> None:
    (call,) = ROWS[name]
    torch.manual_seed(0)
    result = eval(call, namespace())
    assert isinstance(result, dict) or bool(torch.as_tensor(result).isfinite().all())


@pytest.mark.parametrize("alpha", [0.65, 1.0])
def test_kernels_of_the_plane_are_those_of_other_weights(alpha: float) -> None:
    """Theirs are ``exp(-n^2)`` and ``n^b / b`` with ``b = 2 alpha / (2 alpha - 1)``, for a norm n."""
    norm = torch.linspace(0.1, 3, 9, dtype=torch.float64)
    power = 2 * alpha / (2 * alpha - 1)
    came = pg.kernels.morphological_kernel((2 * alpha) ** (1 / alpha) * norm**2, alpha)
    torch.testing.assert_close(came, norm**power / power)
    heat = pg.kernels.diffusion_profile(4 * norm**2, alpha=1.0, dim=2, time=1.0)
    torch.testing.assert_close(heat / heat[0], torch.exp(-(norm**2)) / torch.exp(-(norm[0] ** 2)))
