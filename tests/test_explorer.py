"""The explorer's page: what is in it against the score file, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from explorer_files import RANK, load, make_model, read_array, read_page
from helpers import assert_refused, run, run_well
from scipy.spatial import cKDTree

from pinnfluence import InputError, Scores
from pinnfluence.diagnosis import files as files_of_diagnosis
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.explorer import packing, payload, size, write_explorer
from pinnfluence.explorer.agreement import find_agreement
from pinnfluence.explorer.integrals import embed_integrals
from pinnfluence.explorer.opening import find_sources
from pinnfluence.explorer.points import covering_points
from pinnfluence.models.trained_model import folder_beside, load_model
from pinnfluence.problems import burgers, cylinder_flow, heat
from pinnfluence.scores import tensor_file
from pinnfluence.scores.dense import DenseScores
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.mesh import triangles_of
from pinnfluence.storage.files import sha256

EXPLORE = Path(__file__).parents[1] / "explore.py"
RATIO = 2.0**-11
"""Half a unit in the last place of float16."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, flow_points):
    """Score files of two networks for the flow, at points of the reference solution."""
    folder = tmp_path_factory.mktemp("explorer")
    points = cylinder_flow.reference().points
    test_x = points[
        np.random.default_rng(1).permutation(len(points))[:228]
    ]  # fewer than those that errors are measured at
    x, y = points.T
    walls = (x == 0, x == x.max(), y == 0)
    test_x = np.concatenate([test_x, *(points[at_wall][7:11] for at_wall in walls)])
    make_model(folder / "first", cylinder_flow.PROBLEM, flow_points(40, 1), test_x, 1)
    make_model(folder / "second", cylinder_flow.PROBLEM, flow_points(25, 2), test_x, 2)
    return [folder / "first_influences", folder / "second_influences"]


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_explorer(path, files)
    return path


def page_embedding(model, blob, entries, name, n) -> np.ndarray:
    entry = entries[name]
    if "of" in entry:
        factors = read_array(blob, entry["factors"])
        parts = [page_embedding(model, blob, entries, output, n) for output in entry["of"]]
        return sum(factors[:, [k]] * part for k, part in enumerate(parts))
    whole = np.zeros((n, model["rank"]))
    rows = read_array(blob, entry["rows"]) if "rows" in entry else np.arange(n)
    whole[rows.astype(int)] = read_array(blob, entry["values"])
    return whole


# ---- points


def test_covering_points_leave_no_place_far_away():
    rng = np.random.default_rng(0)
    points = rng.random((3000, 2)) ** 2  # denser towards two sides
    chosen = covering_points(points, 150)
    assert len(chosen) == 150
    assert (np.diff(chosen) > 0).all()
    gap = cKDTree(points[chosen]).query(points)[0].max()
    random_gaps = [
        cKDTree(points[rng.permutation(3000)[:150]]).query(points)[0].max() for _ in range(5)
    ]
    assert gap < 0.6 * min(random_gaps)
    spacing = cKDTree(points[chosen]).query(points[chosen], k=2)[0][:, 1]
    dense = (points[chosen] < 0.2).all(axis=1)
    assert spacing[dense].mean() < spacing[~dense].mean()


def test_covering_points_keep_a_quarter_for_conditions_and_no_repeated_ones():
    points = np.concatenate([np.random.default_rng(0).random((500, 2)), np.zeros((300, 2))])
    edge = np.arange(40)
    assert np.isin(covering_points(points, 100, [edge[:30], edge[20:]]), edge).sum() >= 25
    assert len(covering_points(points, 700)) == 501
    assert covering_points(points[:5], 5).tolist() == [0, 1, 2, 3, 4]


def test_triangles_leave_the_hole_open_and_fill_the_rest():
    reference = cylinder_flow.reference()
    points = reference.points[covering_points(reference.points, 1500)].astype(np.float64)
    a, b, c = points[triangles_of(points, cylinder_flow.PROBLEM.domain)].transpose(1, 0, 2)
    areas = abs(np.cross(np.pad(b - a, ((0, 0), (0, 1))), np.pad(c - a, ((0, 0), (0, 1))))[:, 2])
    assert areas.sum() / 2 == pytest.approx(reference.area.sum(), rel=5e-3)
    assert (
        triangles_of(points[:2]).shape == triangles_of(np.outer(range(9), [1, 2])).shape == (0, 3)
    )


