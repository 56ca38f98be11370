"""Fractional powers and their exponentials of batches of Hermitian matrices."""

from pdegcnn.ops.matrix_function.reference import fractional_exponential, fractional_power

__all__ = ["fractional_exponential", "fractional_power"]
