"""What belongs to a score file: its checkpoint, diagnosis and validation; and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from explorer_files import flow_files, load, read_array, read_page

from pinnfluence import InputError, Scores
from pinnfluence.diagnosis import files as files_of_diagnosis
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.explorer import write_explorer
from pinnfluence.explorer.agreement import find_agreement
from pinnfluence.explorer.integrals import embed_integrals
from pinnfluence.models.trained_model import folder_beside, load_model
from pinnfluence.problems import cylinder_flow
from pinnfluence.scores import tensor_file
from pinnfluence.scores.dense import DenseScores
from pinnfluence.scores.embedding import Embedding
from pinnfluence.storage.files import sha256

EXPLORE = Path(__file__).parents[1] / "explore.py"


@pytest.fixture(scope="module")
def files(tmp_path_factory, flow_points):
    return flow_files(tmp_path_factory.mktemp("explorer"), flow_points)


def test_scores_of_an_own_equation_have_neither_prediction_nor_reference(files, tmp_path):
    scores = load(files[0])
    for key in ("config", "checkpoint"):
        del scores.metadata[key]
    scores.metadata["inputs"] = ["a", "b"]
    scores.save(tmp_path / "own")
    write_explorer(tmp_path / "own.html", [tmp_path / "own"])
    description, _ = read_page(tmp_path / "own.html")
    assert (description["axes"], description["equal"]) == (["a", "b"], False)
    assert not description["models"][0]["predicted"]
    assert not description["meshes"][0]["reference"]


def test_scores_of_a_recipe_beside_the_model_find_its_checkpoint(files, tmp_path):
    """``make demo`` keeps those of ``good`` by ``gauss-newton`` in their own folder beside it."""
    scores = load(files[0])
    model = files[0].with_name(files[0].name.removesuffix("_influences"))
    folder = model.with_name(f"{model.name}_{scores.recipe['base']}_influences")
    try:
        scores.save(folder)
        write_explorer(tmp_path / "page.html", [folder])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    description, _ = read_page(tmp_path / "page.html")
    assert description["models"][0]["predicted"]


def test_the_page_has_the_estimated_error_of_a_diagnosis_of_this_checkpoint(files, tmp_path):
    model = load_model(files[0].with_name(files[0].name.removesuffix("_influences")))
    folder = folder_beside(model.path.parent, "diagnosis")
    rng = np.random.default_rng(0)
    step = rng.standard_normal(model.pinn.n_params) * 1e-3
    path, file = tmp_path / "page.html", folder / files_of_diagnosis.CORRECTION
    try:
        facts = {"network": model.identity}
        places = rng.random((30, 2))
        tensor_file.write(
            file, {"step": step, "candidates": places, "helping": 2 * places[:, 0] - 1}, facts
        )
        write_explorer(path, files[:1])
        description, blobs = read_page(path)
        tensor_file.write(file, {"step": step}, {"network": "another"})
        write_explorer(path, files[:1])
        assert not read_page(path)[0]["models"][0]["estimated"]
        content = bytearray(file.read_bytes())
        content[-3] ^= 1
        file.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            write_explorer(path, files[:1])
    finally:
        shutil.rmtree(folder)
    shown = description["models"][0]
    points = read_array(blobs["mesh0"], description["meshes"][0]["points"])
    found = read_array(blobs["model0"], shown["estimated"]["u"])
    moved = corrected(model.pinn, step).network
    with torch.no_grad():
        x = torch.tensor(points.reshape(-1, 2), dtype=torch.float64)
        expected = (moved(x) - model.pinn.network(x))[:, model.pinn.outputs.index("u")]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    helping = read_array(blobs["model0"], shown["helping"]["a new point"])
    assert helping.shape == (len(expected),)
    assert 0 <= helping.min() < 0.1 < helping.max() <= 1


def test_a_retrained_checkpoint_is_not_taken_for_that_of_the_scores(files, tmp_path):
    path = tmp_path / "page.html"
    first, second = (file.with_name(file.name.removesuffix("_influences")) for file in files)
    (source,) = write_explorer(path, files[:1])
    assert source.checkpoint == first / "adam-10.pt"
    kept = (first / "adam-10.pt").read_bytes()
    try:
        (first / "adam-10.pt").write_bytes((second / "adam-10.pt").read_bytes())
        (source,) = write_explorer(path, files[:1])
    finally:
        (first / "adam-10.pt").write_bytes(kept)
    assert source.checkpoint is None
    assert not read_page(path)[0]["models"][0]["predicted"]
    shutil.copy(first / "adam-10.pt", tmp_path / "theirs.pt")  # without its training points
    (source,) = write_explorer(path, files[:1], [tmp_path / "theirs.pt"])
    assert source.checkpoint == tmp_path / "theirs.pt"
    assert read_page(path)[0]["models"][0]["predicted"]


def replace_train(scores: Scores, parts: dict[str, Embedding]) -> Scores:
    sides = {**scores.train, **parts}, scores.test
    return Scores(scores.train_x, scores.test_x, *sides, scores.metadata, scores.eigenvalues)


def test_what_cannot_be_drawn_is_refused(files, tmp_path):
    scores, path = load(files[0]), tmp_path / "page.html"
    dense = {"output_dim_0": np.zeros((2, 3), "f4"), "train_x": np.zeros((3, 2), "f4")}
    DenseScores(dense | {"test_x": np.zeros((2, 2), "f4")}, ("u",)).save(tmp_path / "dense.npz")
    with pytest.raises(InputError, match="found whole matrices"):
        write_explorer(path, [tmp_path / "dense.npz"])
    wide = Scores(
        np.pad(scores.train_x, ((0, 0), (0, 1))),
        np.pad(scores.test_x, ((0, 0), (0, 1))),
        scores.train,
        scores.test,
        scores.metadata,
        scores.eigenvalues,
    )
    wide.save(tmp_path / "wide")
    with pytest.raises(InputError, match=r"coordinates x, y of cylinder_flow, found 3"):
        write_explorer(path, [tmp_path / "wide"])
    with pytest.raises(InputError, match="a checkpoint for each of the 2"):
        write_explorer(path, files, [tmp_path])
    other = files[1].with_name(files[1].name.removesuffix("_influences"))
    with pytest.raises(InputError, match="is not the checkpoint of the scores in"):
        write_explorer(path, files[:1], [other])
    term = next(iter(scores.train))
    broken = Embedding(np.full_like(scores.train[term].values, np.nan), scores.train[term].rows)
    replace_train(scores, {term: broken}).save(tmp_path / "nan")
    with pytest.raises(InputError, match=f"the term {term} has NaN or infinity at"):
        write_explorer(path, [tmp_path / "nan"])
    assert not path.exists()


def test_the_influence_on_drag_follows_from_test_points_near_the_cylinder(files):
    """Central differences in three random directions of the parameters, of drag and of fields."""
    model = load_model(files[0].with_name(files[0].name.removesuffix("_influences")))
    points = cylinder_flow.reference().points
    near = points[np.linalg.norm(points - (0.2, 0.2), axis=1) < 0.09]
    parameters, outputs = list(model.pinn.network.parameters()), model.pinn.outputs
    rng, drag_of = np.random.default_rng(0), cylinder_flow.PROBLEM.measures
    integrals = cylinder_flow.integrals()
    assert drag_of is not None

    def moved(direction, step: float) -> tuple[float, np.ndarray]:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
            predicted = model.predict(near)
            drag = drag_of(model.fields)["drag"]
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=step)
        return drag, np.stack([predicted[name] for name in outputs])

    slopes = []
    for _ in range(3):
        direction = [torch.from_numpy(rng.standard_normal(p.shape)) for p in parameters]
        (more, up), (less, down) = (moved(direction, step) for step in (1e-4, -1e-4))
        slopes.append(((more - less) / 2e-4, (up - down) / 2e-4))
    fields = np.stack([field for _, field in slopes], axis=2)
    test = {n: Embedding(fields[k], np.arange(len(near))) for k, n in enumerate(outputs)}
    found = embed_integrals(model.pinn, integrals, test, near)
    np.testing.assert_allclose(found["drag"].embedding[0], [d for d, _ in slopes], rtol=5e-3)
    assert found["drag"].value == pytest.approx(drag_of(model.fields)["drag"], rel=1e-6)
    assert found["drag"].error < 5e-3
    assert embed_integrals(model.pinn, integrals, test, near[:20]) == {}


def test_agreement_is_that_of_the_same_model_and_recipe(tmp_path):
    row = {"curvature": "gauss-newton", "weighting": "training", "rank": "full", "damping": 2e-3}
    row |= {"method": "gauss-newton", "quantity": "u", "proximal": 1e-4, "n_groups": 100}
    row |= {"spearman": {"value": 0.72, "low": 0.66, "high": 0.771}}
    file = tmp_path / "headline.json"
    file.write_text(json.dumps({"checkpoint": {"sha256": "a"}, "polished": 1e-9, "rows": [row]}))
    recipe = {"base": "gauss-newton", **{k: row[k] for k in ("curvature", "weighting", "rank")}}
    metadata = {"checkpoint": {"sha256": "a"}, "recipe": recipe, "damping": 3e-3}
    found = find_agreement(metadata, [tmp_path / "none.json", file])
    assert found["u"]["spearman"] == 0.72
    assert found["u"]["polished"]
    for change in (
        {"checkpoint": {"sha256": "b"}},
        {"damping": 3e-2},
        {"recipe": recipe | {"weighting": "uniform"}},
        {"recipe": recipe | {"leverage": True}},
    ):
        assert find_agreement(metadata | change, [file]) == {}
    file.write_text("[]")
    with pytest.raises(InputError, match="table of a validation"):
        find_agreement(metadata, [file])


@pytest.mark.parametrize("name", ["good", "heat", "burgers"])
def test_published_validations_are_of_the_committed_weights(name):
    folder = EXPLORE.parent / "model_zoo" / name
    table = json.loads((folder / "validation.json").read_bytes())
    assert table["checkpoint"]["sha256"] == sha256(folder / table["checkpoint"]["name"])
    docs = (EXPLORE.parent / "docs" / "validation.md").read_text("utf-8")
    assert all(f"{row['spearman']['value']:.3f}" in docs for row in table["rows"])
