"""Constant-memory stacks, invertible coarsening, symmetric block-low-rank layers."""

from pdegcnn.reversible.coarsen import CyclicSpaceToDepth, LearnableOrthogonal, Wavelet
from pdegcnn.reversible.stack import ReversibleStack, Telegraph
from pdegcnn.reversible.symmetric import SymmetricConv
from pdegcnn.reversible.symmetric_group import SymmetricGroupConv
from pdegcnn.reversible.transition import Inverse, Transition

__all__ = [
    "CyclicSpaceToDepth",
    "Inverse",
    "LearnableOrthogonal",
    "ReversibleStack",
    "SymmetricConv",
    "SymmetricGroupConv",
    "Telegraph",
    "Transition",
    "Wavelet",
]
