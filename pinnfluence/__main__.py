"""``pinnfluence COMMAND``, which is also ``python -m pinnfluence COMMAND``."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import NoReturn

from pinnfluence.commands import COMMANDS, run
from pinnfluence.runtime.script import Parser


def main() -> NoReturn:
    """Hand the arguments over to the command that the first of them names."""
    parser = Parser(
        prog="pinnfluence",
        description="Which training points made a physics-informed network predict this, how wrong "
        "is it, and where should it be trained next?",
        epilog="pinnfluence COMMAND --help lists the options of a command.",
    )
    version = f"pinnfluence {importlib.metadata.version('pinnfluence')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    command = parser.parse_args(sys.argv[1:2] or ["--help"]).command
    sys.argv[:2] = [f"pinnfluence {command}"]
    run(command)


if __name__ == "__main__":
    main()
