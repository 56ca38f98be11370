"""The published networks for images on SE(2), and their counterparts on the plane."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import Device, DType, Factory
from pdegcnn.models.pretrained import read_pretrained
from pdegcnn.nn import BatchNorm, ChannelLinear, Lift, PDELayer, Project, Resample
from pdegcnn.nn.layer import usual_options
from pdegcnn.spaces import SE2, PlanarSpace

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pdegcnn.nn.layer import LayerOptions

TERMS = ("convection", "dilation", "erosion")
USUAL: dict[str, Any] = {"kernel_size": 5, "alpha": 0.65, "metric": "diagonal"}
"""What builders give layers unless the caller says otherwise; they are left out where no term takes them."""
PUBLISHED: LayerOptions = {
    "convection": "linear",
    "diffusion": "sampled",
    "distance": "half_angle",
    "oversample": 1,
}
"""Solvers of the published networks: dilation takes the largest sample, which is three times as fast to train."""


def as_published(
    space: PlanarSpace, terms: Sequence[str], usual: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of layers with those of ``PUBLISHED`` where there are no others; see `usual_options`."""
    return usual_options(space, terms, {**PUBLISHED, **usual}, given)


def rotated_digits(
    classes: int = 10,
    *,
    space: PlanarSpace | None = None,
    in_channels: int = 1,
    channels: Sequence[int] = (6, 12, 8),
    size: int | Sequence[int] = 14,
    template: int = 5,
    filters: str = "steerable",
    terms: Sequence[str] = TERMS,
    kernel_size: int | Sequence[int] = 5,
    alpha: float = 0.65,
    metric: str = "diagonal",
    dropout: float = 0.1,
    pretrained: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> nn.Sequential:
    """Build the rotated-digit PDE-G-CNN of Smets et al. (arXiv 2001.09046), invariant to rotations by construction.

    A 5x5 lift, PDE layers, resampling to ``size`` and to 5x5, and the maximum over orientations. The published head
    reads the 5x5 features in a fixed frame, which loses the invariance. This head correlates them with as many 5x5
    class templates, **turned to every orientation**, and takes the maximum.

    Args:
        classes: number of logits.
        space: SE(2); None: 8 orientations.
        in_channels: channels of the image.
        channels: after the lift and after each PDE layer.
        size: height and width at which the PDE layers work: one for all, or one for each.
        template: odd height and width of the class templates; 9 is more accurate between the grid's angles than 5.
        filters: filters of the lift: ``"steerable"`` of 5x5 pixels, or ``"smooth"`` of 9x9, accurate between angles
            too.
        terms: terms of the PDE layers.
        kernel_size: taps of their kernels.
        alpha: power of the terms.
        metric: form of their metrics.
        dropout: probability before the head.
        pretrained: name of weights in the package, ``"small"`` or ``"large"``. They have their own arguments; pass only
            ``device`` and ``dtype`` with them. Images are digits of 28x28, white on black, in [0, 1]. Training data and
            licence: ``pdegcnn/models/weights/*.json``.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`, by default those of ``PUBLISHED``.

    Shape:
        ``[B,in_channels,H,W] -> [B,classes]``, H, W >= 5, 28 in the publication.

    Raises:
        ImportError: if ``pretrained`` is given and ``safetensors`` is not installed.
        ValueError: for unknown or damaged weights, other arguments together with them, or arguments out of range.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.models.rotated_digits().eval()(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    chosen = {
        name: value for name, value in locals().items() if name not in ("pretrained", "device", "dtype", "options")
    }
    if pretrained is not None:
        return _pretrained(rotated_digits, pretrained, chosen | dict(options), device, dtype)
    return _digit_network(**chosen, device=device, dtype=dtype, options=options)


def _digit_network(
    classes: int,
    space: PlanarSpace | None,
    in_channels: int,
    channels: Sequence[int],
    size: int | Sequence[int],
    template: int,
    filters: str,
    terms: Sequence[str],
    kernel_size: int | Sequence[int],
    alpha: float,
    metric: str,
    dropout: float,
    device: Device,
    dtype: DType,
    options: LayerOptions,
) -> nn.Sequential:
    """Build the layers of :func:`rotated_digits`."""
    space = SE2(8) if space is None else space
    channels = _checks.widths("channels", channels, 1)
    _checks.positive_int("classes", classes)
    _checks.number("dropout", dropout, 0.0, 1.0)
    _checks.odd("template", (_checks.positive_int("template", template),))
    if not isinstance(size, (int, tuple, list)):
        raise TypeError(f"size: expected an int or a sequence of them, got {size!r}")
    sizes = [size] * (len(channels) - 1) if isinstance(size, int) else list(size)
    if len(sizes) != len(channels) - 1:
        raise ValueError(f"size: expected one number, or one for each of {len(channels) - 1} PDE layers, got {size}")
    factory: Factory = {"device": device, "dtype": dtype}
    given = {"kernel_size": kernel_size, "alpha": alpha, "metric": metric, **options}
    own = as_published(space, terms, USUAL, given)
    _checks.choice("filters", filters, ("steerable", "smooth"))
    taps, padding = (9, "same") if filters == "smooth" else (5, 0)
    lift = Lift(space, in_channels, channels[0], kernel_size=taps, padding=padding, filters=filters, **factory)
    layers: list[nn.Module] = [lift, BatchNorm(channels[0], space, **factory)]
    for i, (before, after) in enumerate(zip(channels, channels[1:])):
        if i == 0 or sizes[i] != sizes[i - 1]:
            layers.append(Resample(sizes[i]))
        layers.append(PDELayer(space, before, after, terms, **own, **factory))
    layers += [Resample(template), Project(space, mode="max"), nn.Dropout(dropout)]
    layers.append(Lift(space, channels[-1], classes, kernel_size=template, padding=0, **factory))
    return nn.Sequential(*layers, Project(space, mode="max"), nn.Flatten())


def _pretrained(
    builder: Callable[..., nn.Sequential], name: str, chosen: dict[str, Any], device: Device, dtype: DType
) -> nn.Sequential:
    """Build the network that weights of this package were trained for, with them, in eval mode."""
    parameters = inspect.signature(builder).parameters
    given = [k for k, value in chosen.items() if k not in parameters or value != parameters[k].default]
    if given:
        free = "device and dtype" if "logits" not in parameters else "logits, device and dtype"
        raise ValueError(f"pretrained: expected no other arguments with it than {free}, got {', '.join(given)}")
    description, state = read_pretrained(builder.__name__, name)
    arguments = dict(description["arguments"])
    if "logits" in parameters:
        arguments["logits"] = True
    space = SE2(arguments.pop("orientations"))
    model = builder(space=space, **arguments, device=device, dtype=dtype)
    model.load_state_dict(state)
    return model.eval()


class TwoScales(nn.Module):
    """PDE layers at half size, whose enlarged output joins the input of PDE layers at full size.

    The image is shrunk by means of 2x2 pixels. Wide vessels and their surroundings cost a quarter at half size.

    Args:
        coarse: layers ``[B,C,Or,h,w] -> [B,C',Or,h,w]`` at half size.
        fine: layers ``[B,C+C',Or,H,W] -> [B,C'',Or,H,W]``.

    Shape:
        ``[B,C,Or,H,W] -> [B,C'',Or,H,W]``; an odd height or width is padded by its last row or column.

    Raises:
        TypeError: if ``coarse`` or ``fine`` is not a module, or ``u`` is not a floating tensor.
        ValueError: if ``u`` does not have this rank.
    """

    def __init__(self, coarse: nn.Module, fine: nn.Module) -> None:
        super().__init__()
        self.coarse = _checks.kind("coarse", coarse, nn.Module, "a torch.nn.Module")
        self.fine = _checks.kind("fine", fine, nn.Module, "a torch.nn.Module")

    def forward(self, u: Tensor) -> Tensor:
        """Run the layers at half size, then those at full size.

        Args:
            u: a signal ``[B,C,Or,H,W]``.

        Returns:
            What ``fine`` returns, in the size of ``u``.
        """
        _checks.signal("u", u, 5, "[B,C,Or,H,W]")
        orientations, height, width = u.shape[-3:]
        planes = u.flatten(1, 2)
        even: Tensor = F.pad(planes, (0, width % 2, 0, height % 2), mode="replicate")
        means: Tensor = F.avg_pool2d(even, 2)
        small = self.coarse(means.unflatten(1, (-1, orientations)))
        large: Tensor = F.interpolate(small.flatten(1, 2), scale_factor=2, mode="bilinear")[..., :height, :width]
        lifted = cast("Tensor", large.unflatten(1, (-1, orientations)))
        return self.fine(torch.cat((u, lifted), dim=1))


def vessel_segmentation(
    in_channels: int = 3,
    out_channels: int = 1,
    *,
    space: PlanarSpace | None = None,
    layers: int = 6,
    scales: int = 1,
    channels: int | None = None,
    terms: Sequence[str] = TERMS,
    kernel_size: int | Sequence[int] = 5,
    alpha: float = 0.65,
    metric: str = "diagonal",
    dropout: float = 0.1,
    logits: bool = False,
    pretrained: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> nn.Sequential:
    """Build the vessel segmentation networks PDE-G-CNN6 and PDE-G-CNN12 of Smets et al. (arXiv 2001.09046).

    A 7x7 lift, ``layers - 2`` PDE layers of equal width, dropout, the maximum over orientations, a 1x1 convolution and
    a sigmoid. With ``scales=2`` the first half of the PDE layers (rounded up) works on means of 2x2 pixels and the
    second half on both sizes (:class:`TwoScales`).

    Args:
        in_channels: channels of the image: 3 for colour, 1 for grey.
        out_channels: segmentation maps.
        space: SE(2); None: 8 orientations.
        layers: depth, counting lift and projection: 6 or 12 in the publication, at least 3 (4 for two scales).
        scales: 1 as published, or 2.
        channels: width; None: 16 up to 6 layers, else 10.
        terms: terms of the PDE layers.
        kernel_size: taps of their kernels.
        alpha: their power.
        metric: form of their metrics.
        dropout: probability before the projection.
        logits: return logits, without the sigmoid.
        pretrained: ``"drive"``: a network in evaluation mode with weights trained on photographs of the retina, for
            :func:`pdegcnn.vessels.segment`. Pass only ``logits``, ``device`` and ``dtype`` with it. Figures, provenance
            and licence are in ``pdegcnn/models/weights/vessel_segmentation_drive.json``.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`, by default those of ``PUBLISHED``.

    Shape:
        ``[B,in_channels,H,W] -> [B,out_channels,H,W]``, probabilities unless ``logits``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.models.vessel_segmentation(in_channels=3).eval()(torch.rand(1, 3, 16, 16)).shape
        torch.Size([1, 1, 16, 16])
    """
    _checks.flag("logits", logits)
    apart = ("logits", "pretrained", "device", "dtype", "options", "apart")
    chosen = {name: value for name, value in locals().items() if name not in apart}
    if pretrained is not None:
        model = _pretrained(vessel_segmentation, pretrained, chosen | dict(options), device, dtype)
    else:
        model = _vessel_network(**chosen, bias=logits, device=device, dtype=dtype, options=options)
    return model if logits else model.append(nn.Sigmoid().train(model.training))


def _vessel_network(
    in_channels: int,
    out_channels: int,
    space: PlanarSpace | None,
    layers: int,
    scales: int,
    channels: int | None,
    terms: Sequence[str],
    kernel_size: int | Sequence[int],
    alpha: float,
    metric: str,
    dropout: float,
    bias: bool,
    device: Device,
    dtype: DType,
    options: LayerOptions,
) -> nn.Sequential:
    """Build the layers of :func:`vessel_segmentation` up to its logits."""
    space = SE2(8) if space is None else space
    _checks.choice("scales", scales, (1, 2))
    if _checks.positive_int("layers", layers) < 2 + scales:
        least = f"at least {2 + scales} for scales={scales} (lift, PDE layers, projection)"
        raise ValueError(f"layers: expected {least}, got {layers}")
    channels = (16 if layers <= 6 else 10) if channels is None else channels
    _checks.positive_int("channels", channels)
    _checks.number("dropout", dropout, 0.0, 1.0)
    factory: Factory = {"device": device, "dtype": dtype}
    given = {"kernel_size": kernel_size, "alpha": alpha, "metric": metric, **options}
    own: dict[str, Any] = {**as_published(space, terms, USUAL, given), **factory}
    stack: list[nn.Module] = [Lift(space, in_channels, channels, kernel_size=7, **factory)]
    stack.append(BatchNorm(channels, space, **factory))
    half = (layers - 1) // 2 if scales == 2 else 0
    coarse = [PDELayer(space, channels, channels, terms, **own) for _ in range(half)]
    widths = [channels * scales if i == 0 else channels for i in range(layers - 2 - half)]
    fine = [PDELayer(space, width, channels, terms, **own) for width in widths]
    stack += fine if scales == 1 else [TwoScales(nn.Sequential(*coarse), nn.Sequential(*fine))]
    stack += [nn.Dropout(dropout), Project(space, mode="max")]
    return nn.Sequential(*stack, ChannelLinear(channels, out_channels, bias=bias, **factory))
