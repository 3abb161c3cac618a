"""How figures and tables call the inputs and fields of a problem, and models side by side."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LOSSES = {"pde": "PDE loss", "bcs": "BC loss", "all": "all losses"}


@dataclass(frozen=True)
class Labels:
    """Symbols and units of inputs and fields.

    axes: names of the two inputs that figures draw along.
    symbols: symbol and unit by name, for example ``{"p": ("$p$", "Pa")}``. A name that is not
        among them stands for itself, without a unit.
    fields: the fields that figures show by default, in this order.
    signed: fields drawn in diverging colours, centred at zero.

    >>> Labels(symbols={"p": ("$p$", "Pa")}).with_unit("p")
    '$p$ (Pa)'
    """

    axes: tuple[str, str] = ("x", "y")
    symbols: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()

    def symbol(self, name: str) -> str:
        """What a field, a loss or an input is called."""
        if name in self.symbols:
            return self.symbols[name][0]
        return f"${name}$" if name in self.axes else LOSSES.get(name, name)

    def unit(self, name: str) -> str:
        """The unit in brackets behind a space, or nothing."""
        unit = self.symbols[name][1] if name in self.symbols else ""
        return f" ({unit})" if unit else ""

    def plain_unit(self, name: str) -> str:
        """The unit, for text that knows no formulas."""
        return plain_unit(self.unit(name))

    def with_unit(self, name: str) -> str:
        """Symbol and unit."""
        return self.symbol(name) + self.unit(name)


def plain_unit(text: str) -> str:
    """A unit of figures without the marks of its formula: ``$m^2$`` is m2."""
    return re.sub(r"[$^{}\\]", "", text)


PLAIN = Labels()
"""Every name stands for itself."""


def distinct(names: Sequence[str]) -> list[str]:
    """Names with a number behind those that came before."""
    found: list[str] = []
    for name in names:
        candidates = itertools.chain([name], (f"{name} {n}" for n in itertools.count(2)))
        found.append(next(candidate for candidate in candidates if candidate not in found))
    return found
