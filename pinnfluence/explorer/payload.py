"""What the page holds: points, embeddings and fields as numbers, and their description."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pinnfluence.explorer.covering_points import covering_points
from pinnfluence.explorer.packing import (
    Side,
    at_points,
    coefficients,
    errors,
    from_half,
    from_narrow,
    half,
    narrow,
    reduced,
    typical,
)
from pinnfluence.explorer.size import Size, affordable
from pinnfluence.explorer.sources import Source, by_problem
from pinnfluence.problem.labels import LOSSES, distinct, plain_unit
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.mesh import triangles_of

TEST_POINTS = 4000
"""At most this many test points of a model are in the page."""

FIRST = np.zeros(1, np.int32)
NO_TRIANGLES = np.zeros((0, 3), np.int32)

UNRESOLVED = 0.25
"""A quantity whose scores are farther off, in the median, is not offered."""

ERROR_ROWS = 250
"""Test points at which the error of the page's scores is measured."""


@dataclass
class Blob:
    """Arrays one behind the other; ``add`` gives what finds one again: type, place, shape.

    The page reads ``i1``, ``u2``, ``i4``, ``f4`` (little endian) and ``f2``, float16 in two planes,
    all low bytes before all high bytes, which deflates a sixth better.
    """

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Append an array."""
        array = np.ascontiguousarray(array)
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        if array.dtype == np.float16:
            data = np.frombuffer(data, np.uint8).reshape(-1, 2).T.tobytes()
        kind, start = array.dtype.str.lstrip("<|"), self.size
        self.parts.append(data + bytes(-len(data) % 4))
        self.size += len(self.parts[-1])
        return {"type": kind, "start": start, "shape": list(array.shape)}

    def text(self) -> str:
        """All arrays, deflated, in base64; the same arrays give the same text."""
        return base64.b64encode(zlib.compress(b"".join(self.parts), 9)).decode()

    def name(self, kind: str, blobs: dict[str, str]) -> str:
        """Put the text among the others, under the next number of its kind."""
        name = f"{kind}{sum(other.startswith(kind) for other in blobs)}"
        blobs[name] = self.text()
        return name


def build_payload(
    sources: Sequence[Source], n_test: int = TEST_POINTS, rank: int | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The page's description, a list of problems, and the text of each blob by name.

    For many or large models there are fewer test points than ``n_test``, see ``affordable``.
    """
    size = affordable(sources, n_test, rank)
    blobs: dict[str, str] = {}
    groups = by_problem(sources)
    names = distinct([_title(group[0]) for group in groups])
    problems = [
        {"name": name, **_problem(group, size, blobs)}
        for name, group in zip(names, groups, strict=True)
    ]
    return {"problems": problems}, blobs


def _title(source: Source) -> str:
    """The problem's name; without one what is a function of what."""
    if source.problem is not None:
        return source.problem.name
    return f"{', '.join(source.fields)} of {', '.join(source.inputs)}"


def _problem(sources: Sequence[Source], size: Size, blobs: dict[str, str]) -> dict[str, Any]:
    """Models of one problem; those with the same test points share them and a mesh."""
    models: list[dict[str, Any]] = []
    meshes: list[dict[str, Any]] = []
    numbers: dict[bytes, int] = {}
    for source in sources:
        test_x = source.scores.test_x
        conditions = [e.rows for e in source.scores.test.values() if 0 < len(e.rows) < len(test_x)]
        chosen = covering_points(test_x / _extent(source), size.n_test, conditions)
        key = test_x[chosen].tobytes()
        if key not in numbers:
            numbers[key] = len(meshes)
            blob = Blob()
            mesh = _mesh(source, chosen, blob)
            meshes.append(mesh | {"blob": blob.name("mesh", blobs)})
        blob = Blob()
        model = {"mesh": numbers[key], **model_payload(source, chosen, size, blob)}
        models.append(model | {"blob": blob.name("model", blobs)})
    first = sources[0]
    return {
        "axes": list(first.inputs),
        "equal": first.problem is not None and not first.problem.has_time,
        "units": _units(first),
        "sums": LOSSES,
        "meshes": meshes,
        "models": models,
    }


def model_payload(source: Source, chosen: np.ndarray, size: Size, blob: Blob) -> dict[str, Any]:
    """One model: what it is, its embeddings in half precision, and how far its scores are off."""
    scores, metadata = source.scores, source.scores.metadata
    test = at_points(scores.test, chosen, len(scores.test_x))
    integrals = source.integrals()
    rows = {f"integral {name}": Embedding(i.embedding, FIRST) for name, i in integrals.items()}
    train, small = reduced(scores.train, test | rows, size.rank, scores.terms)
    coded = {name: small[name] for name in test}
    shown_train, terms = _coded(train, len(scores.train_x), size.narrow, blob)
    shown_test, quantities = _derived(coded, source, len(chosen), size.narrow, blob)
    shown = shown_train, shown_test
    wrong = errors((scores.train, test), shown, scores.groups, ERROR_ROWS)
    return {
        "name": source.name,
        "rank": next(iter(train.values())).values.shape[1],
        "file_rank": scores.rank,
        "n_test": len(chosen),
        "n_test_of_file": len(scores.test_x),
        "recipe": metadata.get("recipe", {}),
        "damping": metadata.get("damping"),
        **_worth(metadata.get("recipe", {})),
        "agreement": source.agreement(),
        "groups": scores.groups,
        "train_x": blob.add(scores.train_x.astype(np.float32)),
        "test_index": blob.add(chosen.astype(np.int32)),
        "terms": terms,
        "quantities": {k: {"loss": k in scores.terms, **quantities[k]} for k in test},
        "integrals": {
            name: {"vector": blob.add(small[row].values[0]), "value": i.value, "error": i.error}
            for (name, i), row in zip(integrals.items(), rows, strict=True)
        },
        **_fields(source, chosen, blob),
        "typical": _typical(source, test, blob),
        "bits": 8 if size.narrow else 16,
        "errors": wrong,
        "unresolved": [k for k, e in wrong.items() if _median_error(e) > UNRESOLVED],
        "error_points": min(ERROR_ROWS, len(chosen)),
        "compression": metadata.get("compression", {}).get("errors", {}),
    }


