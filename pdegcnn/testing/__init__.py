"""Tools that check the equivariance of layers and models."""

from pdegcnn.testing.error import equivariance_error
from pdegcnn.testing.remedies import Remedy
from pdegcnn.testing.report import Finding, Report, report

__all__ = ["Finding", "Remedy", "Report", "equivariance_error", "report"]
