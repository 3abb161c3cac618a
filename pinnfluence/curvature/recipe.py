"""How the inverse curvature is approximated: two named recipes and their settings."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any

from pinnfluence.curvature.inverse import METHODS
from pinnfluence.curvature.inverse import WHOLE as FULL
from pinnfluence.curvature.operators import OPERATORS
from pinnfluence.errors import InputError

WEIGHTINGS = ("uniform", "training")
LOW_RANK = "eigenpairs"
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
        inverse: the method, a name in ``METHODS``, or ``full``: the whole inverse by the cheapest
            of ``dense``, ``residual-space`` and, of large matrices, ``randomised``, whose error is
            measured and small. Of ``full`` and ``eigenpairs`` the rank decides.
        rank: number of largest eigenpairs that are kept, by the method ``eigenpairs``; or ``full``.
        damping: number that is added to the diagonal, or ``auto``, see ``curvature.damping``.
        threshold: least eigenvalue of ``M + damping I`` that is kept; of ``eigenpairs``.
        leverage: whether a point that is removed takes its part of the curvature along; for
            ``gauss-newton`` with a whole inverse, see ``influence.leverage``.

    Two have names. ``PAPER`` (arXiv 2409.08958): the Hessian of the plain sum of squared residuals,
    its 50 largest eigenpairs. ``GAUSS_NEWTON``: the damped Gauss-Newton matrix of the loss that was
    trained, and its whole inverse.

    Raises:
        InputError: unknown words, a rank below 1 or of a method that has none, a negative or
            infinite number, or leverage of a matrix that has none.

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
    inverse: str = ""

    def __post_init__(self) -> None:
        _check_word("curvature", self.curvature, tuple(OPERATORS))
        _check_word("weighting", self.weighting, WEIGHTINGS)
        whole = isinstance(self.rank, int) and not isinstance(self.rank, bool)
        if self.rank != FULL and not (whole and self.rank >= 1):  # type: ignore[operator]
            raise InputError(f"rank must be at least 1 or {FULL}, found {self.rank}")
        if self.inverse in ("", FULL, LOW_RANK):
            object.__setattr__(self, "inverse", FULL if self.rank == FULL else LOW_RANK)
        self._check_inverse()
        _check_number("threshold", self.threshold)
        if not self.is_automatic:
            _check_number("damping", self.damping, f" or {AUTO}")
        if self.leverage and (self.is_low_rank or self.curvature != "gauss-newton"):
            raise InputError(
                f"leverage needs curvature gauss-newton at rank {FULL}, found {self.curvature} at "
                f"rank {self.rank}"
            )

    def _check_inverse(self) -> None:
        _check_word("inverse", self.inverse, (FULL, *METHODS))
        if self.is_low_rank == (self.rank == FULL):
            raise InputError(f"the inverse {self.inverse} has no rank {self.rank}")
        method = METHODS.get(self.inverse)
        if method is not None and method.needs_rows and not OPERATORS[self.curvature].has_rows:
            raise InputError(f"the inverse {self.inverse} is not for the matrix {self.curvature}")

    @property
    def name(self) -> str:
        """The named recipe, with what was changed: ``paper, rank 20``."""
        named = RECIPES.get(self.base)
        settings = self.settings()
        if self.inverse in (FULL, LOW_RANK):  # the rank says it
            del settings["inverse"]
        if named is not None:
            settings = {k: v for k, v in settings.items() if v != getattr(named, k)}
        changes = (key if v is True else f"{key} {_word(v)}" for key, v in settings.items())
        return ", ".join([self.base, *changes])

    @property
    def is_low_rank(self) -> bool:
        """Whether some eigenpairs stand for the whole."""
        return self.inverse in METHODS and METHODS[self.inverse].takes_rank

    @property
    def n_pairs(self) -> int:
        """Number of eigenpairs that are kept; 0 where the whole is inverted."""
        return int(self.rank) if self.is_low_rank else 0

    @property
    def is_automatic(self) -> bool:
        """Whether the damping is chosen by the rule."""
        return self.damping == AUTO

    def settings(self) -> dict[str, Any]:
        """All settings by name, without the name of the recipe."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "base"}

    def metadata(self) -> dict[str, Any]:
        """What a score file says about the recipe."""
        return {"name": self.name, "base": self.base, **self.settings()}


def recipe_of(base: str | Recipe, **changes: Any) -> Recipe:
    """A recipe, by name or as it is, with some settings changed; None leaves one as it is.

    Another rank changes the inverse with it.

    Raises:
        InputError: no such recipe, or settings that do not fit.
    """
    if not isinstance(base, Recipe):
        _check_word("recipe", base, tuple(RECIPES))
    recipe = base if isinstance(base, Recipe) else RECIPES[base]
    given = {key: value for key, value in changes.items() if value is not None}
    if unknown := sorted(given.keys() - recipe.settings().keys()):
        raise TypeError(f"a recipe has no setting {', '.join(unknown)}")
    if "rank" in given:
        given.setdefault("inverse", "")
    elif given.get("inverse", LOW_RANK) != LOW_RANK:
        given["rank"] = FULL
    elif "inverse" in given and not recipe.is_low_rank:
        raise InputError(f"the inverse {LOW_RANK} needs a rank, found none")
    return replace(recipe, **given)


def rank_of(text: str) -> int | str:
    """A rank as written on the command line: a whole number or ``full``."""
    try:
        return FULL if text == FULL else int(text)
    except ValueError:
        raise InputError(f"expected --rank a whole number or {FULL}, found {text!r}") from None


def damping_of(text: str) -> float | str:
    """A damping as written on the command line: a number or ``auto``."""
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError:
        raise InputError(f"expected --damping a number or {AUTO}, found {text!r}") from None


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
