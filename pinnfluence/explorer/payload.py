"""What the page holds: points, embeddings and fields as numbers, and their description."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pinnfluence.explorer.packing import Half, at_test_points, coefficients, errors, reduced
from pinnfluence.explorer.points import covering_points
from pinnfluence.explorer.sources import Source, plain_unit
from pinnfluence.problem.labels import LOSSES
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores
from pinnfluence.scores.mesh import triangles_of

RANK = 64
"""Embeddings have at most this many factors in the page."""

TEST_POINTS = 4000
"""At most this many test points of a model are in the page."""

FILE_BYTES = 25_000_000
"""A page of several models stays below this: with fewer test points, where that is needed."""

BYTES_PER_NUMBER = 2.45
"""Of an embedding in the page, all else included; 2.43 and 2.44 were measured."""

LEAST_POINTS = 500
"""But no fewer test points than these, whatever the size."""

ERROR_ROWS = 250
"""Test points at which the error of the page's scores is measured."""


@dataclass
class Blob:
    """Arrays one behind the other; ``add`` gives what finds one again: type, place, shape, scale.

    The page reads ``u2``, ``i4``, ``f4`` (little endian) and ``f2``, float16 in two planes, all
    low bytes before all high bytes, which deflates a sixth better.
    """

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, array: np.ndarray | Half) -> dict[str, Any]:
        """Append an array."""
        codes = array.codes if isinstance(array, Half) else np.ascontiguousarray(array)
        kind = codes.dtype.str.lstrip("<|")
        data = codes.astype(codes.dtype.newbyteorder("<")).tobytes()
        if isinstance(array, Half):
            data = np.frombuffer(data, np.uint8).reshape(-1, 2).T.tobytes()
        entry = {"type": kind, "start": self.size, "shape": list(codes.shape)}
        self.parts.append(data + bytes(-len(data) % 4))
        self.size += len(self.parts[-1])
        return entry | ({"scale": array.scale} if isinstance(array, Half) else {})

    def text(self) -> str:
        """All arrays, deflated, in base64; the same arrays give the same text."""
        return base64.b64encode(zlib.compress(b"".join(self.parts), 9)).decode()


@dataclass(frozen=True)
class Payload:
    """The page's description, and the text of each blob by name."""

    description: dict[str, Any]
    blobs: dict[str, str]


def build_payload(
    sources: Sequence[Source], n_test: int = TEST_POINTS, rank: int = RANK
) -> Payload:
    """Everything that the page needs; models with the same test points share those and a mesh.

    See ``affordable_points``: for many or large models there are fewer than ``n_test``.
    """
    models: list[dict[str, Any]] = []
    meshes: list[dict[str, Any]] = []
    blobs: dict[str, str] = {}
    places: dict[bytes, int] = {}
    n_test = affordable_points(sources, n_test, rank)
    for source in sources:
        chosen = covering_points(
            source.scores.test_x / _extent(source), n_test, conditions_of(source.scores)
        )
        key = source.scores.test_x[chosen].tobytes()
        if key not in places:
            places[key] = len(meshes)
            blob = Blob()
            meshes.append(_mesh(source, chosen, blob))
            blobs[f"mesh{places[key]}"] = blob.text()
        blob = Blob()
        models.append({"mesh": places[key], **model_payload(source, chosen, rank, blob)})
        blobs[f"model{len(models) - 1}"] = blob.text()
    first = sources[0]
    description = {
        "axes": list(first.inputs),
        "equal": first.problem is not None and not first.problem.has_time,
        "units": _units(first),
        "sums": LOSSES,
        "meshes": meshes,
        "models": models,
    }
    return Payload(description, blobs)


def affordable_points(sources: Sequence[Source], n_test: int, rank: int) -> int:
    """At most ``n_test`` test points a model, fewer where the page would pass ``FILE_BYTES``."""
    fixed, growing = 0, 0
    for source in sources:
        scores = source.scores
        factors, n = min(rank, scores.rank), len(scores.test_x)
        everywhere = [k for k, e in scores.test.items() if len(e.rows) == n]
        derived = set(source.fields) - set(source.outputs)
        growing += factors * sum(name not in derived for name in everywhere)
        rows = [len(e.rows) for e in scores.train.values()]
        rows += [min(len(e.rows), n_test) for e in scores.test.values() if len(e.rows) < n]
        fixed += factors * sum(rows)
    room = int((FILE_BYTES / BYTES_PER_NUMBER - fixed) / max(1, growing))
    return min(n_test, max(room, LEAST_POINTS))


