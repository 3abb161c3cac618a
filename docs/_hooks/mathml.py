"""Formulas in ``$...$`` and ``$$...$$`` become MathML when pages are built: no script needed."""

import re
from typing import Any

from latex2mathml.converter import convert

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.S)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page, before its Markdown is read."""
    parts = CODE.split(markdown)  # every second one is code
    parts[::2] = [FORMULA.sub(_mathml, part) for part in parts[::2]]
    return "".join(parts)


def _mathml(match: re.Match[str]) -> str:
    block, inline = match.groups()
    return convert((block or inline).strip(), display="block" if block else "inline")
