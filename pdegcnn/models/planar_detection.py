"""Detection of objects in images by heat maps on SE(2) and oriented boxes.

At every position and orientation the network predicts the probability of an object in this direction, and its box
relative to them. A turned image therefore gives turned boxes. Definition and comparison of boxes are in
:mod:`pdegcnn.models.oriented_boxes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import tolist
from pdegcnn.models.detection_scores import PRIOR, heat_loss
from pdegcnn.models.oriented_boxes import check_boxes, check_labels, image_size, oriented_nms, written
from pdegcnn.models.planar import TERMS, USUAL, as_published
from pdegcnn.nn import BatchNorm, ChannelLinear, Downsample, GroupConv, Lift, PDELayer, Residual
from pdegcnn.spaces import SE2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pdegcnn.nn.layer import LayerOptions

__all__ = ["Detector", "detector"]

POSITION, TURN = 0.75, 0.75
"""Least widths of the target's bells, in samples of the maps and in steps from one orientation to the next."""
REACH, ROUND = 0.1, 0.3
"""How much wider bells are for large boxes (in their sides) and for round ones, whose direction matters less."""
NEAR = 0.5
"""Where a bell is greater, the box is learned too."""
CANDIDATES = 4
"""How many times more boxes than wanted compete in the suppression."""
LARGEST = 5.0
"""Logarithms of sides over ``size`` are cut off here."""
SPREAD = 12.0
"""A side's square over the variance of points between its ends."""


