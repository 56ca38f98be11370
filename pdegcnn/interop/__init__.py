"""Conversion to and from the tensors of other libraries, which are imported only when used.

:mod:`pdegcnn.interop.escnn` needs escnn only for its own objects. That library requires ``numpy<2``, so Python 3.12 at
most, and a Fortran compiler for py3nj, which planar fields do not use. Without the compiler install
``pip install --no-deps escnn==1.0.11`` beside lie-learn, pymanopt, joblib, autograd and requests in a separate
environment (``make escnn`` builds the one of our tests). Only rotation groups ``rot2dOnR2(N)`` with regular fields
correspond to :class:`~pdegcnn.SE2`; reflections, irreps and quotient fields do not.
"""

from pdegcnn.interop import e3nn, escnn, xarray

__all__ = ["e3nn", "escnn", "xarray"]
