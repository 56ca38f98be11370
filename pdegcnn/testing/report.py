"""Search for the layer of a model that breaks equivariance, and the cause."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._modules import eval_mode
from pdegcnn.nn.layer import PDELayer
from pdegcnn.spaces import Mesh, Space
from pdegcnn.testing.call import Call, copied
from pdegcnn.testing.diagnostics import NORMS, UNKNOWN, diagnose, plain_mean, with_random_statistics
from pdegcnn.testing.inputs import positions_among
from pdegcnn.testing.motion import (
    Motion,
    ReportedMotion,
    RotationMotion,
    choose_motion,
    first_tensor,
    spaces_of,
    tensors,
)
from pdegcnn.testing.remaining import remaining_error
from pdegcnn.testing.remedies import Remedy, remedies

if TYPE_CHECKING:
    from typing_extensions import Unpack

WORST = 3
"""Number of layers, those that contribute most, for which arguments with a lower error are searched."""
ADDS_UP = "sampling: the errors of its parts add up; see what remains after each"
STATISTICS = 1e-3
"""Greatest error of a normalisation in training, whose means are exact for band-limited signals."""


@dataclass(frozen=True)
class Finding:
    """One call of one layer in a :class:`Report`.

    Attributes:
        name: the layer's name in the model, ``"(model)"`` for the model itself.
        kind: its class.
        error: relative error of the layer alone, on the input that it received; NaN if it cannot be measured.
        breaks: whether this layer breaks the symmetry.
        cause: short name of the cause, a key of ``pdegcnn.testing.diagnostics.CAUSES``; empty unless ``breaks``.
        advice: the cause in words, and what to use instead.
        remaining: error of the model if this layer and all before it were exact; the decrease from the layer before is
            this layer's contribution. NaN if it is not measured: in layers whose parts are measured, on meshes, and in
            models that commute.
        remedies: for the three layers that contribute most, arguments that lower the layer's error, with error and
            time.
    """

    name: str
    kind: str
    error: float
    breaks: bool
    cause: str = ""
    advice: str = ""
    remaining: float = float("nan")
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True)
class Report:
    """The table that :func:`report` returns; ``print(report)`` shows it.

    Attributes:
        error: relative error of the whole model.
        tolerance: greatest error of a layer that counts as equivariant.
        motion: the motion of the check.
        findings: one for each call of each layer, in the order of the calls; a layer comes after its parts.
        warnings: unusual properties of the input or the space, in words.
    """

    error: float
    tolerance: float
    motion: str
    findings: tuple[Finding, ...] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def culprits(self) -> tuple[Finding, ...]:
        """The layers that break the symmetry."""
        return tuple(f for f in self.findings if f.breaks)

    @property
    def ok(self) -> bool:
        """Whether the model commutes with the motion and no layer breaks the symmetry."""
        return self.error <= self.tolerance and not self.culprits

    def __str__(self) -> str:
        width = max([5, *(len(f.name) for f in self.findings)])
        kinds = max([4, *(len(f.kind) for f in self.findings)])
        verdict = "equivariant" if self.ok else "NOT equivariant"
        lines = [f"{verdict} under {self.motion}: error {self.error:.1e}, tolerance {self.tolerance:g}"]
        lines.append(f"  {'layer':{width}}  {'kind':{kinds}}  {'error':>7}  {'remains':>7}  cause")
        for f in self.findings:
            if f.error != f.error and not f.breaks:  # not a signal on a known space
                continue
            mark = "!" if f.breaks else " "
            error = "      ?" if f.error != f.error else f"{f.error:7.1e}"
            after = " " * 7 if f.remaining != f.remaining else f"{f.remaining:7.1e}"
            lines.append(f"{mark} {f.name:{width}}  {f.kind:{kinds}}  {error}  {after}  {f.advice}".rstrip())
            lines += [f"    {remedy}" for remedy in f.remedies]
        lines += [f"warning: {text}" for text in self.warnings]
        return "\n".join(lines)


def report(
    model: Callable[..., Any],
    x: Any,
    space: Space,
    *,
    tolerance: float | None = None,
    **motion: Unpack[ReportedMotion],
) -> Report:
    """Find the layers that break equivariance, and the causes.

    The model runs once. Then every layer runs alone on the input it received, moved, and its output is compared with
    the moved output. A layer is reported if its own error is too large, no part of it is reported, and the error
    reaches the model's output. Normalisations are also checked with training statistics and random scales, because
    their faults show only after training. If the model's error exceeds a thousandth, the report also says how much of
    it remains after each layer, and which arguments would lower the error of the three largest contributors, at which
    cost.

    Args:
        model: a module, or a function (then the report has one line). It is left unchanged.
        x: its input; a tuple for several arguments, such as ``(features, mesh)``.
        space: the space whose motions should commute with the model; layers may have other spaces, such as coarser
            grids.
        tolerance: greatest error of an equivariant layer; None: 1e-3 if samples move to samples and 0.15 if they are
            interpolated (the sphere, angles between pixels).
        **motion: as in :func:`equivariance_error`; on a mesh ``symmetry=`` the image of each vertex, or ``gauge=``
            angles by which reference directions turn. Default: 90 degrees (180 on images that are not square), a
            rotation in general position, and random reference directions.

    Returns:
        A :class:`Report`; ``print`` it.

    Raises:
        TypeError: if ``space`` is not a space, or the inputs have no tensor.
        ValueError: for a motion that the space does not support, or an input that does not fit the model.
    """
    _checks.kind("space", space, Space, "a space such as pdegcnn.SE2(8)")
    if tolerance is not None:
        _checks.interval("tolerance", tolerance, 0.0, float("inf"))
    args = x if isinstance(x, tuple) else (x,)
    unusual = tuple(_unusual(first_tensor(args), space))
    chosen = choose_motion(space, spaces_of(model, space), args, motion)
    limit = chosen.tolerance if tolerance is None else tolerance
    unusual += tuple(positions_among(args, space))
    with eval_mode(model), torch.no_grad():
        args = chosen.move(args, chosen.resolve)
        records = _trace(model, args)
        findings = _with_remedies(records, chosen, _judge(records, chosen, limit))
        trained = with_random_statistics(model)
        if trained is not model:
            later = _judge(_trace(trained, args), chosen, limit)
            findings = [_latent(a, b) if b.breaks and not a.breaks else a for a, b in zip(findings, later)]
    return Report(findings[-1].error, limit, str(chosen), tuple(findings), unusual)


def _unusual(x: Tensor, space: Space) -> Iterator[str]:
    """Find what is valid but rarely intended."""
    if x.numel() and float(x.min()) >= 0 and 32 < float(x.max()) <= 255:
        yield f"the input has values from {float(x.min()):g} to {float(x.max()):g}, as images of 8 bits: x / 255"
    if space.has_orientations and space.base_shape is None and space.orientations % 4:
        yield (
            f"a quarter turn does not map the {space.orientations} orientations of {space} to themselves; multiples of "
            "4 commute with it exactly"
        )


@dataclass
class _Record:
    name: str
    module: Any
    args: tuple[Any, ...]
    names: tuple[str, ...]
    """Keywords of the last arguments."""
    output: Any
    parts: list[int]
    """Records of the calls made inside this one."""
    folded: bool
    """Whether the input is a lifted signal whose channels and orientations were joined to one axis."""


def _trace(model: Any, args: tuple[Any, ...]) -> list[_Record]:
    """Run the model and note every call, parts before wholes, the model last."""
    if not isinstance(model, nn.Module):
        return [_Record("(model)", model, args, (), model(*copied(args)), [], False)]
    records: list[_Record] = []
    stack: list[tuple[Any, list[int], bool]] = []
    lifted: set[tuple[int, int]] = set()
    count: dict[str, int] = {}

    def before(_: nn.Module, given: Any, kwargs: Any) -> None:
        known = {_place(u) for u in tensors([given, kwargs]) if u.ndim == 4} & lifted
        stack.append((copied((given, kwargs)), [], bool(known)))

    def after(name: str) -> Any:
        def note(module: nn.Module, _: Any, __: Any, output: Any) -> None:
            (given, kwargs), parts, folded = stack.pop()
            folded = folded or any(u.ndim == 4 and _place(u) in lifted for u in tensors(output))
            lifted.update(_place(u) for u in tensors(output) if u.ndim == 5 or (folded and u.ndim == 4))
            count[name] = count.get(name, 0) + 1
            shown = name if count[name] == 1 else f"{name} (call {count[name]})"
            every = (*given, *kwargs.values())
            records.append(_Record(shown, module, every, tuple(kwargs), copied(output), parts, folded))
            if stack:
                stack[-1][1].append(len(records) - 1)

        return note

    handles = []
    try:
        for name, m in model.named_modules():
            if type(m).__module__.startswith("pdegcnn.pde."):  # parts of a term, which is reported as a whole
                continue
            handles.append(m.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(m.register_forward_hook(after(name or "(model)"), with_kwargs=True))
        model(*copied(args))
    finally:
        for handle in handles:
            handle.remove()
    return records


def _place(u: Tensor) -> tuple[int, int]:
    return u.untyped_storage().data_ptr(), u.numel()


def _call_of(record: _Record, motion: Motion) -> Call:
    motion = motion.of_folded() if record.folded else motion
    return Call(record.module, record.names, record.args, record.output, motion)


def _judge(records: list[_Record], motion: Motion, limit: float) -> list[Finding]:
    """Return errors of all calls, and the cause: a call whose error reaches the output and is not that of its parts."""
    calls = [_call_of(r, motion) for r in records]
    errors = [c.error() for c in calls]
    blamed: dict[int, tuple[float, str, str]] = {}

    def visit(i: int, small: float, large: float) -> bool:
        """Blame call i or its parts, given the least errors of all that contain it; return whether any is to blame.

        A known fault counts however little of it is left in the output, an unknown one only if too much is.
        """
        small, large = min(small, _number(errors[i])), min(large, _number(errors[i]))
        inside = sum(visit(part, small, large) for part in records[i].parts) > 0
        latent, under = _latent_error(calls[i])
        if latent > STATISTICS and not inside:
            blamed[i] = (latent, *diagnose(replace(calls[i], motion=under)))
        elif small > STATISTICS and not errors[i] <= limit and not inside:
            name, said = diagnose(calls[i])
            if name not in UNKNOWN or (large > limit and errors[i] == errors[i]):
                blamed[i] = (errors[i], name, said)
        elif not records[i].parts and (said := plain_mean(calls[i])):
            blamed[i] = (errors[i], "plain mean", said)
        return inside or i in blamed

    visit(len(records) - 1, math.inf, math.inf)
    if not errors[-1] <= limit and not blamed:
        blamed[len(records) - 1] = (errors[-1], *diagnose(calls[-1]))
    rows = []
    for i, r in enumerate(records):
        if next(tensors(list(r.args)), None) is None:
            continue
        error, cause, advice = blamed.get(i, (errors[i], "", ""))
        rows.append(
            Finding(r.name, getattr(r.module, "__name__", type(r.module).__name__), error, i in blamed, cause, advice)
        )
    return rows


def _with_remedies(records: list[_Record], motion: Motion, findings: list[Finding]) -> list[Finding]:
    """Add to the findings of layers what remains after them, and to the worst what lowers their error."""
    if not findings[-1].error > STATISTICS or len(records) < 2:
        return findings
    shown = [i for i, r in enumerate(records) if next(tensors(list(r.args)), None) is not None]
    rows = dict(zip(shown, findings))
    before, contributed = findings[-1].error, {}
    for i in _units(records, len(records) - 1):
        number = sum(r.module is records[i].module for r in records[: i + 1])
        left = remaining_error(_call_of(records[-1], motion), _call_of(records[i], motion), number)
        if i in rows and left == left:
            rows[i], contributed[i], before = replace(rows[i], remaining=left), before - left, left
    for i in sorted(contributed, key=lambda i: -contributed[i])[:WORST]:
        if rows[i].error > STATISTICS:
            rows[i] = replace(rows[i], remedies=remedies(_call_of(records[i], motion)))
    last = max(rows)
    if rows[last].cause == "own code" and not motion.exact and contributed and before < STATISTICS:
        rows[last] = replace(rows[last], cause="sampling", advice=ADDS_UP)
    return list(rows.values())


def _units(records: list[_Record], i: int) -> Iterator[int]:
    """Return the calls inside call i, in order: the library's layers as a whole, except for the terms of a PDE layer.

    Of other modules those that have no parts.
    """
    module = records[i].module
    whole = type(module).__module__.startswith("pdegcnn.nn.") and not isinstance(module, PDELayer)
    if records[i].parts and not whole:
        for part in records[i].parts:
            yield from _units(records, part)
    elif i < len(records) - 1:
        yield i


def _latent(now: Finding, later: Finding) -> Finding:
    return replace(later, remaining=now.remaining, remedies=now.remedies)


def _number(error: float) -> float:
    return error if error == error else math.inf


def _latent_error(call: Call) -> tuple[float, Motion]:
    """Return the error that the model's output does not show yet, and the motion it is one of.

    That of a normalisation in training, whose statistics are those of the batch; on a mesh that of a layer which knows
    nothing of the mesh, under another numbering of the vertices.
    """
    motion, other = call.motion, call.motion.of_pointwise()
    error = 0.0
    if isinstance(call.module, NORMS) and (motion.exact or isinstance(motion, RotationMotion)):
        with suppress(ValueError):  # a batch of single values has no statistics
            error = replace(call, module=copy.deepcopy(call.module).train()).error()
    if other is not None and not error > STATISTICS and not _uses_a_mesh(call):
        return replace(call, motion=other).error(), other
    return error, motion


def _uses_a_mesh(call: Call) -> bool:
    inside = call.module.modules() if isinstance(call.module, nn.Module) else [call.module]
    held = [value for m in inside for value in vars(m).values()] + list(call.args)
    return any(isinstance(value, Mesh) for value in held) or not isinstance(call.module, nn.Module)
