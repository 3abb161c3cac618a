"""The table of what a model learned, and the picture of how it was trained."""

from pathlib import Path

import numpy as np
import pytest
from helpers import copy_of_short_run, short_run

import pinnfluence
from pinnfluence.errors import InputError
from pinnfluence.models import report as model_report
from pinnfluence.plots.history import history_figure
from pinnfluence.problem.reference import Reference
from pinnfluence.problems.cylinder_flow import DFG
from pinnfluence.training.history import read_history


def test_training_and_losses_are_those_of_the_run() -> None:
    model = pinnfluence.load_model(short_run())
    report = model_report.model_report(model)
    history = read_history(short_run() / "history.csv")
    assert report["training"] == {
        "training points": "80",
        "last step": "lbfgs 130",
        "dtype, device": "float32, cpu",
        "hours": f"{history['seconds'][-1] / 3600:.2f}",
    }
    losses = report["mean squared residual"]
    for term in model.pinn.terms:
        assert float(losses[term]) == pytest.approx(history[term][-1], rel=1e-2)
    total = sum(history[term][-1] for term in model.pinn.terms)
    assert float(losses["sum"]) == pytest.approx(total, rel=1e-2)
    assert "relative L2 error" not in report


def test_errors_are_relative_to_the_reference_over_the_area() -> None:
    model = pinnfluence.load_model(short_run())
    points = model.train_x[:30]
    predicted = model.predict(points)
    values = {name: (v / 1.1).astype("f4") for name, v in predicted.items()}
    reference = Reference(points, values, np.ones(30, "f4"))
    errors = model_report.model_report(model, reference)["relative L2 error"]
    assert list(errors) == ["u", "v", "p", "speed"]
    assert {float(cell.removesuffix(" %")) for cell in errors.values()} == {10.0}


def test_small_errors_keep_their_digits() -> None:
    model = pinnfluence.load_model(short_run())
    points = model.train_x[:30].astype("f4")
    predicted = model.predict(points)
    values = {name: (v * (1 + 2.5e-6)).astype("f4") for name, v in predicted.items()}
    reference = Reference(points, values, np.ones(30, "f4"))
    cells = model_report.model_report(model, reference)["relative L2 error"]
    assert {cell[:-2] for cell in cells.values()} <= {"0.00024", "0.00025", "0.00026"}
    assert all(cell.endswith(" %") for cell in cells.values())


def test_measures_stand_beside_the_benchmark() -> None:
    model = pinnfluence.load_model(short_run())
    cells = model_report.model_report(model)["measure"]
    assert model.problem.measures is not None
    found = model.problem.measures(model.fields)
    for name, right in vars(DFG).items():
        value, difference = cells[name].removesuffix(")").removesuffix(" %").split(" (")
        assert float(value) == pytest.approx(found[name], rel=5e-4)
        expected = 100 * (found[name] / right - 1)
        if abs(expected) >= 1000:
            assert difference == "> 10x"
            continue
        assert float(difference) == pytest.approx(expected, rel=6e-3, abs=0.006)
        assert difference[0] in "+-"


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (-12.1354, "> 10x"),
        (4.4231, "+442 %"),
        (0.12345, "+12.3 %"),
        (-0.0016, "-0.16 %"),
        (2.5e-6, "+0.00025 %"),
        (-1.2e-4, "-0.012 %"),
        (2e-8, "+2e-06 %"),
        (0.0, "+0.00 %"),
    ],
)
def test_percents_have_no_more_digits_than_they_mean(share: float, shown: str) -> None:
    assert model_report._percent(share, "+") == shown


def test_a_model_without_history_has_no_hours(tmp_path: Path) -> None:
    folder = copy_of_short_run(tmp_path)
    (folder / "history.csv").unlink()
    assert "hours" not in model_report.model_report(pinnfluence.load_model(folder))["training"]


def test_the_table_has_a_column_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    table = model_report.markdown(
        {"a": {"training": {"hours": "1"}}, "b": {"training": {"hours": "2"}, "loss": {"x": "3"}}}
    )
    assert table.splitlines() == [
        "| | `a` | `b` |",
        "|---|---|---|",
        "| hours | 1 | 2 |",
        "| loss: x |  | 3 |",
    ]
    model_report.main([str(short_run())])
    assert "| training points | 80 |" in capsys.readouterr().out
    model_report.main([str(short_run()), str(short_run())])
    assert capsys.readouterr().out.startswith("| | `run` | `run 2` |")
    for arguments, code in ([], 2), (["--help"], 0):
        with pytest.raises(SystemExit) as end:
            model_report.main(arguments)
        assert end.value.code == code


@pytest.mark.parametrize(
    "text", ["", "step,seconds\n", "a,b\n1,2\n", "step,seconds\n1\n", "step,seconds\n1,x\n"]
)
def test_what_is_no_history_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="not the history of a training run"):
        read_history(path)


def test_curves_show_every_term_and_every_known_error() -> None:
    history = read_history(short_run() / "history.csv")
    losses, errors = history_figure(history, "small").axes
    terms = pinnfluence.load_model(short_run()).pinn.terms
    lines = {line.get_label(): line for line in losses.lines}
    assert list(lines) == ["total", *(term.replace("_", " ") for term in terms)]
    total = np.sum([history[term] for term in terms], axis=0)
    np.testing.assert_allclose(np.asarray(lines["total"].get_ydata()), total)
    assert len(errors.lines) == 3
    for line in errors.lines:
        assert len(np.asarray(line.get_xdata())) == np.isfinite(history["error_u"]).sum() >= 2
    assert losses.get_yscale() == errors.get_yscale() == "log"


def test_curves_of_a_problem_without_reference_are_one_panel() -> None:
    history = {"step": np.arange(3), "pde": np.array([3.0, 2, 1]), "seconds": np.arange(3)}
    assert len(history_figure(history).axes) == 1