# ---- packing


def test_half_precision_keeps_eleven_digits_over_nine_decades():
    values = 10 ** np.random.default_rng(0).uniform(-17, -9, 1000) * np.resize([1, -1], 1000)
    found = packing.from_half(*packing.half(values))
    assert abs(found / values - 1).max() <= RATIO * 1.001
    assert not packing.from_half(*packing.half(np.zeros((3, 2)))).any()


def all_products(train: packing.Side, test: packing.Side) -> np.ndarray:
    left, right = (
        np.concatenate([e.values for e in side.values()]).astype(np.float64)
        for side in (test, train)
    )
    return left @ right.T


def test_embeddings_at_some_points_are_those_rows(files):
    scores, chosen = load(files[0]), np.arange(3, 240, 7)
    kept = packing.at_points(scores.test, chosen, len(scores.test_x))
    for name, embedding in kept.items():
        exact = scores.test[name].whole(len(scores.test_x))[chosen]
        np.testing.assert_array_equal(embedding.whole(len(chosen)), exact)


def test_reduced_scores_are_the_best_of_their_rank(files):
    scores = load(files[0])
    sides = scores.train, scores.test
    same, small = packing.reduced(*sides, scores.rank), packing.reduced(*sides, 5)
    exact, found, less = (all_products(*pair) for pair in (sides, same, small))
    assert {e.values.shape[1] for e in (*same[0].values(), *same[1].values())} == {RANK}
    assert {e.values.shape[1] for e in (*small[0].values(), *small[1].values())} == {5}
    assert (abs(found - exact).max(axis=1) <= 1e-4 * abs(exact).max(axis=1)).all()
    rows, columns = (np.linalg.norm(exact, axis=k, keepdims=True) for k in (1, 0))
    rows[rows == 0] = columns[columns == 0] = 1
    balanced = exact / rows / columns
    best = np.linalg.norm(np.linalg.svd(balanced, compute_uv=False)[5:])
    assert np.linalg.norm((less - exact) / rows / columns) == pytest.approx(best, rel=1e-3)


def test_speed_is_derived_from_the_outputs_and_derivatives_are_not(files):
    scores = load(files[0])
    model_u, model_v = (scores.test[name].values for name in "uv")
    found = packing.coefficients(scores.test, "speed", ("u", "v", "p"), 240)
    assert found is not None
    again = found[:, [0]] * model_u + found[:, [1]] * model_v
    np.testing.assert_allclose(again, scores.test["speed"].values, atol=1e-5 * abs(again).max())
    np.testing.assert_allclose(found[:, 0] ** 2 + found[:, 1] ** 2, 1, rtol=1e-4)  # a unit vector
    assert packing.coefficients(scores.test, "continuity", ("u", "v", "p"), 240) is None
    assert packing.coefficients(scores.test, "noslip_u", ("u", "v", "p"), 240) is None


def test_errors_are_those_of_a_loop_over_all_pairs(files):
    exact = load(files[1])
    rng = np.random.default_rng(0)
    noisy = {
        name: Embedding((e.values * rng.normal(1, 1e-3, e.values.shape)).astype("f4"), e.rows)
        for name, e in exact.test.items()
    }
    shown = Scores(exact.train_x, exact.test_x, exact.train, noisy, exact.metadata)
    found = packing.errors((exact.train, exact.test), (exact.train, noisy), exact.groups, 10**6)
    for quantity in ("p", "inflow_u", "pde"):
        by_row, by_column = [], []
        for terms in [*exact.terms, *exact.groups]:
            true = np.asarray(exact.matrix(quantity, terms), np.float64)
            wrong = abs(np.asarray(shown.matrix(quantity, terms)) - true)
            by_row += [w.max() / abs(t).max() for w, t in zip(wrong, true, strict=True) if t.any()]
            by_column += [
                w.max() / abs(t).max() for w, t in zip(wrong.T, true.T, strict=True) if t.any()
            ]
        for axis, errors in (("rows", by_row), ("columns", by_column)):
            assert found[quantity][axis]["largest"] == pytest.approx(max(errors), rel=2e-2)
            assert found[quantity][axis]["median"] == pytest.approx(np.median(errors), rel=2e-2)


# ---- the page


