"""Convert to and from the tensors of other libraries, which are imported only when used.

``interop.escnn`` needs escnn for its own objects only. Limits of that library: it needs ``numpy<2``, so Python 3.12 at
most, and, through py3nj, a Fortran compiler, which planar fields do not use: ``pip install --no-deps escnn==1.0.11``
beside lie-learn, pymanopt, joblib, autograd and requests is enough, in an environment of its own (``make escnn`` builds
the one that our tests run in). Only rotation groups ``rot2dOnR2(N)`` with regular fields correspond to
:class:`~pdegcnn.SE2`; reflections, irreps and quotient fields have no counterpart there.
"""

from pdegcnn.interop import e3nn, escnn, xarray

__all__ = ["e3nn", "escnn", "xarray"]
