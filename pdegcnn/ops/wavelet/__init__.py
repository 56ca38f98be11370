"""Periodic discrete wavelet transforms along the space axes."""

from pdegcnn.ops.wavelet.reference import analyse, synthesise

__all__ = ["analyse", "synthesise"]
