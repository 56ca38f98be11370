"""Periodic discrete wavelet transforms along the space axes."""

from pdegcnn.ops.wavelet.reference import analyse, haar, haar_back, interleave, synthesise

__all__ = ["analyse", "haar", "haar_back", "interleave", "synthesise"]
