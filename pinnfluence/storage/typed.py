"""Values of files as typed objects, checked once where they are read."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from pinnfluence.errors import InputError

# msgspec rather than pydantic: it checks plain dataclasses, converts nothing silently and needs no
# other package; pydantic would turn "3" into 3 by default and brings four packages along.

T = TypeVar("T")

LARGEST = 1.7976931348623157e308
"""The largest number that a float holds, so that infinity and NaN are no numbers here."""

Name = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0, le=LARGEST)]


def as_type(value: Any, kind: type[T], where: str) -> T:
    """``value``, of plain Python objects, as an instance of ``kind``, such as a dataclass.

    Types and limits are those of its annotations. Nothing is converted silently but whole numbers
    to floats and lists to tuples; keys that ``kind`` does not have are left out.

    Args:
        where: what the value came from; the message begins with it.

    Raises:
        InputError: another type, or a number beyond the limits: which, what was expected, found.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        message, _, place = str(error).partition(" - at ")
        place = place.strip("`").removeprefix("$").removeprefix(".")
        key = re.split(r"[.\[]", place)[0]
        found = value[key] if isinstance(value, dict) and key in value else value
        lead = f"{where}: {place}" if place else where
        expected = f"{message[:1].lower()}{message[1:]}".split(", got")[0].replace(" | null", "")
        raise InputError(f"{lead}: {expected}, found {_words(found)}") from None


def _words(value: Any) -> str:
    try:
        return json.dumps(value)[:80]
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__
