"""Reversible stacks of constant memory, invertible coarsening, symmetric block-low-rank layers, memory estimates."""

from pdegcnn.reversible.coarsen import CyclicSpaceToDepth, LearnableOrthogonal, Wavelet
from pdegcnn.reversible.memory import MemoryEstimate, memory_estimate
from pdegcnn.reversible.normalized import NormalizedSymmetricConv
from pdegcnn.reversible.stability import StabilityReport, depth_smoothness, safe_initialise, stability_report
from pdegcnn.reversible.stack import ReversibleStack, Telegraph
from pdegcnn.reversible.symmetric import SymmetricConv
from pdegcnn.reversible.symmetric_group import SymmetricGroupConv
from pdegcnn.reversible.transition import Inverse, Transition

__all__ = [
    "CyclicSpaceToDepth",
    "Inverse",
    "LearnableOrthogonal",
    "MemoryEstimate",
    "NormalizedSymmetricConv",
    "ReversibleStack",
    "StabilityReport",
    "SymmetricConv",
    "SymmetricGroupConv",
    "Telegraph",
    "Transition",
    "Wavelet",
    "depth_smoothness",
    "memory_estimate",
    "safe_initialise",
    "stability_report",
]