def test_products_in_the_page_are_the_scores_within_the_stated_error(files, written):
    description, blobs = read_page(written)
    assert [model["name"] for model in description["models"]] == ["first", "second"]
    for i, model in enumerate(description["models"]):
        scores, blob = load(files[i]), blobs[f"model{i}"]
        n_test, n_train = model["n_test"], len(scores.train_x)
        index = read_array(blob, model["test_index"])
        np.testing.assert_array_equal(read_array(blob, model["train_x"]), scores.train_x)
        mesh_x = read_array(blobs["mesh0"], description["meshes"][0]["points"])
        np.testing.assert_array_equal(mesh_x, scores.test_x[index])
        parts = [page_embedding(model, blob, model["terms"], t, n_train) for t in scores.terms]
        train = np.sum(parts, axis=0)
        for quantity in scores:
            names = scores.groups.get(quantity, [quantity])
            left = sum(
                page_embedding(model, blob, model["quantities"], name, n_test) for name in names
            )
            exact = np.asarray(scores[quantity], np.float64)[index]
            wrong = abs(left @ train.T - exact).max(axis=1)
            stated = model["errors"][quantity]["rows"]["largest"]
            allowed = 1.02 * stated + 1e-5  # and float32 of what the stated error compares with
            assert (wrong <= allowed * abs(exact).max(axis=1)).all(), quantity
            assert model["errors"][quantity]["rows"]["median"] < 5e-3


def test_page_holds_acting_rows_only_and_no_sum_and_no_speed(written):
    description, _ = read_page(written)
    for model in description["models"]:
        assert not {"pde", "bcs", "all"} & set(model["quantities"])
        assert model["quantities"]["speed"]["of"] == ["u", "v", "p"]
        assert "rows" in model["terms"]["noslip_u"]
        assert model["terms"]["noslip_u"]["values"]["shape"][0] < model["train_x"]["shape"][0]
    assert len(description["meshes"]) == 1  # both models have the same test points


def test_page_has_prediction_and_reference(files, written):
    description, blobs = read_page(written)
    reference = cylinder_flow.reference()
    points = read_array(blobs["mesh0"], description["meshes"][0]["points"])
    row = int(np.flatnonzero((reference.points == points[7]).all(axis=1))[0])
    fields = description["meshes"][0]["reference"]
    u, v, speed = (read_array(blobs["mesh0"], fields[k])[7] for k in ("u", "v", "speed"))
    assert u == reference.values["u"][row]
    assert speed == pytest.approx(np.hypot(u, v))
    predicted = description["models"][0]["predicted"]
    u, v, speed = (read_array(blobs["model0"], predicted[k]) for k in ("u", "v", "speed"))
    np.testing.assert_allclose(speed, np.hypot(u, v), rtol=1e-5)
    assert description["units"]["p"] == "Pa"


def test_page_is_one_file_that_asks_for_no_other_and_repeats(files, written, tmp_path):
    again = tmp_path / "again.html"
    write_explorer(again, files)
    text = written.read_text("utf-8")
    assert again.read_text("utf-8") == text
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text


def test_test_points_and_rank_are_limited(files, tmp_path):
    path = tmp_path / "small.html"
    write_explorer(path, files[:1], n_test=60, rank=4)
    (model,) = read_page(path)[0]["models"]
    assert (model["n_test"], model["n_test_of_file"]) == (60, 240)
    assert (model["rank"], model["file_rank"]) == (4, RANK)
    assert model["errors"]["u"]["rows"]["median"] > 1e-2  # and says what that costs


def test_large_models_have_fewer_points_then_bits_then_factors(files, monkeypatch):
    sources = find_sources(files)
    assert size.numbers(sources, 0, 1) > sum(len(load(file).train_x) for file in files)
    whole, least = (size.numbers(sources, n, RANK) for n in (240, 100))
    monkeypatch.setattr(size, "LEAST_POINTS", 100)
    monkeypatch.setattr(size, "LEAST_RANK", 1)
    found, sizes = [], []
    for numbers, width in (
        (2 * whole, size.HALF_BYTES),
        ((whole + least) / 2, size.HALF_BYTES),
        ((whole + least) / 2, size.NARROW_BYTES),
        (least / 2, size.NARROW_BYTES),
    ):
        monkeypatch.setattr(size, "FILE_BYTES", int(numbers * width) + 1)
        found.append(size.affordable(sources, 240, None))
        description, blobs = payload.build_payload(sources)
        models = description["problems"][0]["models"]
        assert {model["n_test"] for model in models} == {found[-1].n_test}
        assert {model["rank"] for model in models} == {found[-1].rank}
        assert {model["bits"] for model in models} == {8 if found[-1].narrow else 16}
        sizes.append(sum(map(len, blobs.values())))
    assert found[0] == size.Size(240, RANK, False)
    assert 100 < found[1].n_test < 240
    assert not found[1].narrow
    assert found[2] == size.Size(found[1].n_test, RANK, True)
    assert found[3].rank < RANK
    assert sizes == sorted(sizes, reverse=True)


