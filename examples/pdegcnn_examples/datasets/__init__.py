"""Small data sets that examples and tests can rely on, and loaders for real ones in a folder of the user's."""

from pdegcnn._images import read_picture
from pdegcnn_examples.datasets._images import read_labels
from pdegcnn_examples.datasets.boxes import Boxed, drawn_ships, nuclei_boxes
from pdegcnn_examples.datasets.depth import Depths, DepthSplit, motorcycle, nyu, rooms
from pdegcnn_examples.datasets.digits import Digits, Split, mnist, rotated_digits, rotated_mnist, upright_digits
from pdegcnn_examples.datasets.drawn import drawn_clip, drawn_scene
from pdegcnn_examples.datasets.planets import MONTHS, Planets, made_up_planets
from pdegcnn_examples.datasets.restoration import Pictures, drawn_lines, shipped_pictures
from pdegcnn_examples.datasets.scenes import CAMVID_CLASSES, CAMVID_VOID, Clip, Scenes, SceneSplit, camvid, davis
from pdegcnn_examples.datasets.sphere_digits import SphericalDigits, SphericalSplit, spherical_digits, spherical_mnist
from pdegcnn_examples.datasets.sphere_earth import LatLonField, earth_land, earth_temperature, earth_wind
from pdegcnn_examples.datasets.textures import TEXTURES, Textures, textures
from pdegcnn_examples.datasets.vessels import Fundus, FundusSplit, drawn_vessels, drive
from pdegcnn_examples.datasets.volumes import LabelledVolume, drawn_tubes, nuclei

__all__ = [
    "CAMVID_CLASSES",
    "CAMVID_VOID",
    "MONTHS",
    "Boxed",
    "Clip",
    "DepthSplit",
    "Depths",
    "Digits",
    "Fundus",
    "FundusSplit",
    "LabelledVolume",
    "LatLonField",
    "Pictures",
    "Planets",
    "SceneSplit",
    "Scenes",
    "SphericalDigits",
    "SphericalSplit",
    "Split",
    "TEXTURES",
    "Textures",
    "camvid",
    "davis",
    "drawn_clip",
    "drawn_lines",
    "drawn_scene",
    "drawn_ships",
    "drawn_tubes",
    "drawn_vessels",
    "drive",
    "earth_land",
    "earth_temperature",
    "earth_wind",
    "made_up_planets",
    "mnist",
    "motorcycle",
    "nuclei",
    "nuclei_boxes",
    "nyu",
    "read_labels",
    "read_picture",
    "rooms",
    "rotated_digits",
    "rotated_mnist",
    "shipped_pictures",
    "spherical_digits",
    "spherical_mnist",
    "textures",
    "upright_digits",
]
