"""Data sets of the examples."""

from pdegcnn_examples.datasets.drawn import drawn_clip, drawn_scene

__all__ = ["drawn_clip", "drawn_scene"]
