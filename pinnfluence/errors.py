"""The error for what a user can put right, and the one way in which scripts report it."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class InputError(ValueError):
    """Bad input. The message says in one line what was expected, what was found, what to do."""


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message} (see {self.prog} --help)\n")


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run a script's main function; bad input and interruptions end it with one line."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    code = 0
    try:
        main()
    except InputError as error:
        code = _report(f"error: {error}", EXIT_BAD_INPUT)
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        code = _report(f"error: {reason}{where}", EXIT_BAD_INPUT)
    except KeyboardInterrupt as stop:
        code = _report(str(stop) or "interrupted; nothing half-written remains", EXIT_INTERRUPTED)
    sys.exit(code)


def _report(message: str, code: int) -> int:
    print(
        "\n".join(["", " ".join(message.split())]) if code == EXIT_INTERRUPTED else message,
        file=sys.stderr,
    )
    return code
