"""Scores to look at: one self-contained HTML file that shows any row or column of the matrix.

`write_explorer` writes it; `pinnfluence explore` is its command line.
"""

from pinnfluence.explorer.page import write_explorer

__all__ = ["write_explorer"]
