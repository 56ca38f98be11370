"""Sampling of signals [B,C,Or,H,W] at shifts that depend on channel and orientation."""

from pdegcnn.ops.convection.reference import convection

__all__ = ["convection"]
