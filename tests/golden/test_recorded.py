"""Functions, layers and networks keep the values recorded at an earlier revision; see ``recorded.py``."""

import numpy as np
import pytest
import torch

from .recorded import FILE, cases, summary


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_values_and_gradients_are_those_recorded():
    """Up to rounding, which other processors and numbers of threads change; large next to it, small next to a fault."""
    with np.load(FILE) as recorded:
        made = cases()
        assert set(made) == set(recorded.files)
        for name, run in made.items():
            expected, found = recorded[name], summary(run())
            scale = 1e-12 + np.abs(expected[:, :1])
            assert found.shape == expected.shape, name
            assert np.abs((found - expected) / scale).max() < 1e-9, name
