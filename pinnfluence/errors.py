"""The error for what a user can put right."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
    """Bad input. The message says in one line what was expected, what was found, what to do."""


@contextlib.contextmanager
def input_errors(where: str = "") -> Iterator[None]:
    """Values that the block refuses are bad input; the message begins with their origin."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        if isinstance(error, InputError) and not where:
            raise
        raise InputError(f"{where}: {error}" if where else str(error)) from None
