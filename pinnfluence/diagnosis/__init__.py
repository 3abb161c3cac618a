"""How wrong is a network, where, and why: answers without a reference."""

from pinnfluence.diagnosis.report import QuantityError, Report, TermLoss, diagnose

__all__ = ["QuantityError", "Report", "TermLoss", "diagnose"]
