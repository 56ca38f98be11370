"""Modules: lifting, PDE layers, projection, group convolution, normalisation and resizing."""

from pdegcnn.nn.convolution import GroupConv, SphereConv
from pdegcnn.nn.diffusion_shock import DiffusionShock
from pdegcnn.nn.layer import PDELayer
from pdegcnn.nn.lift import LIFTS, GridLift, Lift, MeshLift, SphereLift
from pdegcnn.nn.linear import ChannelLinear
from pdegcnn.nn.nonlinearity import SphereActivation, SphereGated, SphereNormReLU
from pdegcnn.nn.normalization import BatchNorm
from pdegcnn.nn.parameters import LearnableAlpha, MetricParameter
from pdegcnn.nn.pooling import GlobalPool, MaxPool
from pdegcnn.nn.project import Project
from pdegcnn.nn.resample import Resample, SpectralResample
from pdegcnn.nn.terms import TERMS, Convection, ConvectionDiffusion, Diffusion, Morphology

__all__ = [
    "LIFTS",
    "TERMS",
    "BatchNorm",
    "ChannelLinear",
    "Convection",
    "ConvectionDiffusion",
    "Diffusion",
    "DiffusionShock",
    "GlobalPool",
    "GridLift",
    "GroupConv",
    "LearnableAlpha",
    "Lift",
    "MaxPool",
    "MeshLift",
    "MetricParameter",
    "Morphology",
    "PDELayer",
    "Project",
    "Resample",
    "SphereActivation",
    "SphereConv",
    "SphereGated",
    "SphereLift",
    "SphereNormReLU",
    "SpectralResample",
]