def _median_error(errors: Mapping[str, Any]) -> float:
    """Of the rows, over all loss terms together."""
    return float(errors["together"]["rows"]["median"])


def _fields(source: Source, chosen: np.ndarray, blob: Blob) -> dict[str, Any]:
    """What lies behind the points: at the test points, and the leverage at the training points."""
    points = source.scores.test_x[chosen]
    fields = {
        "predicted": source.predicted(chosen),
        "estimated": source.estimated(points),
        "helping": source.helping(points),
        "residual": source.residuals(points),
        "leverage": source.leverage(),
    }
    return {
        kind: {name: blob.add(values.astype(np.float32)) for name, values in named.items()}
        for kind, named in fields.items()
    }


def _worth(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Whether scores of a recipe predict retraining, and a note that says so beside each number.

    They do, to first order, with the whole curvature of the loss that was trained; they do not
    with that of the plain sum of squares. In between it has not been measured.
    """
    trained, full = recipe.get("weighting") == "training", recipe.get("rank") == "full"
    words = "agreement with retraining not measured"
    if trained and full:
        words = "predicts retraining to first order"
    elif recipe.get("weighting") == "uniform":
        words = "not a prediction of retraining"
    note = f"recipe {recipe.get('name', 'not stated')}: {words}"
    return {"predicts": trained and full, "note": note}


def _typical(source: Source, test: Side, blob: Blob) -> dict[str, Any]:
    """Root mean squares of the influence on the fields, by all factors of the file."""
    scores = source.scores
    n = len(scores.train_x), max(len(embedding.rows) for embedding in test.values())
    return {
        name: {side: blob.add(v) for side, v in typical(scores.train, test, name, n).items()}
        for name in source.fields
        if len(test[name].rows) == n[1]
    }


def _derived(
    test: Side, source: Source, n_test: int, in_bytes: bool, blob: Blob
) -> tuple[dict[str, Embedding], dict[str, Any]]:
    """As ``_coded``; quantities that follow from the outputs by factors have only those."""
    outputs = source.outputs
    derived = {
        name: factors
        for name in source.fields
        if name not in outputs
        and (factors := coefficients(test, name, outputs, n_test)) is not None
    }
    others = {name: embedding for name, embedding in test.items() if name not in derived}
    shown, entries = _coded(others, n_test, in_bytes, blob)
    for name, factors in derived.items():
        whole = sum(factors[:, [k]] * shown[output].values for k, output in enumerate(outputs))
        shown[name] = Embedding(np.asarray(whole, np.float32), test[name].rows)
        entries[name] = {"of": list(outputs), "factors": blob.add(factors)}
    return shown, entries


def _coded(
    side: Side, n_points: int, in_bytes: bool, blob: Blob
) -> tuple[dict[str, Embedding], dict[str, Any]]:
    """Embeddings in 8 or 16 bits, on the acting rows only: as the page sees and finds them."""
    shown: dict[str, Embedding] = {}
    entries: dict[str, Any] = {}
    for name, embedding in side.items():
        if in_bytes:
            codes, scales = narrow(embedding.values)
            values = from_narrow(codes, scales)
            how: dict[str, Any] = {"scales": blob.add(scales)}
        else:
            codes, scale = half(embedding.values)
            values, how = from_half(codes, scale), {"scale": scale}
        shown[name] = Embedding(values, embedding.rows)
        entries[name] = {"values": blob.add(codes) | how}
        if len(embedding.rows) < n_points:
            short = np.uint16 if n_points <= 2**16 else np.int32
            entries[name]["rows"] = blob.add(np.asarray(embedding.rows).astype(short))
    return shown, entries


def _mesh(source: Source, chosen: np.ndarray, blob: Blob) -> dict[str, Any]:
    """Test points, in a plane their triangles, and the reference's fields."""
    points, extent = source.scores.test_x[chosen], _extent(source)
    reference = source.reference(points)
    domain = None if source.problem is None else source.problem.domain
    return {
        "points": blob.add(points.astype(np.float32)),
        "triangles": blob.add(
            triangles_of(points, domain, extent) if points.shape[1] == 2 else NO_TRIANGLES
        ),
        "reference": {k: blob.add(v.astype(np.float32)) for k, v in reference.items()},
    }


def _extent(source: Source) -> np.ndarray:
    """Lengths of the axes that drawings make equal, ``[n_inputs]``: 1 where all are in space."""
    if source.problem is not None and not source.problem.has_time:
        return np.ones(len(source.inputs))
    size = np.ptp(source.scores.test_x.astype(np.float64), axis=0)
    return np.where(size > 0, size, 1.0)


def _units(source: Source) -> dict[str, str]:
    """Units of coordinates and fields, where they are known."""
    symbols = {} if source.problem is None else source.problem.drawing.symbols
    return {name: plain_unit(unit) for name, (_, unit) in symbols.items() if unit}
