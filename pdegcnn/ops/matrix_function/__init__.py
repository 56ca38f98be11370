"""Fractional exponentials of batched Hermitian matrices."""

from pdegcnn.ops.matrix_function.reference import fractional_exponential

__all__ = ["fractional_exponential"]
