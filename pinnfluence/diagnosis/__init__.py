"""How wrong is a network, where, and why: answers without a reference."""

from pinnfluence.diagnosis.findings import Findings, QuantityError, TermLoss
from pinnfluence.diagnosis.report import Report, diagnose

__all__ = ["Findings", "QuantityError", "Report", "TermLoss", "diagnose"]
