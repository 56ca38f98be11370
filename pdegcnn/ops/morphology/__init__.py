"""Max-plus and min-plus convolution of signals [B,C,Or,H,W] with turned kernels [C,Or,KO,KH,KW]."""

from pdegcnn.ops.morphology.reference import morphological_convolution

__all__ = ["morphological_convolution"]
