"""The tables of all flags in docs/commands.md, made from the parsers when pages are built."""

import argparse
from importlib import import_module
from typing import Any

from pinnfluence.commands import COMMANDS

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page, before its Markdown is read."""
    return (
        markdown.replace(MARK, "\n".join(map(_section, COMMANDS))) if MARK in markdown else markdown
    )


def _section(name: str) -> str:
    parser = import_module(f"pinnfluence.commands.{name}").make_parser()
    rows = [_row(action, parser) for action in parser._actions if action.dest != "help"]
    lines = [f"## {name}", "", parser.description or "", "", "| option | what it is |", "|---|---|"]
    return "\n".join([*lines, *rows, "", parser.epilog or "", ""])


def _row(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.dest}`"
    values = "" if action.choices is None else f": {', '.join(f'`{c}`' for c in action.choices)}"
    text = parser._get_formatter()._expand_help(action)
    return f"| {names} | {text.replace('|', chr(92) + '|')}{values} |"