def test_eight_bits_are_off_by_half_a_step():
    values = np.random.default_rng(0).standard_normal((50, 9)) * 10.0 ** np.arange(-25, 25)[:, None]
    values[7] = 0
    shown = packing.from_narrow(*packing.narrow(values))
    step = abs(values).max(1) / 127
    assert (abs(shown - values) <= 0.5001 * step[:, None]).all()


def test_typical_influence_is_the_root_mean_square(files):
    scores = load(files[0])
    n = len(scores.train_x), len(scores.test_x)
    exact = np.square(np.asarray(scores["u"], np.float64))
    typical = packing.typical(scores.train, scores.test, "u", n)
    np.testing.assert_allclose(typical["row"], exact.mean(0) ** 0.5, rtol=1e-4)
    np.testing.assert_allclose(typical["column"], exact.mean(1) ** 0.5, rtol=1e-4)


def test_factors_that_are_left_out_are_those_of_losses(files):
    """At half the rank, outputs are closer to the file when losses weigh less."""
    scores = load(files[0])
    exact = np.asarray(scores["u"], np.float64)

    def error(less) -> float:
        train, test = packing.reduced(scores.train, scores.test, RANK // 2, less)
        total = np.sum([e.whole(len(scores.train_x)) for e in train.values()], axis=0)
        return float(np.linalg.norm(test["u"].values @ total.T - exact))

    assert error(scores.terms) < 0.5 * error(())


def test_heat_has_axes_x_and_t(tmp_path):
    rng = np.random.default_rng(0)
    grid = heat.reference().points
    edges = [[0.0, 0.3], [1.0, 0.6], [0.4, 0.0], [0.7, 0.0]]
    train_x = np.concatenate([rng.random((20, 2)), edges]).astype(np.float32)
    make_model(tmp_path / "heat", heat.PROBLEM, train_x, grid[::29])
    write_explorer(tmp_path / "heat.html", [tmp_path / "heat_influences"])
    description, _ = read_page(tmp_path / "heat.html")
    assert (description["axes"], description["equal"]) == (["x", "t"], False)
    assert set(description["meshes"][0]["reference"]) == {"u"}
    assert description["units"] == {}


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


# ---- refusals and the script


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


def test_heat_and_burgers_are_two_problems(tmp_path):
    """Both have u of x and t; none is drawn in the place of the other."""
    for problem in (heat.PROBLEM, burgers.PROBLEM):
        assert problem.reference is not None
        points = problem.reference().points
        make_model(tmp_path / problem.name, problem, points[::997], points[::409])
    paths = [tmp_path / f"{name}_influences" for name in ("heat", "burgers", "heat")]
    write_explorer(tmp_path / "page.html", paths)
    shown = [read_page(tmp_path / "page.html", number) for number in (0, 1)]
    assert [description["name"] for description, _ in shown] == ["heat", "burgers"]
    assert [len(description["models"]) for description, _ in shown] == [2, 1]
    for (description, blobs), path in zip(shown, paths, strict=False):
        model = description["models"][0]
        train_x = read_array(blobs[model["blob"]], model["train_x"])
        np.testing.assert_array_equal(train_x, load(path).train_x)


def test_script(files, tmp_path):
    path = tmp_path / "page.html"
    result = run_well(EXPLORE, *files, "-o", path)
    assert f"wrote {path}" in result.stdout
    assert "second: rank 12" in result.stdout
    assert_refused(
        run(EXPLORE, tmp_path / "none", "-o", path), "no score file", "pinnfluence scores"
    )
    assert_refused(run(EXPLORE, files[0], "-o", tmp_path), "--output", ".html")
    assert_refused(run(EXPLORE, files[0], "-o", path, "--rank", 0), "--rank", "at least 1")


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
