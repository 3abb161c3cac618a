"""Files written whole or not at all, and read as data, never as code."""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.storage.lock import check_still_there


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that replaces it when the block ends well.

    After an error or an interruption ``path`` is what it was before and nothing else remains.

    Raises:
        InputError: its folder was locked by this process, and was removed or moved since.
    """
    path = Path(path)
    check_still_there(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # that of a full disk does not say where
        raise


def check_target(folder: str | Path, n_bytes: int = 0, files: Iterable[str] = ()) -> None:
    """Refuse a folder that cannot take ``n_bytes``, before any work is done for it.

    Args:
        files: names of the files that are to be written.

    Raises:
        InputError: something else is in the way, no right to write, or too little room.
    """
    place = Path(os.path.abspath(folder))
    while not place.exists():
        if place.is_symlink():
            raise InputError(f"cannot write into {folder}: {place} is a broken link")
        place = place.parent
    if not place.is_dir():
        raise InputError(f"cannot write into {folder}: {place} is a file, expected a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into {folder}: {place} is not writable")
    for path in (Path(folder) / name for name in files):
        if path.exists():
            check_regular(path)
    free = shutil.disk_usage(place).free
    if n_bytes > free:
        raise InputError(
            f"{n_bytes / 1e9:.3g} GB are to be written, but {folder} has {free / 1e9:.3g} GB free; "
            "make room or choose another --save_path"
        )


def read_file(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: a folder, a pipe or a device, for which a reader might wait for ever.
    """
    check_regular(path)
    return Path(path).read_bytes()


def check_regular(path: str | Path) -> None:
    """Refuse what is no file on a disk.

    Raises:
        InputError: a folder, a pipe or a device. OSError: nothing is there.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(f"expected a file at {path}, found {kind}")


def sweep(folder: Path, pattern: str) -> None:
    """Remove what killed processes had not written to its end, of files with such names.

    Only for the one who holds the folder: the temporary file of a living process looks the same.
    """
    for path in folder.glob(f".{pattern}.*.tmp"):
        path.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_writer(path) as stream:
        stream.write(content)


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write ``array`` to ``path`` atomically in NumPy's format."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


@dataclass(frozen=True)
class Rows:
    """A float32 array of the given shape whose rows come block by block."""

    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[np.ndarray]]
    dtype = np.dtype(np.float32)


def write_npz(
    path: str | Path, arrays: Mapping[str, np.ndarray | Rows], compressed: bool = False
) -> None:
    """Write an ``.npz`` atomically; the same arrays give the same bytes.

    ``Rows`` are written block by block, so that arrays larger than memory can be written.
    """
    with atomic_writer(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            missing = math.prod(array.shape) * array.dtype.itemsize
            with archive.open(member, "w", force_zip64=True) as target:
                np.lib.format.write_array_header_1_0(target, header)
                for block in array.blocks() if isinstance(array, Rows) else [array]:
                    missing -= target.write(np.ascontiguousarray(block, array.dtype).data)
            if missing:
                raise ValueError(f"{name}: expected shape {array.shape}, found {-missing:+d} bytes")


READ_BYTES = 2**24
"""Read at a time, so that an array is not held twice."""

UNPACKED_BYTES, UNPACKED_RATIO = 2**30, 20
"""What an archive may unpack to: so much in any case, else so many times its own size."""


def check_unpacked_size(archive: zipfile.ZipFile, n_bytes: int, where: str | Path) -> None:
    """Look at the directory of an archive before its content is unpacked.

    Args:
        n_bytes: size of the archive. where: its path.

    Raises:
        InputError: it would unpack to far more than its size.
    """
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(UNPACKED_BYTES, UNPACKED_RATIO * n_bytes):
        raise InputError(
            f"{where}: {n_bytes / 1e6:.3g} MB would unpack to "
            f"{unpacked / 1e9:.3g} GB, which no file of numbers does; it was not read"
        )


def map_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` as read-only memory maps; compressed members are read into memory.

    Raises:
        InputError: it would unpack to far more than its size. ValueError, zipfile.BadZipFile,
        zlib.error: damaged, or holding Python objects.
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        check_unpacked_size(archive, Path(path).stat().st_size, path)
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            if member.compress_type == zipfile.ZIP_STORED:
                arrays[name] = _map_npy(path, _data_offset(path, member), member.file_size)
            else:
                arrays[name] = read_member(archive, member.filename)
    return arrays


def read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of an archive's member, whose checksum must be right.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile, zlib.error: damaged, or holding Python objects.
    """
    member = archive.getinfo(name)
    with archive.open(member) as stream:
        return read_npy(stream, member.file_size)


def read_npy(stream: IO[bytes], n_bytes: int) -> np.ndarray:
    """The array of an ``.npy`` file, all of whose ``n_bytes`` it must fill.

    Raises:
        ValueError: damaged, or holding Python objects.
    """
    shape, fortran_order, dtype = _npy_header(stream, n_bytes)
    data = np.empty(math.prod(shape), dtype)
    content = data.view(np.uint8).data if data.nbytes else memoryview(bytearray())
    for start in range(0, len(content), READ_BYTES):
        part = content[start : start + READ_BYTES]
        part[:] = stream.read(len(part))
    return data.reshape(shape, order="F" if fortran_order else "C")


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _data_offset(path: str | Path, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin: behind its local header, whose length varies."""
    if member.header_offset < 0:  # of a file that has lost its beginning
        raise zipfile.BadZipFile
    with open(path, "rb") as stream:
        stream.seek(member.header_offset + 26)
        name_length, extra_length = np.frombuffer(stream.read(4), "<u2")
    return member.header_offset + 30 + int(name_length) + int(extra_length)


def _map_npy(path: str | Path, offset: int, n_bytes: int) -> np.ndarray:
    with open(path, "rb") as stream:
        stream.seek(offset)
        shape, fortran_order, dtype = _npy_header(stream, offset + n_bytes)
        start = stream.tell()
    if not math.prod(shape):  # nothing can be mapped
        return np.zeros(shape, dtype)
    data = np.memmap(path, dtype, mode="r", offset=start, shape=(math.prod(shape),))
    return data.reshape(shape, order="F" if fortran_order else "C")


def _npy_header(stream: IO[bytes], end: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of the array whose numbers follow, up to ``end``."""
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"array format {version} is not supported, expected 1.0 or 2.0")
    with warnings.catch_warnings(action="ignore"):  # of headers that are no Python literal
        shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("holds Python objects, expected plain numbers")
    expected, found = math.prod(shape) * dtype.itemsize, end - stream.tell()
    if min(shape, default=0) < 0 or expected != found:
        raise ValueError(f"an array of shape {shape} has {expected} bytes, found {found}")
    return shape, fortran_order, dtype
