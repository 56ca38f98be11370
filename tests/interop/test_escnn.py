"""The exchange with escnn; what needs escnn itself is in ``tests/escnn``, which runs in a separate environment."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import pdegcnn as pg
from pdegcnn.interop.escnn import from_regular, to_regular


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_there_and_back(count: int) -> None:
    u = torch.randn(2, 3, count, 5, 6)
    assert torch.equal(from_regular(to_regular(u), count), u)
    assert torch.equal(to_regular(u)[:, ::count][:, :3], u[:, :, 0])  # the first orientation is the first response


def test_errors_name_what_is_wrong() -> None:
    field = torch.randn(2, 6, 5, 5)
    with pytest.raises(ValueError, match="field: expected a multiple of 4 channels"):
        from_regular(field, 4)
    with pytest.raises(ValueError, match="orientations: expected a positive int"):
        from_regular(field, 0)
    with pytest.raises(TypeError, match="field: expected a torch.Tensor"):
        from_regular([1.0], 4)
    with pytest.raises(ValueError, match="u: expected a tensor of rank 5"):
        to_regular(field)
    kind = SimpleNamespace(representations=[SimpleNamespace(name="irrep_1", size=2)])
    with pytest.raises(ValueError, match="field: expected regular fields of C_4, got"):
        from_regular(SimpleNamespace(type=kind, tensor=field), 4)


def test_missing_escnn_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "escnn", None)
    with pytest.raises(ImportError, match="escnn==1.0.11 and numpy<2"):
        pg.interop.escnn.to_geometric(torch.randn(1, 1, 4, 5, 5))
