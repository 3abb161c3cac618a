"""Influence scores to look at: one HTML file that works offline in any browser.

python explore.py model_zoo/good_influences model_zoo/bad_influences -o explorer.html
python explore.py --model my_script.py:make_model
"""

import argparse
from pathlib import Path

from pinnfluence.errors import InputError
from pinnfluence.runtime.script import Parser, run_script


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description="One HTML file that shows any row or column of score matrices.")
    add = parser.add_argument
    add(
        "scores",
        type=Path,
        nargs="*",
        help="score files of calc_influences.py, or their folders (default: those of --model)",
    )
    add("-o", "--output", type=Path, default=Path("explorer.html"), help="the file to write")
    networks = parser.add_mutually_exclusive_group()
    networks.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        default=[],
        help="the models, in the order of the scores (default: x for x_influences); for the "
        "predicted fields and the estimated errors",
    )
    networks.add_argument(
        "--model",
        metavar="SCRIPT.PY:FUNCTION",
        nargs="+",
        default=[],
        help="or functions of scripts of your own that return them; THE CODE OF THE SCRIPTS IS RUN",
    )
    add("--test_points", type=int, help="at most so many a model (default: 4000)")
    add(
        "--rank",
        type=int,
        help="embeddings of more factors are reduced to so many (default: as many as 25 MB hold)",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()

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


if __name__ == "__main__":
    run_script(main)
