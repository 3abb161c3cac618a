"""Finished stages of a long computation, on disk, so that it need not begin again."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pinnfluence.storage.checksum import checksum
from pinnfluence.storage.files import check_unpacked_size, read_member, write_npz

FORMAT_VERSION = 2
"""Of the files of stages: part of every key, so that files of another version are not read."""

SAVE_SECONDS = 30.0
"""Time after which what a stage has computed so far is saved."""

PART_OF_THE_TIME = 0.1
"""Saving may take at most that part of the time."""

STAGES = ".stages"
"""Name of the folder beside the scores."""

FACTS, CHECKSUMS = "facts", "checksums"
"""Members beside the arrays: JSON, and the checksums of the facts alone and of all."""

SUM_LENGTH = 64
"""Of a checksum in hexadecimal digits."""

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,  # of compressions and encryptions that Python lacks
    RuntimeError,  # of encrypted files, and RecursionError of nested facts
)
"""What reading a damaged file raises."""


class Saved(NamedTuple):
    """What a stage found: arrays by name, and facts that JSON can hold."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


@dataclass
class _Place:
    """A folder that several stores share, until it turns out that it cannot be written."""

    folder: Path | None


class StageStore:
    """Files ``<stage>-<key>.npz`` of a folder, written whole or not at all, and read as data.

    The key is a hash over all that determines the bytes of the result. A file of another key is of
    another computation: it is removed when its stage is asked for. One that is damaged is reported
    in a line and removed; a folder that cannot be written costs a line and nothing else.

    Args:
        folder: where the files are; None: nothing is read or written.
        key: of the computation, hexadecimal.
        other_keys: of single stages, which are determined by less.
    """

    def __init__(
        self,
        folder: str | Path | None,
        key: str = "",
        other_keys: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._place, self.key = _Place(None if folder is None else Path(folder)), key
        self._other_keys = dict(other_keys)
        self._last, self._cost = time.monotonic(), 0.0

    @property
    def folder(self) -> Path | None:
        """Where the files are; None once they could not be written."""
        return self._place.folder

    def with_key(self, key: str) -> StageStore:
        """A store of the same folder for another computation; if one cannot write, none can."""
        other = StageStore(None, key)
        other._place = self._place
        return other

    @property
    def is_open(self) -> bool:
        """Whether anything is read or written."""
        return self.folder is not None

    def load(self, stage: str) -> Saved | None:
        """What a stage found, or None."""
        if self.folder is None:
            return None
        path = self._path(stage)
        for old in self.folder.glob(f"{stage}-*.npz"):
            if old != path:
                _remove(old)
        if not path.is_file():
            return None
        try:
            return _read(path)
        except UNREADABLE:
            print(f"warning: {path} is damaged; computing it again", file=sys.stderr)
            _remove(path)
            return None

    def facts(self, stage: str) -> dict[str, Any] | None:
        """The facts of a stage that is there, or None; nothing is removed or read besides."""
        if self.folder is None:
            return None
        try:
            with zipfile.ZipFile(path := self._path(stage)) as archive:
                return _facts(path, *(read_member(archive, f"{n}.npy") for n in (FACTS, CHECKSUMS)))
        except UNREADABLE:
            return None

    def arrays_of_parts(self, stage: str) -> set[str]:
        """Names of the arrays that were saved of a stage part by part; they are not read."""
        names: set[str] = set()
        paths = [] if self.folder is None else self.folder.glob(f"{stage}.*-{self._tag(stage)}.npz")
        for path in paths:
            with contextlib.suppress(*UNREADABLE), zipfile.ZipFile(path) as archive:
                names |= {name.removesuffix(".npy") for name in archive.namelist()} - {
                    FACTS,
                    CHECKSUMS,
                }
        return names

    def save(self, stage: str, arrays: Mapping[str, np.ndarray], facts: Any = None) -> None:
        """Write what a stage found."""
        if self.folder is None:
            return
        began = time.monotonic()
        path = self._path(stage)
        text = np.frombuffer(json.dumps(facts or {}, sort_keys=True).encode(), np.uint8)
        sums = _checksum(path, {FACTS: text}) + _checksum(path, {**arrays, FACTS: text})
        members = {FACTS: text, CHECKSUMS: np.frombuffer(sums.encode(), np.uint8)}
        try:
            write_npz(path, {**arrays, **members})
        except OSError as error:
            print(
                f"warning: cannot save the stages in {self.folder}: {error.strerror}; "
                "going on without",
                file=sys.stderr,
            )
            self._place.folder = None
        self._last = time.monotonic()
        self._cost = self._last - began

    def is_due(self) -> bool:
        """Whether it is time to save what a stage has so far."""
        pause = max(SAVE_SECONDS, self._cost / PART_OF_THE_TIME)
        return self.is_open and time.monotonic() - self._last >= pause

    def load_parts(self, stage: str) -> list[Saved]:
        """What was saved of a stage part by part."""
        found: list[Saved] = []
        if self.folder is not None:
            for path in self.folder.glob(f"{stage}.*-*.npz"):
                if not path.stem.endswith(self.key[:32]):
                    _remove(path)
        while part := self.load(_part(stage, len(found))):
            found.append(part)
        return found

    def save_part(self, stage: str, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the next part of a stage."""
        self.save(_part(stage, number), arrays)

    def remove_parts(self, stage: str) -> None:
        """Remove the parts of a stage, which is saved as a whole."""
        self._remove_all(f"{stage}.*-*.npz")

    def remove(self, *stages: str) -> None:
        """Remove stages and their parts."""
        for stage in stages:
            self._remove_all(f"{stage}-*.npz")
            self.remove_parts(stage)

    def clear(self) -> None:
        """Remove all stages."""
        self._remove_all("*-*.npz")

    def _remove_all(self, pattern: str) -> None:
        if self.folder is not None:
            for path in self.folder.glob(pattern):
                _remove(path)

    def _path(self, stage: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{stage}-{self._tag(stage)}.npz"

    def _tag(self, stage: str) -> str:
        return self._other_keys.get(stage, self.key)[:32]


def _read(path: Path) -> Saved:
    """What a file holds.

    Raises:
        UNREADABLE: damaged, or of another stage.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        check_unpacked_size(archive, path.stat().st_size, path)
        for name in archive.namelist():
            arrays[name.removesuffix(".npy")] = read_member(archive, name)
    sums = arrays.pop(CHECKSUMS)
    if _checksum(path, arrays) != sums.tobytes()[SUM_LENGTH:].decode():
        raise ValueError("wrong checksum")
    return Saved(arrays, _facts(path, arrays.pop(FACTS), sums))


def _facts(path: Path, text: np.ndarray, sums: np.ndarray) -> dict[str, Any]:
    if _checksum(path, {FACTS: text}) != sums.tobytes()[:SUM_LENGTH].decode():
        raise ValueError("wrong checksum")
    facts: dict[str, Any] = json.loads(text.tobytes())
    return facts


def _checksum(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """The file's name belongs to it: a file of another stage or key is none of this one."""
    return checksum(path.stem, arrays)


def _part(stage: str, number: int) -> str:
    return f"{stage}.{number:04d}"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        print(f"warning: cannot remove {path}: {error.strerror}", file=sys.stderr)


CLOSED = StageStore(None)
"""Keeps nothing."""
