"""Figures of the validation: what they show, and that they are drawn."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import PathCollection
from validation_results import LOST, N_GROUPS, N_TEST, WORST, write_results

from pinnfluence.plots import style, validation, validation_tables
from pinnfluence.validation.results import MATCHED, SPECTRUM, read


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return read(write_results(tmp_path_factory.mktemp("results"), with_spectrum=True))


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    return [
        read(write_results(folder, f"removal_{weight:.0e}", weight)) for weight in (1e-3, 1e-5, 0.0)
    ]


def check_drawn(figure):
    assert image.imread(io.BytesIO(style.render(figure, dpi=60)))[..., :3].std() > 0.02


def places(line):
    return np.asarray(line.get_xydata(), float)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def lines_by_label(axis):
    return {container.get_label(): container.lines[0] for container in axis.containers}


def test_scatter_shows_every_pair(found):
    figure = validation.scatter_figure(found, "heat")
    check_drawn(figure)
    for number, row in enumerate((figure.axes[:3], figure.axes[3:])):
        for axis, method in zip(row, ("paper", "gauss-newton", MATCHED), strict=True):
            drawn = [line for line in axis.lines if line.get_marker() == "."]
            assert [line.get_label() for line in drawn] == ["edge", "pde"]
            pairs = np.concatenate([places(line) for line in drawn])
            good = np.arange(N_GROUPS) != LOST
            assert len(pairs) == (N_GROUPS - 1) * N_TEST
            expected = found.predicted[method][good, :, number].ravel()
            np.testing.assert_array_equal(np.sort(pairs[:, 0]), np.sort(expected))
            actual = found.changes[good, :, number].ravel()
            np.testing.assert_array_equal(np.sort(pairs[:, 1]), np.sort(actual))
            value = found.row(method, "uv"[number]).agreement.spearman.value
            assert axis.get_title(loc="left") == f"{method}: {value:.3f}"
            assert axis.get_xlim() == axis.get_ylim()


def test_scatter_limits_its_dots(found, monkeypatch):
    monkeypatch.setattr(validation, "MOST_PAIRS", 50)
    axis = validation.scatter_figure(found).axes[0]
    assert sum(len(places(line)) for line in axis.lines if line.get_marker() == ".") == 50


def test_spectrum_figure(found):
    figure = validation.spectrum_figure(found, "u", "heat")
    check_drawn(figure)
    left, right = figure.axes
    by_label = lines_by_label(left)
    assert set(by_label) == {
        f"{curvature}, {weighting}"
        for curvature in ("hessian", "gauss-newton")
        for weighting in ("uniform", "training")
    }
    rows = {
        (r.curvature, r.weighting, r.rank, r.damping): r.agreement.spearman.value
        for r in found.rows
        if r.method == SPECTRUM and r.quantity == "u"
    }
    x, y = by_label["hessian, uniform"].get_data()
    np.testing.assert_array_equal(x, [1e-8, 1e-6, 1e-4])
    np.testing.assert_array_equal(y, [rows["hessian", "uniform", "full", d] for d in x])
    for weighting, damping in (("uniform", 1e-6), ("training", 1e-8)):  # those of the recipes
        x, y = lines_by_label(right)[f"hessian, {weighting}"].get_data()
        np.testing.assert_array_equal(x, [10, 50, 400])
        ranks = (10, 50, "full")
        np.testing.assert_array_equal(y, [rows["hessian", weighting, r, damping] for r in ranks])
    stars = {tuple(places(line)[0]) for line in left.lines if line.get_marker() == "*"}
    chosen = [found.row(name, "u") for name in ("paper", "gauss-newton")]
    assert stars == {(row.damping, row.agreement.spearman.value) for row in chosen}


def test_proximal_figure(experiments):
    figure = validation.proximal_figure(experiments, "v", 1e-5, "heat")
    check_drawn(figure)
    (axis,) = figure.axes
    by_label = lines_by_label(axis)
    assert list(by_label) == ["paper", "gauss-newton", MATCHED]
    x, y = by_label["gauss-newton"].get_data()
    np.testing.assert_allclose(x, [1e-6, 1e-5, 1e-3])  # no weight stands at a tenth of the least
    expected = [e.row("gauss-newton", "v").agreement.spearman.value for e in reversed(experiments)]
    np.testing.assert_array_equal(y, expected)
    (headline,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert places(headline)[0, 0] == 1e-5


def test_proximal_table(experiments):
    without = replace(experiments[-1], predicted={"paper": experiments[-1].predicted["paper"]})
    chosen = [*experiments[:-1], without]
    words = texts(validation_tables.proximal_table_figure(chosen, "v", "heat"))
    assert words.count("29 of 30") == len(chosen)
    for one in chosen:
        drift = one.facts["control"]["drift"][1]
        norm = np.median(one.gradient_norms)
        weight = one.facts["settings"]["proximal"]
        assert {f"{weight:.0e}", f"{norm:.1e}", f"{drift:.1e}"} <= set(words)
        found = one.row("paper", "v").agreement
        assert {f"{f.value:.3f}" for f in (found.pearson, found.slope)} <= set(words)
    assert words.count("slope") == 3
    assert words.count("") >= 6  # the methods that the last one lacks


def test_single_points_figure(found):
    figure = validation.single_points_figure(found, "u", "gauss-newton", "heat")
    check_drawn(figure)
    place, leverage, effect = figure.axes
    (scatter,) = [c for c in place.collections if isinstance(c, PathCollection)]
    offsets, colours = (np.asarray(a, float) for a in (scatter.get_offsets(), scatter.get_array()))
    assert len(offsets) == N_GROUPS - 1
    np.testing.assert_allclose(offsets[np.argmin(colours)], found.train_x[2 * WORST])
    known = found.by_group("gauss-newton", "u")
    for axis, values in ((leverage, 1 - known.leverage), (effect, known.effect)):
        drawn = np.concatenate([places(line) for line in axis.lines])
        np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(values))
        np.testing.assert_allclose(np.sort(drawn[:, 1]), np.sort(known.error))


def test_tables(found):
    figure = validation_tables.agreement_figure(found.rows, "heat")
    check_drawn(figure)
    words = texts(figure)
    row = found.row("gauss-newton", "v").agreement
    for interval in (row.pearson, row.spearman, row.slope):
        assert str(interval) in words
    assert f"{row.by_test.median} ({row.by_test.low:.2f})" in words
    assert words.count("random scores") == 2
    assert SPECTRUM not in words
    stages = texts(validation_tables.stages_figure({"": found, "early": found}))
    assert {"last", "early", "29 of 30", "3.0e-07", "1e-05"} <= set(stages)
    assert stages.count(str(found.row("paper", "u").agreement.spearman)) == 2
    worst = texts(validation_tables.worst_points_figure(found, "u", n=3))
    assert str(2 * WORST) in worst
    assert worst.count("pde") + worst.count("edge") == 3


def test_methods_that_are_missing_are_left_out(found):
    known = {name: values for name, values in found.predicted.items() if name != MATCHED}
    assert validation.drawn_methods(found) == ["paper", "gauss-newton", MATCHED]
    without = replace(found, predicted=known)
    assert validation.drawn_methods(without) == ["paper", "gauss-newton"]
    assert len(validation.scatter_figure(without).axes) == 4
    assert "" in texts(validation_tables.stages_figure({"": without}))
