"""How the inverse curvature is approximated: two named recipes and their settings."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any

from pinnfluence.curvature.operators import OPERATORS
from pinnfluence.errors import InputError

WEIGHTINGS = ("uniform", "training")
FULL = "full"
AUTO = "auto"


@dataclass(frozen=True)
class Recipe:
    """How the inverse curvature ``(M + damping I)^-1`` is approximated.

    Args:
        base: the named recipe that this one is, or from which it was changed.
        curvature: M, a name in ``OPERATORS``: ``hessian`` of the loss
            ``sum_i sum_k w_ik r_k(z_i)^2``, or ``gauss-newton``, ``2 sum w grad r grad r^T``, ...
        weighting: ``uniform``, w_ik = 1; or ``training``, w_ik = c_k / |S_k|, with the loss weights
            c_k and S_k the points on which the term acts: a mean per term, as DeepXDE minimises.
        rank: number of largest eigenpairs that are kept, or ``full``.
        damping: number that is added to the diagonal, or ``auto``, see ``curvature.damping``.
        threshold: least eigenvalue of ``M + damping I`` that is kept; for a number as rank.
        leverage: whether a point that is removed takes its part of the curvature along; for
            ``gauss-newton`` at full rank, see ``influence.leverage``.

    Two have names. ``PAPER`` (arXiv 2409.08958): the Hessian of the plain sum of squared residuals,
    its 50 largest eigenpairs. ``GAUSS_NEWTON``: the damped Gauss-Newton matrix of the loss that was
    trained, at full rank.

    Raises:
        InputError: unknown words, a rank below 1, a negative or infinite number, or leverage of a
            matrix that has none.

    >>> Recipe(rank=20).name
    'paper, rank 20'
    """

    base: str = "paper"
    curvature: str = "hessian"
    weighting: str = "uniform"
    rank: int | str = 50
    damping: float | str = 1e-6
    threshold: float = 1e-5
    leverage: bool = False

    def __post_init__(self) -> None:
        _check_word("curvature", self.curvature, tuple(OPERATORS))
        _check_word("weighting", self.weighting, WEIGHTINGS)
        whole = isinstance(self.rank, int) and not isinstance(self.rank, bool)
        if self.rank != FULL and not (whole and self.rank >= 1):  # type: ignore[operator]
            raise InputError(f"rank must be at least 1 or {FULL}, found {self.rank}")
        _check_number("threshold", self.threshold)
        if self.damping != AUTO:
            _check_number("damping", self.damping, f" or {AUTO}")
        if self.leverage and (self.rank != FULL or self.curvature != "gauss-newton"):
            raise InputError(
                f"leverage needs curvature gauss-newton at rank {FULL}, found {self.curvature} at "
                f"rank {self.rank}"
            )

    @property
    def name(self) -> str:
        """The named recipe, with what was changed: ``paper, rank 20``."""
        named = RECIPES.get(self.base)
        settings = self.settings()
        if named is not None:
            settings = {k: v for k, v in settings.items() if v != getattr(named, k)}
        changes = (key if v is True else f"{key} {_word(v)}" for key, v in settings.items())
        return ", ".join([self.base, *changes])

    @property
    def is_full(self) -> bool:
        """Whether the inverse is of full rank."""
        return self.rank == FULL

    def settings(self) -> dict[str, Any]:
        """All settings by name, without the name of the recipe."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "base"}

    def metadata(self) -> dict[str, Any]:
        """What a score file says about the recipe."""
        return {"name": self.name, "base": self.base, **self.settings()}


def recipe_of(base: str, **changes: Any) -> Recipe:
    """The named recipe with some settings changed; changes that are None leave it as it is.

    Raises:
        InputError: no such recipe, or settings that do not fit.
    """
    _check_word("recipe", base, tuple(RECIPES))
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(RECIPES[base], **given)


def rank_of(text: str) -> int | str:
    """A rank as written on the command line: a whole number or ``full``."""
    try:
        return FULL if text == FULL else int(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a whole number or {FULL}, found {text!r}") from None


def damping_of(text: str) -> float | str:
    """A damping as written on the command line: a number or ``auto``."""
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a number or {AUTO}, found {text!r}") from None


def _check_word(what: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise InputError(f"expected {what} {' or '.join(known)}, found {word}")


def _check_number(what: str, value: float | str, alternative: str = "") -> None:
    if isinstance(value, str) or not (isfinite(value) and value >= 0):
        raise InputError(f"{what} must be a number of at least 0{alternative}, found {value}")


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


PAPER = Recipe()
GAUSS_NEWTON = Recipe("gauss-newton", "gauss-newton", "training", FULL, AUTO)
RECIPES = {recipe.base: recipe for recipe in (PAPER, GAUSS_NEWTON)}
