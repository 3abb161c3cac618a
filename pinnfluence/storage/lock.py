"""One process at a time writes into a folder, and it notices when the folder is taken away."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock

from pinnfluence.errors import InputError

LOCK = ".lock"
"""Name of the lock file; it is there while a process works in the folder."""

_held: dict[Path, tuple[int, int]] = {}
"""The lock files of this process's folders, by folder: device and inode."""


@contextlib.contextmanager
def held(folder: str | Path, purpose: str) -> Iterator[None]:
    """Make a folder and let no other process write into it during the block.

    The kernel holds the lock, so it ends with the process, however that ends. Within the block,
    writing below the folder raises InputError once the folder was removed or moved.

    Args:
        folder: where the block writes. purpose: what it does there, for the one who is refused.

    Raises:
        InputError: another living process holds the folder; the message names it.
    """
    folder = Path(os.path.abspath(folder))
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = filelock.FileLock(path, timeout=0.2)  # a lock file that is just removed is no holder
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"{folder} is in use by {_holder(path)}; wait for it, stop it, or use another folder"
        ) from None
    try:
        path.write_text(_description(purpose), encoding="utf-8")
        status = path.stat()
        _held[folder] = (status.st_dev, status.st_ino)
        yield
    finally:
        if _is_there(folder):
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()
        _held.pop(folder, None)
        lock.release()
        for path in made:
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()


def check_still_there(path: str | Path) -> None:
    """Refuse to write to ``path`` if the held folder that it lies in is no longer the same.

    Raises:
        InputError: the folder was removed, moved or replaced since this process locked it.
    """
    path = Path(os.path.abspath(path))
    for folder in (path, *path.parents):
        if folder in _held and not _is_there(folder):
            raise InputError(
                f"{folder} was removed or moved while this process worked in it; nothing more is "
                "written there: start again"
            )


def _is_there(folder: Path) -> bool:
    try:
        status = (folder / LOCK).stat()
    except OSError:
        return False
    return _held.get(folder) == (status.st_dev, status.st_ino)


def _description(purpose: str) -> str:
    command = f"{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"  # its name may have two words
    return f"process {os.getpid()} on {socket.gethostname()} ({purpose}: {command})\n"


def _holder(path: Path) -> str:
    """What the holder wrote about itself."""
    with contextlib.suppress(OSError):  # Windows lets nobody read a locked file
        text = path.read_text(encoding="utf-8", errors="replace")
        return " ".join(text.split())[:300] or "another process"
    return "another process"
