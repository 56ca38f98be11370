"""Grids on the sphere and exact harmonic transforms of scalar, spin and vector fields and of signals on SO(3)."""

from pdegcnn.sphere.grid import SphereGrid
from pdegcnn.sphere.latlon import area_mean, grid_of, regrid, to_latlon
from pdegcnn.sphere.product import ExactProduct, clebsch_gordan_product, irreps
from pdegcnn.sphere.rotation import from_e3nn, rotate_coefficients, to_e3nn, wigner_D, wigner_d
from pdegcnn.sphere.sht import InverseRealSHT, RealSHT
from pdegcnn.sphere.so3 import SO3FFT, InverseSO3FFT
from pdegcnn.sphere.spin import InverseSpinSHT, SpinSHT
from pdegcnn.sphere.vector import InverseVectorSHT, VectorSHT, curl, divergence, gradient

__all__ = [
    "SphereGrid",
    "area_mean",
    "grid_of",
    "regrid",
    "to_latlon",
    "ExactProduct",
    "clebsch_gordan_product",
    "irreps",
    "from_e3nn",
    "rotate_coefficients",
    "to_e3nn",
    "wigner_D",
    "wigner_d",
    "InverseRealSHT",
    "RealSHT",
    "SO3FFT",
    "InverseSO3FFT",
    "InverseSpinSHT",
    "SpinSHT",
    "InverseVectorSHT",
    "VectorSHT",
    "curl",
    "divergence",
    "gradient",
]
