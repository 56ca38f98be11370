"""The weighted norm: its formula, derivatives, what torch asks of an operator, and threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.export import operators
from pdegcnn.ops import backend as registry
from pdegcnn.ops.weighted_norm import custom_op, weighted_norm

D = torch.float64
BACKENDS = registry.available("weighted_norm")


def arguments(even: bool, shape: tuple[int, ...] = (2, 3, 2, 4), dtype: torch.dtype = D) -> tuple[Tensor, ...]:
    """Signals, weights of mean one, scales and shifts."""
    torch.manual_seed(0)
    weights = torch.rand(shape[-1:], dtype=dtype) + 0.5
    weights = torch.ones((), dtype=dtype) if even else weights / weights.mean()
    u = torch.randn(shape, dtype=dtype) + 3
    return u, weights, torch.rand(shape[1], dtype=dtype) + 0.5, torch.randn(shape[1], dtype=dtype)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_have_the_moments_asked_for(backend: str, even: bool) -> None:
    u, weights, scale, shift = arguments(even, (3, 4, 2, 301))
    out, mean, variance = weighted_norm(u, weights, scale, shift, 1e-9, backend)
    axes = (0, 2, 3)
    torch.testing.assert_close((weights * u).mean(axes), mean)
    torch.testing.assert_close((weights * (u - mean.view(-1, 1, 1)) ** 2).mean(axes), variance)
    torch.testing.assert_close((weights * out).mean(axes), shift)
    deviation = out - shift.view(-1, 1, 1)
    torch.testing.assert_close((weights * deviation**2).mean(axes).sqrt(), scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives(backend: str, even: bool) -> None:
    u, weights, scale, shift = arguments(even)
    leaves = [x.requires_grad_() for x in (u, scale, shift)]

    def function(u: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return weighted_norm(u, weights, scale, shift, 1e-3, backend)[0]

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_opcheck(backend: str, even: bool) -> None:
    u, weights, scale, shift = arguments(even)
    leaves = [x.requires_grad_() for x in (u, scale, shift)]
    given = leaves[0], weights, *leaves[1:], 1e-5, backend
    torch.library.opcheck(custom_op.weighted_norm, given)
    with torch.no_grad():
        _, mean, variance = custom_op.weighted_norm(*given)
    back = torch.ones_like(u), u, weights, scale, mean, variance, 1e-5, backend
    torch.library.opcheck(custom_op.weighted_norm_backward, back)


def test_plain_torch_of_exports_agrees() -> None:
    u, weights, scale, shift = arguments(False)
    wanted = weighted_norm(u, weights, scale, shift)
    torch.testing.assert_close(operators.weighted_norm(u, weights, scale, shift, 1e-5, "numba"), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_batch_norm_is_that_of_torch(dtype: torch.dtype) -> None:
    """Values, gradients and running statistics, where points have equal areas."""
    torch.manual_seed(1)
    ours, theirs = pg.nn.BatchNorm(4, pg.SE2(2), dtype=dtype), nn.BatchNorm3d(4, dtype=dtype)
    for _ in range(2):
        u = torch.randn(3, 4, 2, 5, 7, dtype=dtype) + 2
        found = []
        for norm in (ours, theirs):
            x = u.clone().requires_grad_()
            out = norm(x)
            (out**3).sum().backward()
            grads = [leaf.grad for leaf in (x, *norm.parameters())]
            found.append((out, *grads, norm.running_mean, norm.running_var))
        tolerance = 1e-4 if dtype == torch.float32 else 1e-10  # sums of 105 numbers with rounding of the dtype
        torch.testing.assert_close(found[0], found[1], rtol=tolerance, atol=tolerance)


def test_threads_do_not_change_values() -> None:
    u, weights, scale, shift = arguments(False, (3, 5, 2, 40), torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(weighted_norm(u, weights, scale, shift))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"u": torch.zeros(3)}, ValueError, "u: expected a signal"),
        ({"scale": torch.zeros(2, dtype=D)}, ValueError, "scale: expected 3 channels"),
        ({"shift": torch.zeros(3)}, TypeError, "shift: expected"),
        ({"weights": torch.ones(5, dtype=D)}, ValueError, "weights: expected the last axes"),
    ],
)
def test_wrong_arguments(change: dict[str, Tensor], error: type[Exception], text: str) -> None:
    given = dict(zip(("u", "weights", "scale", "shift"), arguments(False))) | change
    with pytest.raises(error, match=text):
        weighted_norm(given["u"], given["weights"], given["scale"], given["shift"])
