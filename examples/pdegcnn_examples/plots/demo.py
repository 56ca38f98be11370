"""The picture that the demo writes."""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.kernels import DISTANCES, morphological_kernel
from pdegcnn_examples.datasets import Digits
from pdegcnn_examples.plots import networks as plot

SHOWN_TAPS = 11


def draw(models: dict[str, nn.Module], digits: Digits, space: Any) -> Figure:
    """Three panels: orientation channels around each PDE term, learned kernels, predictions on one digit turned."""
    model = models["PDE-G-CNN"].eval()
    figure = Figure(figsize=(12.5, 12.5), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=(6.2, 2.8, 2.6), hspace=0.04)
    top, middle, bottom = parts
    with torch.no_grad():
        digit = _directed_digit(digits)
        layer, lifted = _first_layer(model, digits.images[digit][None])
        stages = _stages(layer, lifted, space)
        plot.orientation_channels(
            stages,
            top,
            title="1. A digit lifted to 8 orientations (columns), and what each PDE term makes of it (one channel)",
        )
        plot.kernels(
            _kernels(layer, space),
            middle,
            used=5,
            columns=8,
            title="2. Learned kernels: which neighbours a value may come from, at each orientation (box: taps used)",
        )
        images, angles = _turned(digits.images[digit], space)
        chances = {f"{name}:": net.eval()(images).softmax(1) for name, net in models.items()}
    truth = int(digits.labels[digit])
    plot.predictions(
        images[:, 0],
        chances,
        bottom,
        truth=truth,
        angles=angles,
        title=f"3. A test digit {truth} turned further: predicted class and probability (green: right, red: wrong)",
    )
    return figure


def _directed_digit(digits: Digits) -> int:
    """The first test digit that changes when it is turned (2, 3, 4, 5 or 7) and is nearly upright."""
    upright = torch.cos(torch.deg2rad(digits.angles)) > 0.9
    directed = torch.isin(digits.labels, torch.tensor([2, 3, 4, 5, 7]))
    return int((upright & directed).int().argmax())


def _first_layer(model: nn.Module, image: Tensor) -> tuple[pg.nn.PDELayer, Tensor]:
    """The first PDE layer of a sequential model and its input."""
    u = image
    for module in model.children():
        if isinstance(module, pg.nn.PDELayer):
            return module, u
        u = module(u)
    raise ValueError("model: expected a sequence with a PDELayer")


def _stages(layer: pg.nn.PDELayer, u: Tensor, space: Any) -> dict[str, Tensor]:
    """The liveliest channel of the lifted digit, and the same after each term alone."""
    channel = int(u.var((0, 2, 3, 4)).argmax())
    stages = {"lifted digit": u[0, channel]}
    for name in ("convection", "diffusion", "dilation", "erosion"):
        if name in layer.terms:
            after, label = layer.terms[name](u), f"after {name}"
        else:
            unit = torch.tensor([1.0, 1.0, 4 / math.pi])
            after, label = (
                pg.functional.diffusion(u, space, unit, alpha=1.0, kernel_size=5),
                f"after {name}\n(not in this network)",
            )
        stages[label] = after[0, channel]
    return stages


def _kernels(layer: pg.nn.PDELayer, space: Any) -> dict[str, Tensor]:
    """The most elongated learned kernel of dilation and of erosion, drawn on more taps than are used."""
    shown = {}
    for name in ("dilation", "erosion"):
        term: Any = layer.terms[name]
        taps = space.taps((5, SHOWN_TAPS, SHOWN_TAPS), next(term.parameters()))
        squared = DISTANCES["combined"](space, term.metric(), taps)
        costs = morphological_kernel(squared, term.power())
        cost = costs.amin(2)[:, 0].flatten(1)
        spread = ((-cost).exp()).reshape(-1, SHOWN_TAPS, SHOWN_TAPS)
        channel = int(_elongation(spread).argmax())
        shown[f"{name},\nchannel {channel + 1}"] = costs[channel]
    return shown


def _elongation(weights: Tensor) -> Tensor:
    """Ratio of the extents of weights [C,N,N] along their two axes."""
    n = weights.shape[-1]
    x = torch.arange(n, dtype=weights.dtype) - n // 2
    total = weights.sum((1, 2))
    along = (weights * x**2).sum((1, 2)) / total
    across = (weights * x[:, None] ** 2).sum((1, 2)) / total
    return torch.maximum(along, across) / torch.minimum(along, across)


def _turned(image: Tensor, space: Any) -> tuple[Tensor, list[float]]:
    """The image turned by multiples of 45 degrees, [8,1,H,W], and these angles."""
    angles = [45.0 * k for k in range(8)]
    return torch.cat([space.transform(image[None], angle=a) for a in angles]).clamp(0, 1), angles