def conditions_of(scores: Scores) -> list[np.ndarray]:
    """Row numbers of the test points of each quantity that does not act on all of them."""
    n = len(scores.test_x)
    return [np.asarray(e.rows) for e in scores.test.values() if 0 < len(e.rows) < n]


def model_payload(source: Source, chosen: np.ndarray, rank: int, blob: Blob) -> dict[str, Any]:
    """One model: what it is, its embeddings in half precision, and how far its scores are off."""
    exact = at_test_points(source.scores, chosen)
    small = reduced(exact, rank)
    shown, quantities, terms = _packed(small, source, blob)
    metadata = exact.metadata
    predicted = source.predicted(exact.test_x)
    return {
        "name": source.name,
        "rank": small.rank,
        "file_rank": exact.rank,
        "n_test": len(exact.test_x),
        "n_test_of_file": len(source.scores.test_x),
        "recipe": metadata.get("recipe", {}),
        "groups": exact.groups,
        "train_x": blob.add(exact.train_x.astype(np.float32)),
        "test_index": blob.add(chosen.astype(np.int32)),
        "terms": terms,
        "quantities": quantities,
        "predicted": {k: blob.add(v.astype(np.float32)) for k, v in predicted.items()},
        "errors": errors(exact, shown, ERROR_ROWS),
        "error_points": min(ERROR_ROWS, len(exact.test_x)),
        "compression": metadata.get("compression", {}).get("errors", {}),
    }


def _packed(
    small: Scores, source: Source, blob: Blob
) -> tuple[Scores, dict[str, Any], dict[str, Any]]:
    """Scores as the page sees them, and where it finds quantities and terms."""
    train, terms = _halves(small.train, len(small.train_x), blob)
    kept = dict(small.test)
    factors = {}
    for name in source.fields:
        if name not in source.outputs:
            found = coefficients(small, name, source.outputs)
            if found is not None:
                factors[name] = found
                del kept[name]
    test, quantities = _halves(kept, len(small.test_x), blob)
    for name, found in factors.items():
        whole = sum(found[:, [k]] * test[o].values for k, o in enumerate(source.outputs))
        test[name] = Embedding(np.asarray(whole, np.float32), small.test[name].rows)
        quantities[name] = {"of": list(source.outputs), "factors": blob.add(found)}
    ordered = {name: {"loss": name in small.terms, **quantities[name]} for name in small.test}
    shown = Scores(
        small.train_x,
        small.test_x,
        train,
        {name: test[name] for name in small.test},
        small.metadata,
    )
    return shown, ordered, terms


def _halves(
    side: Mapping[str, Embedding], n: int, blob: Blob
) -> tuple[dict[str, Embedding], dict[str, Any]]:
    """Embeddings in half precision, on the acting rows only."""
    rounded, entries = {}, {}
    for name, embedding in side.items():
        half = Half.of(embedding.values)
        rounded[name] = Embedding(half.values, embedding.rows)
        entries[name] = {"values": blob.add(half)}
        if len(embedding.rows) < n:
            narrow = np.uint16 if n <= 2**16 else np.int32
            entries[name]["rows"] = blob.add(np.asarray(embedding.rows).astype(narrow))
    return rounded, entries


def _mesh(source: Source, chosen: np.ndarray, blob: Blob) -> dict[str, Any]:
    """Test points, their triangles, and the reference's fields."""
    points, extent = source.scores.test_x[chosen], _extent(source)
    reference = source.reference(points)
    domain = None if source.problem is None else source.problem.domain
    return {
        "points": blob.add(points.astype(np.float32)),
        "triangles": blob.add(triangles_of(points, domain, extent)),
        "reference": {k: blob.add(v.astype(np.float32)) for k, v in reference.items()},
    }


def _extent(source: Source) -> np.ndarray:
    """Lengths of the axes that drawings make equal, ``[2]``: 1 where both are lengths in space."""
    if source.problem is not None and not source.problem.has_time:
        return np.ones(2)
    size = np.ptp(source.scores.test_x.astype(np.float64), axis=0)
    return np.where(size > 0, size, 1.0)


def _units(source: Source) -> dict[str, str]:
    """Units of coordinates and fields, where they are known."""
    symbols = {} if source.problem is None else source.problem.drawing.symbols
    return {name: plain_unit(unit) for name, (_, unit) in symbols.items() if unit}
