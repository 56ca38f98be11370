"""Bad input: an error that names the argument, what was expected and what came; its text is that of the table."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import pdegcnn as pg

from ..cases import CASES, Case, W, forward_arguments
from ..error_texts import CALLS, ROWS, Call, Row

F = pg.functional
SPACE = pg.SE2(8)
BY_NAME = {case.name: case for case in CASES}


def changed(good: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Good arguments with others in their place; a function changes the good one."""
    made = {n: v(good[n]) if isinstance(v, types.FunctionType) else v for n, v in change.items()}
    return {**good, **made}


def call_with(case: Case, change: Mapping[str, Any]) -> None:
    """Build with changed arguments; call what was built, if the change names inputs of the call."""
    parameters = inspect.signature(case.make).parameters
    if set(change) <= set(parameters):
        replace(case, arguments=changed(case.arguments, change)).build()
        return
    layer = case.build()
    inputs = {n: v for n, v in change.items() if n in forward_arguments(layer) and n not in parameters}
    arguments = {n: v for n, v in change.items() if n not in inputs}
    named = changed(case.named_inputs(layer), inputs)
    layer = replace(case, arguments=changed(case.arguments, arguments)).build()
    if inputs:
        layer(*named.values()) if isinstance(layer, nn.Sequential) else layer(**named)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {', '.join(row[1][0])}")
def test_errors_name_argument_expectation_and_value(row: tuple[str, Row]) -> None:
    name, (change, error, text) = row
    with pytest.raises(error, match=text):
        call_with(BY_NAME[name], change)


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row[2][:40])
def test_errors_of_what_has_no_case(row: Call) -> None:
    call, error, text = row
    with pytest.raises(error, match=text):
        call()


def test_sizes_smaller_than_the_kernel_have_a_meaning() -> None:
    u = torch.randn(1, 2, 8, 2, 3)
    for term in (F.dilation, F.erosion, F.diffusion):
        assert term(u, SPACE, W, kernel_size=7).isfinite().all()
    assert F.convection(u, SPACE, 5 * W).isfinite().all()
    assert pg.nn.Lift(SPACE, 2, 1, kernel_size=7)(u[:, :, 0]).shape == (1, 1, 8, 2, 3)
