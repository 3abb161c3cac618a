"""Small models with scores for tests of the explorer, and a reader of its pages."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinnfluence import MLP, Influence, Recipe
from pinnfluence.models.trained_model import load_model
from pinnfluence.problem.problem import Problem
from pinnfluence.problems import cylinder_flow
from pinnfluence.scores.file import Scores, load_scores
from pinnfluence.storage.checkpoint import save_checkpoint
from pinnfluence.storage.config import save_config

RANK = 12


def make_model(
    folder: Path, problem: Problem, train_x: np.ndarray, test_x: np.ndarray, seed: int = 0
) -> Path:
    """A random network in ``folder``; its scores are in ``<folder>_influences``, the result."""
    layers = (2, 6, 6, len(problem.outputs))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MLP(layers, problem.network.activation, problem.network.scale).double()
    save_checkpoint(folder / "adam-10.pt", network.state_dict(), {})
    config = {
        "problem": problem.name,
        "variant": next(iter(problem.variants)),
        "conditions": next(iter(problem.conditions)),
        "layers": list(layers),
        "activation": problem.network.activation,
        "scale": list(problem.network.scale),
    }
    save_config(folder / "config.json", config)
    np.save(folder / "train_x.npy", train_x)
    model = load_model(folder)
    scores = Influence(model.pinn, train_x, Recipe(rank=RANK)).influence(test_x)
    scores.metadata |= model.provenance()
    target = folder.with_name(f"{folder.name}_influences")
    scores.save(target)
    return target


def flow_files(
    folder: Path, flow_points: Any, n_inside: int = 228, walls: np.ndarray | None = None
) -> list[Path]:
    """Score files of two networks for the flow, at points of the reference solution.

    By default those are fewer than the points at which errors are measured.
    """
    points = cylinder_flow.reference().points
    inside = points[np.random.default_rng(1).permutation(len(points))[:n_inside]]
    if walls is None:
        x, y = points.T
        walls = np.concatenate([points[at][7:11] for at in (x == 0, x == x.max(), y == 0)])
    test_x = np.concatenate([inside, walls])
    return [
        make_model(folder / name, cylinder_flow.PROBLEM, flow_points(n_train, seed), test_x, seed)
        for name, n_train, seed in (("first", 40, 1), ("second", 25, 2))
    ]


def load(path: Path) -> Scores:
    """Scores of embeddings."""
    scores = load_scores(path)
    assert isinstance(scores, Scores)
    return scores


def read_page(path: Path, problem: int = 0) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The description of one of a page's problems, and the bytes of the page's blobs."""
    text = path.read_text("utf-8")
    blobs = re.findall(r'<script type="text/plain" id="blob-(\w+)">(.*?)</script>', text, re.DOTALL)
    described = re.search(r'id="description">(.*?)</script>', text, re.DOTALL)
    assert described is not None
    found = {name: zlib.decompress(b64decode(content)) for name, content in blobs}
    return json.loads(described.group(1))["problems"][problem], found


def read_array(blob: bytes, entry: dict[str, Any]) -> np.ndarray:
    """One array of a blob, as the page reads it."""
    n, start = int(np.prod(entry["shape"])), entry["start"]
    if entry["type"] == "f2":
        low, high = np.frombuffer(blob, np.uint8, 2 * n, start).reshape(2, n).astype(np.uint16)
        values = (low + 256 * high).view(np.float16).astype(np.float64) * entry["scale"]
    elif entry["type"] == "i1":
        codes = np.frombuffer(blob, np.int8, n, start).reshape(entry["shape"])
        values = codes * read_array(blob, entry["scales"])[:, None]
    else:
        values = np.frombuffer(blob, "<" + entry["type"], n, start)
    return values.reshape(entry["shape"])
