"""How scripts read their arguments, and the one way in which they report what went wrong."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from pinnfluence.errors import InputError
from pinnfluence.runtime.signals import listened

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

ALIKE = 0.7
"""Least similarity, of ``difflib``, of a flag that is proposed: ``--model`` is not ``--help``."""


class _WithDefaults(argparse.HelpFormatter):
    """Names each default that the help does not name in words."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if default in (None, False, [], argparse.SUPPRESS) or "default" in text:
            return text
        values = default if isinstance(default, (list, tuple)) else [default]
        return f"{text} (default: {' '.join(map(str, values))})"


class Parser(argparse.ArgumentParser):
    """Argument parser with errors of one line, exit code 2 and a help that names defaults."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_WithDefaults, **settings)

    def error(self, message: str) -> NoReturn:
        message = self._unknown_flag() or message
        line = " ".join(f"error: {message} (see {self.prog} --help)".split())
        self.exit(EXIT_BAD_INPUT, f"{line}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of argparse; keeps the words for ``error``."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def _unknown_flag(self) -> str:
        """Names a misspelt flag; argparse may complain first that the right one is missing."""
        known = self._option_string_actions
        for word in self._words:
            flag = word.split("=")[0]
            if flag.startswith("--") and not any(name.startswith(flag) for name in known):
                near = difflib.get_close_matches(flag, known, 1, ALIKE)
                return f"unrecognized arguments: {flag}" + (
                    f", expected {near[0]}?" if near else ""
                )
        return ""


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run a script's main function; bad input and interruptions end it with one line.

    The signals of ``runtime.signals`` end it like Ctrl-C. Output that cannot be written, because
    it is closed or its disk is full, changes no exit code but 0, which becomes 2.
    """
    _open_streams()
    warnings.formatwarning = _in_words
    for number in listened():
        signal.signal(number, _interrupt)
    code = 0
    try:
        main()
        sys.stdout.flush()  # at the end of Python, a full disk would be no error of one line
    except InputError as error:
        code = _report(f"error: {error}", EXIT_BAD_INPUT)
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        code = _report(f"error: {reason}{where}", EXIT_BAD_INPUT)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        code = _report(
            "error: not enough memory; use fewer points, smaller --layers or another --device",
            EXIT_BAD_INPUT,
        )
    except KeyboardInterrupt as stop:
        code = _report(str(stop) or "interrupted; nothing half-written remains", EXIT_INTERRUPTED)
    _drop_unwritable_output()
    sys.exit(code)


def _in_words(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: Any = None
) -> str:
    """A warning for users without the line of code that gave it, which says nothing to them."""
    if category is UserWarning:
        return f"warning: {message}\n"
    return _format_warning(message, category, filename, lineno, line)


_format_warning = warnings.formatwarning


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _open_streams() -> None:
    """Replace closed streams by the null device, so that no file of ours takes their numbers."""
    number = os.open(os.devnull, os.O_RDWR)
    while number < 3:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be valid UTF-8


def _drop_unwritable_output() -> None:
    """Else Python would end with a code and a message of its own when it flushes the streams."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _is_out_of_memory(error: Exception) -> bool:
    """Also PyTorch's own errors, which on the CPU are plain ``RuntimeError``."""
    signs = ("out of memory", "allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _report(message: str, code: int) -> int:
    line = " ".join(message.split())
    with contextlib.suppress(OSError, ValueError):  # nobody can read it
        after_bar = code == EXIT_INTERRUPTED and sys.stderr.isatty()
        print(f"\n{line}" if after_bar else line, file=sys.stderr, flush=True)
    return code
