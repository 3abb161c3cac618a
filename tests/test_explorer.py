"""The explorer's page: what is in it against the score file, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from explorer_files import RANK, flow_files, load, make_model, read_array, read_page
from helpers import assert_refused, run, run_well

from pinnfluence.explorer import payload, size, write_explorer
from pinnfluence.explorer.source_files import find_sources
from pinnfluence.problems import burgers, cylinder_flow, heat

EXPLORE = Path(__file__).parents[1] / "explore.py"


@pytest.fixture(scope="module")
def files(tmp_path_factory, flow_points):
    return flow_files(tmp_path_factory.mktemp("explorer"), flow_points)


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


def test_heat_has_axes_x_and_t(tmp_path):
    rng = np.random.default_rng(0)
    grid = heat.reference().points
    edges = [[0.0, 0.3], [1.0, 0.6], [0.4, 0.0], [0.7, 0.0]]
    train_x = np.concatenate([rng.random((20, 2)), edges]).astype(np.float32)
    make_model(tmp_path / "heat", heat.PROBLEM, train_x, grid[::29])
    write_explorer(tmp_path / "heat.html", [], [tmp_path / "heat"])  # the scores beside it
    description, _ = read_page(tmp_path / "heat.html")
    assert (description["axes"], description["equal"]) == (["x", "t"], False)
    assert set(description["meshes"][0]["reference"]) == {"u"}
    assert description["units"] == {}


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