class Detector(nn.Module):
    """Detector of oriented boxes in images by maps on SE(2), called like the detectors of torchvision.

    ``detector(images)`` in evaluation mode returns a dictionary for each image: ``boxes [N,5]`` (x, y, length, width,
    angle), ``scores [N]`` in [0, 1], best first, and ``labels [N]`` (int64). ``detector(images, targets)`` returns a
    dictionary of the losses ``"heat"`` and ``"boxes"``, whose sum is to be minimised. Units of boxes are in
    :mod:`pdegcnn.models.oriented_boxes`.

    The heat of a class is its probability at each position and orientation. Local maxima become boxes, and of
    overlapping boxes the best is kept. The target of the heat is a bell for each box, as narrow as the samples allow,
    wider for large boxes and, over orientations, for nearly square ones. A box is the same from behind, so both of its
    directions are trained, and either one finds it. ``"boxes"`` is the Hellinger distance between the Gaussians with
    the means and variances of the boxes. It is continuous in the angle and does not depend on the direction of a
    square.

    Sources: Zhou et al., *Objects as points* (arXiv 1904.07850); Llerena et al.,
    *Gaussian bounding boxes and probabilistic intersection-over-union* (arXiv 2106.06072).

    Args:
        network: ``[B,C,H,W] -> [B,classes+5,Or,h,w]``: logits of the heat of each class; then the position along and
            across the orientation in units of ``stride``, logarithms of length and width over ``size``, and the angle
            in orientation steps.
        space: SE(2), the space of these maps.
        classes: number of classes.
        stride: pixels from one sample of the maps to the next.
        size: side of a typical object, in pixels.
        threshold: least score of a box.
        overlap: a box is dropped if its intersection over union with a better one of its class is greater.
        most: greatest number of boxes of an image.

    Shape:
        Images ``[B,C,H,W]``. Boxes and scores have their dtype, or float32 for half precision.

    Raises:
        TypeError: if an argument, an image or a target has the wrong type.
        ValueError: if an argument is out of range, shapes do not fit, targets do not have ``boxes`` and ``labels`` for
            each image, or targets are missing in training mode.

    Example:
        >>> import torch, pdegcnn as pg
        >>> model = pg.models.detector(channels=(4, 4), layers=1)
        >>> boxes, labels = torch.tensor([[12.0, 20.0, 14.0, 6.0, 0.3]]), torch.tensor([0])
        >>> sorted(model(torch.rand(1, 1, 32, 32), [{"boxes": boxes, "labels": labels}]))
        ['boxes', 'heat']
        >>> found = model.eval()(torch.rand(2, 1, 32, 32))
        >>> len(found), sorted(found[0])
        (2, ['boxes', 'labels', 'scores'])
    """

    def __init__(
        self,
        network: nn.Module,
        space: SE2,
        classes: int = 1,
        *,
        stride: int = 4,
        size: float = 16.0,
        threshold: float = 0.3,
        overlap: float = 0.3,
        most: int = 100,
    ) -> None:
        super().__init__()
        self.network = _checks.kind("network", network, nn.Module, "a torch.nn.Module")
        self.space = _checks.kind("space", space, SE2, "SE2")
        self.classes = _checks.positive_int("classes", classes)
        self.stride = _checks.positive_int("stride", stride)
        self.size = _checks.plain_number("size", size, 0.0, 1e6, open_low=True)
        self.threshold = _checks.plain_number("threshold", threshold, 0.0, 1.0)
        self.overlap = _checks.plain_number("overlap", overlap, 0.0, 1.0)
        self.most = _checks.positive_int("most", most)

    def forward(
        self, images: Tensor, targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return the losses if there are targets, else the boxes that were found.

        Args:
            images: ``[B,C,H,W]``.
            targets: for each image ``"boxes"``, ``[N,5]``: centre x and y, length and width in pixels, angle in
                radians; and ``"labels"``, ``[N]`` long. Required in training.
        """
        if targets is None and self.training:
            raise ValueError("targets: expected a dictionary of boxes and labels for each image in training, got None")
        if targets is not None:
            targets = self._checked(targets, _checks.signal("images", images, 4, "[B,C,H,W]"))
        maps = self.network(images)
        size = int(images.shape[-2]), int(images.shape[-1])
        return self.found(maps, size) if targets is None else self.losses(maps, size, targets)

    @torch.no_grad()
    def found(self, maps: Tensor, size: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return boxes, scores and labels of each image from the maps of images of ``size`` (height, width).

        Args:
            maps: outputs of the network, ``[B,classes+5,Or,h,w]``.
            size: height and width of the images in pixels.
        """
        self._check_maps(maps)
        wide = widened(maps)
        boxes = self._boxes(wide, image_size("size", size))
        heat = wide[:, : self.classes].sigmoid()
        return [self._found(*pair) for pair in zip(heat, boxes.movedim(1, -1))]

    def _found(self, heat: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Read them from heat ``[classes,Or,h,w]`` and boxes ``[Or,h,w,5]`` of one image."""
        around = nn.functional.pad(torch.cat((heat[:, -1:], heat, heat[:, :1]), 1), (1, 1, 1, 1))
        peaks = heat >= nn.functional.max_pool3d(around, 3, 1)
        label, *where = (peaks & (heat >= self.threshold)).nonzero(as_tuple=True)
        scores = heat[(label, *where)]
        best = scores.argsort(descending=True, stable=True)[: CANDIDATES * self.most]
        chosen, scores, label = written(boxes[tuple(where)][best]), scores[best], label[best]
        keep = oriented_nms(chosen, scores, self.overlap, label)[: self.most]
        return {"boxes": chosen[keep], "scores": scores[keep], "labels": label[keep]}

    def losses(self, maps: Tensor, size: Sequence[int], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the losses of the maps of images of ``size`` (height, width), divided by the number of boxes.

        Args:
            maps: ``[B,classes+5,Or,h,w]`` of the network.
            size: height and width of the images.
            targets: for each image ``boxes [N,5]`` and ``labels [N]``, which may be empty.
        """
        self._check_maps(maps)
        height, width = image_size("size", size)
        targets = self._checked(targets, maps.new_empty(()).expand(len(maps), 1, height, width))
        wide = widened(maps)
        logits, boxes = wide[:, : self.classes], self._boxes(wide, (height, width))
        heat, error, count = torch.zeros_like(logits), logits.new_zeros(()), 0
        for b, target in enumerate(targets):
            if not len(target["labels"]):
                continue
            truth = written(target["boxes"].to(logits))
            bells = self._bells(truth, logits, (height, width))
            for label in sorted(set(cast("list[int]", tolist(target["labels"])))):
                heat[b, label] = bells[(target["labels"] == label).to(bells.device)].amax(0)
            near = bells * (bells >= NEAR)
            near = (near / near.flatten(1).sum(1)[:, None, None, None]).flatten(1)
            which, where = near.nonzero(as_tuple=True)
            error = error + (near[which, where] * distance(boxes[b].flatten(1)[:, where].T, truth[which])).sum()
            count += len(truth)
        return {"heat": heat_loss(logits, heat) / max(count, 1), "boxes": error / max(count, 1)}

    def _check_maps(self, maps: Tensor) -> None:
        self.space.check_signal("maps", maps)
        _checks.channels("maps", maps, self.classes + 5, self.space.layout)

    def _checked(self, targets: Any, images: Tensor) -> list[dict[str, Tensor]]:
        """Return the targets if they are boxes and labels of objects in these images, else raise."""
        given = cast("Sequence[object]", targets) if isinstance(targets, (list, tuple)) else None
        if given is None or len(given) != len(images):
            got = type(cast("object", targets)).__name__ if given is None else f"{len(given)}"
            raise ValueError(f"targets: expected a list of {len(images)} dictionaries, one for each image, got {got}")
        checked: list[dict[str, Tensor]] = []
        for number, one in enumerate(given):
            target = cast("Mapping[str, object]", one if isinstance(one, Mapping) else {})
            if not {"boxes", "labels"} <= set(target):
                got = list(target) if isinstance(one, Mapping) else type(one).__name__
                raise ValueError(f"targets[{number}]: expected a dictionary with boxes and labels, got {got}")
            boxes = check_boxes(f"targets[{number}]['boxes']", target["boxes"])
            labels = check_labels(f"targets[{number}]['labels']", target["labels"], boxes, self.classes)
            height, width = images.shape[-2:]
            beyond = (boxes[:, :2] < 0).any(1) | (boxes[:, 0] > width) | (boxes[:, 1] > height)
            if bool(beyond.any()):
                raise ValueError(
                    f"targets[{number}]['boxes']: expected centres in the image of {width} x {height} pixels, "
                    f"got {tolist(boxes[beyond][0, :2])}"
                )
            checked.append({"boxes": boxes, "labels": labels})
        return checked

    def _samples(self, like: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return orientation ``[Or,1,1]``, x ``[w]`` and y ``[h,1]`` of the samples of maps, in radians and pixels."""
        angle = self.space.angles.to(like)[:, None, None]
        steps = (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5 for n in like.shape[-2:])
        y, x = (step * (pixels / len(step)) for step, pixels in zip(steps, size))
        return angle, x, y[:, None]

    def _boxes(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the boxes ``[B,5,Or,h,w]`` that each sample of the maps stands for."""
        along, across, length, width, turn = maps[:, self.classes :].unbind(1)
        angle, x, y = self._samples(maps, size)
        cosine, sine = angle.cos() * self.stride, angle.sin() * self.stride
        sides = (self.size * side.clamp(-LARGEST, LARGEST).exp() for side in (length, width))
        place = x + cosine * along - sine * across, y + sine * along + cosine * across
        return torch.stack((*place, *sides, angle + self.space.angle_step * turn), 1)

    def _bells(self, boxes: Tensor, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the target ``[N,Or,h,w]`` of each box ``[N,5]``, whose greatest samples are 1."""
        angle, x, y = self._samples(maps, size)
        centre_x, centre_y, length, width, direction = boxes[..., None, None, None].unbind(1)
        dx, dy, cosine, sine = x - centre_x, y - centre_y, direction.cos(), direction.sin()
        sides = ((POSITION * self.stride) ** 2 + (REACH * side) ** 2 for side in (length, width))
        away = [(s * dx + t * dy).square() for s, t in ((cosine, sine), (-sine, cosine))]
        twist = torch.remainder(angle - direction + math.pi / 2, math.pi) - math.pi / 2
        free = (TURN * self.space.angle_step) ** 2 + (ROUND / (length / width - width / length).clamp_min(1e-3)) ** 2
        bells = torch.exp(-(sum(a / s for a, s in zip(away, sides)) + twist.square() / free) / 2)
        bells = bells / bells.flatten(1).amax(1)[:, None, None, None]
        return torch.where(bells > 1 - 1e-5, 1.0, bells)


def widened(maps: Tensor) -> Tensor:
    """Return maps in a precision that holds places to a fraction of a pixel."""
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps


def distance(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the distance of Hellinger ``[N]`` of the Gaussians with the means and variances of boxes ``[N,5]``.

    It lies in [0, 1]. Every sum has positive terms, so that rounding does not matter for the thinnest boxes.
    """
    (along, across), (other_along, other_across) = (b[:, 2:4].square().div(SPREAD).unbind(1) for b in (boxes, others))
    away, turn = boxes[:, :2] - others[:, :2], boxes[:, 4] - others[:, 4]
    same = (along * other_across + across * other_along) * turn.cos().square()
    crossed = (along * other_along + across * other_across) * turn.sin().square()
    determinant = along * across + other_along * other_across + same + crossed  # of the sum of covariances
    apart = (_seen_from(boxes, away) + _seen_from(others, away)) / (4 * determinant)
    unlike = torch.log(determinant / (4 * (along * across * other_along * other_across).sqrt())) / 2
    return (-torch.expm1(-(apart + unlike).clamp(1e-7, 100.0))).sqrt()


def _seen_from(boxes: Tensor, away: Tensor) -> Tensor:
    """Return the square of vectors ``[N,2]`` in the inverse of boxes' covariances, times their determinants."""
    cosine, sine, (x, y) = boxes[:, 4].cos(), boxes[:, 4].sin(), away.unbind(1)
    length, width = boxes[:, 2:4].square().div(SPREAD).unbind(1)
    return width * (cosine * x + sine * y).square() + length * (cosine * y - sine * x).square()


def detector(
    classes: int = 1,
    in_channels: int = 1,
    *,
    space: SE2 | None = None,
    channels: Sequence[int] = (12, 24),
    layers: int = 2,
    terms: Sequence[str] = TERMS,
    kernel_size: int | Sequence[int] = 5,
    metric: str = "diagonal",
    alpha: float = 0.65,
    size: float = 16.0,
    threshold: float = 0.3,
    overlap: float = 0.3,
    most: int = 100,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> Detector:
    """Build a detector of oriented boxes: its boxes turn with the image, to rounding for quarter turns.

    A lift to half the size, PDE layers on coarser and coarser grids (:class:`pdegcnn.nn.Downsample`), and a linear
    group convolution of their features, which compares them with templates in every orientation. Its responses at each
    position and orientation are the heat of every class and the parameters of a box.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        space: SE(2); None: 8 orientations. Multiples of four make quarter turns exact.
        channels: channels of each level, from the finest grid to the coarsest. Samples of the maps are
            ``2 ** len(channels)`` pixels apart; objects should be at least as far apart.
        layers: number of PDE layers of each level.
        terms: terms of the PDE layers.
        kernel_size: taps of their kernels.
        metric: form of their metrics.
        alpha: their power.
        size: side of a typical object, in pixels.
        threshold: least score of a box.
        overlap: a box is dropped if its intersection over union with a better one of its class is greater.
        most: greatest number of boxes of an image.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`, by default those of the published networks.

    Returns:
        A :class:`Detector`. Its attribute ``network`` computes the maps and can be compiled and exported.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range.

    Example:
        >>> import torch, pdegcnn as pg
        >>> model = pg.models.detector(classes=2, channels=(4, 4), layers=1).eval()
        >>> model.network(torch.rand(1, 1, 32, 24)).shape
        torch.Size([1, 7, 8, 8, 6])
    """
    group: SE2 = _checks.kind("space", SE2(8) if space is None else space, SE2, "SE2")
    widths = _checks.widths("channels", channels, 1)
    _checks.positive_int("classes", classes)
    given = {"kernel_size": kernel_size, "metric": metric, "alpha": alpha, **options}
    own: dict[str, Any] = {"terms": terms, **as_published(group, terms, USUAL, given)}
    network = _network(group, in_channels, widths, classes, layers, {"device": device, "dtype": dtype}, own)
    ways: dict[str, Any] = {"size": size, "threshold": threshold, "overlap": overlap, "most": most}
    return Detector(network, group, classes, stride=2 ** len(widths), **ways)


def _network(
    space: SE2,
    in_channels: int,
    widths: Sequence[int],
    classes: int,
    layers: int,
    factory: dict[str, Any],
    own: dict[str, Any],
) -> nn.Sequential:
    """Build the layers of :func:`detector`."""
    before = widths[0]
    lift = Lift(space, in_channels, before, 7, stride=2, **factory)
    stack: list[nn.Module] = [lift, BatchNorm(before, space, **factory)]
    for level, width in enumerate(widths):
        stack += [Downsample(space)] * (level > 0)
        for _ in range(_checks.positive_int("layers", layers)):
            stack.append(Residual(PDELayer(space, before, width, **own, **factory), **factory))
            before = width
    stack += [
        GroupConv(space, before, before, 3, bias=False, **factory),
        BatchNorm(before, space, **factory),
        nn.ReLU(),
    ]
    head = ChannelLinear(before, classes + 5, **factory)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    nn.init.constant_(head.bias[:classes], PRIOR)
    return nn.Sequential(*stack, head)
