"""How wrong is a network, where, and why: answers without a reference."""

from pinnfluence.diagnosis.report import OutputError, Report, TermLoss, diagnose

__all__ = ["OutputError", "Report", "TermLoss", "diagnose"]
