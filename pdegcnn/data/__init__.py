"""Small data sets that examples and tests can rely on, and loaders for real ones in a folder of the user's."""

from pdegcnn.data.digits import Digits, Split, rotated_digits, rotated_mnist
from pdegcnn.data.scenes import CAMVID_CLASSES, CAMVID_VOID, Clip, Scenes, SceneSplit, camvid, davis
from pdegcnn.data.sphere_digits import SphericalDigits, SphericalSplit, spherical_digits, spherical_mnist

__all__ = [
    "CAMVID_CLASSES",
    "CAMVID_VOID",
    "Clip",
    "Digits",
    "SceneSplit",
    "Scenes",
    "SphericalDigits",
    "SphericalSplit",
    "Split",
    "camvid",
    "davis",
    "rotated_digits",
    "rotated_mnist",
    "spherical_digits",
    "spherical_mnist",
]
