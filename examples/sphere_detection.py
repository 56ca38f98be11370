"""Find handwritten digits on the sphere, wherever they are and however large and turned, beside a plain CNN.

A scene is a sphere with one to three digits, like a panorama. In upright scenes they lie between 45 degrees south and
north and stand almost upright; in rotated ones the whole sphere is turned at random. The detector lives on SO(3):
where its heat is greatest are the centre and the direction of a box. The plain CNN sees latitudes and longitudes, has
ten times the parameters, the same outputs, loss and way to read boxes. Prints a table and writes a folder with
checkpoints, numbers and a picture.

    python examples/sphere_detection.py
    python examples/sphere_detection.py --data DIR --seconds 3600   # DIR holds digits as MNIST's IDX files or mnist.npz
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import _plain_cnn
import numpy as np
import sphere_picture
import torch
from _common import add_band, load_or_exit, parameters, parse, parser, table, train, write_folder
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import save_file
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

import pdegcnn as pg
