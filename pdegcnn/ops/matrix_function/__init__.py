"""Fractional powers of batched Hermitian matrices, and their exponentials."""

from pdegcnn.ops.matrix_function.reference import fractional_exponential, fractional_power

__all__ = ["fractional_exponential", "fractional_power"]
