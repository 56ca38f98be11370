"""Modules: lifting, PDE layers, projection, group convolution, normalisation and resizing."""

from pdegcnn.nn.group_convolution import GroupConv
from pdegcnn.nn.layer import PDELayer
from pdegcnn.nn.lift import LIFTS, Lift, GridLift
from pdegcnn.nn.mesh import MeshLift, MeshProject
from pdegcnn.nn.mixing import BatchNorm, ChannelLinear
from pdegcnn.nn.parameters import LearnableAlpha, MetricParameter
from pdegcnn.nn.project import PROJECTS, GridProject, Project
from pdegcnn.nn.resample import MaxPool, Resample
from pdegcnn.nn.spherical import GlobalPool, SpectralResample, SphereActivation, SphereLift, SphereProject
from pdegcnn.nn.spherical_convolution import SphereConv
from pdegcnn.nn.spherical_norm import SphereGated, SphereNormReLU
from pdegcnn.nn.terms import TERMS, Convection, ConvectionDiffusion, Diffusion, Morphology
from pdegcnn.spaces import Mesh, RotationSpace

LIFTS |= {RotationSpace: SphereLift, Mesh: MeshLift}
PROJECTS |= {RotationSpace: SphereProject, Mesh: MeshProject}

__all__ = [
    "LIFTS",
    "PROJECTS",
    "TERMS",
    "BatchNorm",
    "ChannelLinear",
    "Convection",
    "ConvectionDiffusion",
    "Diffusion",
    "GroupConv",
    "GlobalPool",
    "Lift",
    "MaxPool",
    "MeshLift",
    "MeshProject",
    "MetricParameter",
    "Morphology",
    "PDELayer",
    "GridLift",
    "GridProject",
    "LearnableAlpha",
    "Project",
    "Resample",
    "SphereActivation",
    "SphereConv",
    "SphereGated",
    "SphereLift",
    "SphereNormReLU",
    "SphereProject",
    "SpectralResample",
]
