"""Influence scores to look at: one HTML file that works offline in any browser.

pinnfluence explore model_zoo/good_influences model_zoo/bad_influences -o explorer.html
pinnfluence explore --model my_script.py:make_model
"""

from pathlib import Path

from pinnfluence.commands import COMMANDS
from pinnfluence.errors import InputError
from pinnfluence.runtime.script import Parser


def make_parser() -> Parser:
    parser = Parser(description=COMMANDS["explore"])
    add = parser.add_argument
    add(
        "scores",
        type=Path,
        nargs="*",
        help="score files of pinnfluence scores, or their folders (default: those beside "
        "--checkpoint or --model)",
    )
    add("-o", "--output", type=Path, default=Path("explorer.html"), help="the file to write")
    networks = parser.add_mutually_exclusive_group()
    networks.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        default=[],
        help="the models of the scores, in their order, for predicted fields and estimated errors "
        "(default: x for x_influences)",
    )
    networks.add_argument(
        "--model",
        metavar="SCRIPT.PY:FUNCTION",
        nargs="+",
        default=[],
        help="or functions of your own scripts that return models; THE CODE OF THE SCRIPTS IS RUN",
    )
    add("--test_points", type=int, help="most test points of a model (default: 4000)")
    add("--rank", type=int, help="most factors (default: as many as 25 MB hold)")
    return parser


def main() -> None:
    arguments = make_parser().parse_args()

    from pinnfluence.explorer import write_explorer  # here: the help comes at once
    from pinnfluence.explorer.payload import TEST_POINTS

    for name in ("test_points", "rank"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise InputError(f"--{name} must be at least 1, found {getattr(arguments, name)}")
    if arguments.output.is_dir() or arguments.output.suffix != ".html":
        raise InputError(f"--output must be a file name in .html, found {arguments.output}")
    sources = write_explorer(
        arguments.output,
        arguments.scores,
        arguments.checkpoint,
        arguments.test_points or TEST_POINTS,
        arguments.rank,
        arguments.model,
    )
    for source in sources:
        print(f"{source.name}: rank {source.scores.rank}, {source.origin}")
    size = arguments.output.stat().st_size / 1e6
    print(f"wrote {arguments.output} ({size:.3g} MB)")
