"""The sphere: grids and exact harmonic transforms."""

from pdegcnn.sphere.grid import SphereGrid as SphereGrid
from pdegcnn.sphere.product import ExactProduct as ExactProduct
from pdegcnn.sphere.product import clebsch_gordan_product as clebsch_gordan_product
from pdegcnn.sphere.product import irreps as irreps
from pdegcnn.sphere.rotation import from_e3nn as from_e3nn
from pdegcnn.sphere.rotation import rotate_coefficients as rotate_coefficients
from pdegcnn.sphere.rotation import to_e3nn as to_e3nn
from pdegcnn.sphere.rotation import wigner_D as wigner_D
from pdegcnn.sphere.rotation import wigner_d as wigner_d
from pdegcnn.sphere.sht import InverseRealSHT as InverseRealSHT
from pdegcnn.sphere.sht import RealSHT as RealSHT
from pdegcnn.sphere.so3 import SO3FFT as SO3FFT
from pdegcnn.sphere.so3 import InverseSO3FFT as InverseSO3FFT
from pdegcnn.sphere.spin import InverseSpinSHT as InverseSpinSHT
from pdegcnn.sphere.spin import SpinSHT as SpinSHT
from pdegcnn.sphere.vector import InverseVectorSHT as InverseVectorSHT
from pdegcnn.sphere.vector import VectorSHT as VectorSHT
from pdegcnn.sphere.vector import curl as curl
from pdegcnn.sphere.vector import divergence as divergence
from pdegcnn.sphere.vector import gradient as gradient
