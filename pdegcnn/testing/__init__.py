"""Checks that users can run on their own layers and models."""

from pdegcnn.testing.error import equivariance_error
from pdegcnn.testing.report import Finding, Report, report

__all__ = ["Finding", "Report", "equivariance_error", "report"]
