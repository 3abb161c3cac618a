"""Tables and courses of trainings as figures: what they say, and that nothing overlaps."""

import numpy as np
import pytest
from drawn import LABELS, QUANTITIES, title_of
from matplotlib.collections import LineCollection

from pinnfluence.plots import recipes as recipe_plots
from pinnfluence.plots import tables
from pinnfluence.plots.history import history_figure
from pinnfluence.reference.comparison import ErrorRow
from pinnfluence.scores.indicators import INDICATORS, IndicatorRow


def indicator_rows(models, recipes=("paper",)):
    return [
        IndicatorRow(model, recipe, quantity, kind, 0.604, 0.256, 0.5, 0.02, 0.41, 0.83, 9, 1)
        for model in models
        for recipe in recipes
        for quantity in QUANTITIES
        for kind in INDICATORS
    ]


@pytest.mark.parametrize("models", [["good", "broken", "bad"], ["a", "b", "c", "d", "e"]])
@pytest.mark.parametrize("indicator", INDICATORS)
def test_indicator_table(models, indicator):
    figure = tables.indicator_figure(indicator_rows(models), indicator, LABELS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("0.60 (0.50)") == texts.count("0.26 (0.02)") == 7 * len(models)
    for name in [*models, "$u_1$", "PDE loss", "BC loss", "all losses"]:
        assert texts.count(name) == 1
    assert INDICATORS[indicator].about in " ".join(texts[-1].split())
    check_no_overlap(figure)


def test_indicators_of_recipes():
    models, recipes = ["good", "bad", "bad_43"], ["gauss-newton", "paper"]
    rows = indicator_rows(models, recipes)
    del rows[-1]  # a model that one recipe lacks
    figure = recipe_plots.recipes_figure(rows, LABELS)
    lines = np.reshape(np.array(figure.axes), (len(INDICATORS), len(QUANTITIES)))
    for line, indicator in zip(lines, INDICATORS, strict=True):
        assert title_of(line[0]) == f"{indicator}: $u_1$"
        for axis, quantity in zip(line[1:], QUANTITIES[1:], strict=True):
            assert title_of(axis) == LABELS.symbol(quantity)
    for axis in figure.axes:
        dots = [line for line in axis.lines if line.get_marker() == "o"]
        assert [line.get_label() for line in dots] == recipes
        assert set(np.concatenate([line.get_xdata() for line in dots])) == {0.604}
        assert len(set(np.concatenate([line.get_ydata() for line in dots]))) >= 5
        for bars in axis.collections:
            assert isinstance(bars, LineCollection)
            assert all(part[:, 0].tolist() == [0.41, 0.83] for part in bars.get_segments())
        uniform = [np.asarray(line.get_xdata()) for line in axis.lines if line not in dots]
        assert [line.tolist() for line in uniform] == [[0.5, 0.5]] * len(models)
    assert [text.get_text() for text in lines[0, 0].get_yticklabels()] == models
    assert all(text.get_rotation() == 0 for text in lines[0, 0].get_yticklabels())
    assert [text.get_text() for text in figure.legends[0].texts] == recipes


@pytest.mark.parametrize("indicator", INDICATORS)
def test_table_of_recipes(indicator):
    models, recipes = ["good", "bad", "bad_43"], ["paper", "gauss-newton"]
    rows = indicator_rows(models, recipes)
    del rows[-1]  # a model that one recipe lacks
    table = recipe_plots.recipes_table_figure(rows, indicator, LABELS)
    texts = [text.get_text() for text in table.axes[0].texts]
    missing = indicator == list(INDICATORS)[-1]
    n_cells = len(models) * len(QUANTITIES)
    assert texts.count("0.60 [0.41, 0.83]") == 2 * n_cells - missing
    assert texts.count("0.50") == n_cells
    assert INDICATORS[indicator].about in " ".join(texts[-1].split())
    check_no_overlap(table)


def test_error_table():
    rows = [ErrorRow("good", name, 0.1234, 0.05678, 9) for name in ("u", "v", "p", "speed")]
    figure = tables.error_table_figure(rows, LABELS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("0.123") == texts.count("0.0568") == 4
    check_no_overlap(figure)


def test_report_of_numbers_in_groups():
    report = {"gradient_norm": 1.23456e-5, "loss": {"inflow_u": 0.5}, "steps": 20}
    figure = tables.report_figure({"good": report, "bad": report | {"loss": {}}})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "loss: inflow u" in texts
    assert texts.count("1.23e-05") == 2
    assert texts.count("0.5") == 1
    check_no_overlap(figure)


def test_stationarity_says_what_it_compares():
    facts = {"ratio": 142.0, "most_negative_eigenvalue": 0.242, "gradient_norm": 1.26}
    figure = tables.report_figure({"good": facts | {"losses": {"ratio": 1.0}}})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "smallest eigenvalue that was seen" in texts
    assert "norm of the loss gradient / median of a point's" in texts
    assert "losses: ratio" in texts
    assert not {"ratio", "most negative eigenvalue"} & set(texts)
    check_no_overlap(figure)


def test_curves_mark_where_the_optimiser_changed():
    history = {"step": np.array([0, 50, 100, 130, 150]), "pde": np.arange(5, 0, -1.0)}

    def marks(**lengths):
        (axis,) = history_figure(history, config=lengths).axes
        lines = [
            np.asarray(line.get_xdata())[0] for line in axis.lines if line.get_linestyle() == "--"
        ]
        first, *later = [text.get_text() for text in axis.texts] or [""]
        return [*filter(None, [first]), *zip(lines, later, strict=True)]

    assert marks(n_iterations=100, n_iterations_lbfgs=80) == ["Adam", (100, "L-BFGS")]
    assert marks(n_iterations=100, n_iterations_lm=70) == ["Adam", (100, "LM")]
    both = marks(n_iterations=100, n_iterations_lbfgs=30, n_iterations_lm=20)
    assert both == ["Adam", (100, "L-BFGS"), (130, "LM")]
    early = marks(n_iterations=100, n_iterations_lbfgs=900, n_iterations_lm=20)
    assert early == ["Adam", (100, "L-BFGS")], "where L-BFGS stopped is not known"
    assert marks(n_iterations=200, n_iterations_lbfgs=80) == ["Adam"]
    assert marks(n_iterations_lm=80) == ["LM"]
    assert marks() == []


def check_no_overlap(figure):
    """No two texts of a table lie over each other or outside the figure."""
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]
