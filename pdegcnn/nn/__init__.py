"""Modules: lifts, PDE layers, projections, group convolutions, normalisation, resampling and blocks."""

from pdegcnn.nn.convolution import GroupConv, SphereConv
from pdegcnn.nn.diffusion_shock import DiffusionShock
from pdegcnn.nn.dropout import FieldDropout
from pdegcnn.nn.layer import PDELayer
from pdegcnn.nn.lift import LIFTS, GridLift, Lift, MeshLift, SphereLift, VolumeLift
from pdegcnn.nn.linear import ChannelLinear
from pdegcnn.nn.loss import AreaWeightedLoss
from pdegcnn.nn.nonlinearity import SphereActivation, SphereGated, SphereNormReLU
from pdegcnn.nn.normalization import BatchNorm
from pdegcnn.nn.parameters import LearnableAlpha, LearnableTemperature, MetricParameter
from pdegcnn.nn.pooling import GlobalPool, MaxPool
from pdegcnn.nn.project import Project
from pdegcnn.nn.resample import Downsample, Resample, SpectralResample, Upsample
from pdegcnn.nn.residual import Residual
from pdegcnn.nn.terms import TERMS, Convection, ConvectionDiffusion, Diffusion, Morphology

__all__ = [
    "LIFTS",
    "TERMS",
    "AreaWeightedLoss",
    "BatchNorm",
    "ChannelLinear",
    "Convection",
    "ConvectionDiffusion",
    "Diffusion",
    "DiffusionShock",
    "Downsample",
    "FieldDropout",
    "GlobalPool",
    "GridLift",
    "GroupConv",
    "LearnableAlpha",
    "LearnableTemperature",
    "Lift",
    "MaxPool",
    "MeshLift",
    "MetricParameter",
    "Morphology",
    "PDELayer",
    "Project",
    "Resample",
    "Residual",
    "SphereActivation",
    "SphereConv",
    "SphereGated",
    "SphereLift",
    "SphereNormReLU",
    "SpectralResample",
    "Upsample",
    "VolumeLift",
]
