"""Small data sets that examples and tests can rely on, and loaders for real ones in a folder of the user's."""

from pdegcnn.data.digits import Digits, Split, mnist, rotated_digits, rotated_mnist
from pdegcnn.data.scenes import CAMVID_CLASSES, CAMVID_VOID, Clip, Scenes, SceneSplit, camvid, davis
from pdegcnn.data.sphere_digits import SphericalDigits, SphericalSplit, spherical_digits, spherical_mnist
from pdegcnn.data.sphere_earth import LatLonField, earth_land, earth_temperature, earth_wind
from pdegcnn.data.vessels import Field, Fundus, FundusSplit, drawn_vessels, drive, find_field

__all__ = [
    "CAMVID_CLASSES",
    "CAMVID_VOID",
    "Clip",
    "Digits",
    "Field",
    "Fundus",
    "FundusSplit",
    "LatLonField",
    "SceneSplit",
    "Scenes",
    "SphericalDigits",
    "SphericalSplit",
    "Split",
    "camvid",
    "davis",
    "drawn_vessels",
    "drive",
    "earth_land",
    "earth_temperature",
    "earth_wind",
    "find_field",
    "mnist",
    "rotated_digits",
    "rotated_mnist",
    "spherical_digits",
    "spherical_mnist",
]
