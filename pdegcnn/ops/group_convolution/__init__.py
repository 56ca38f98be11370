"""Linear group convolution of signals [B,C,Or,H,W] with turned kernels."""

from pdegcnn.ops.group_convolution.reference import group_convolution

__all__ = ["group_convolution"]
