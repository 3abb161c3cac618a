"""Results of a validation: what is read is what was written, and nothing else is taken for it."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from validation_results import LOST, N_GROUPS, WORST, outcome_of, write_results

from pinnfluence.errors import InputError
from pinnfluence.storage.files import write_npz
from pinnfluence.validation import results
from pinnfluence.validation.results import MATCHED, SPECTRUM, find_studies, read, read_experiments


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("results"), with_spectrum=True)


def test_what_was_written_is_read(path):
    found, outcome = read(path), outcome_of()
    np.testing.assert_array_equal(found.changes, outcome.changes.astype(np.float32))
    np.testing.assert_array_equal(found.converged, outcome.converged)
    np.testing.assert_array_equal(found.gradient_norms, outcome.gradient_norms)
    assert [g.tolist() for g in found.groups] == [g.tolist() for g in outcome.groups]
    assert set(found.predicted) == {"paper", "gauss-newton", MATCHED, "random scores"}
    assert (found.quantities, found.terms) == (("u", "v"), ("pde", "edge"))
    assert found.facts["settings"]["proximal"] == 1e-5
    assert found.train_x.shape == (80, 2)
    assert found.leverages[-1] == pytest.approx(0.9)
    assert found.kinds()[0] == "edge"
    assert found.kinds()[-1] == "pde"


def test_rows_are_those_of_the_table_with_all_spectra(path):
    found = read(path)
    table = json.loads(path.with_suffix(".json").read_text())["rows"]
    assert [row.flat() for row in found.rows] == table
    assert sum(row.method == SPECTRUM for row in found.rows) == 2 * 4 * 3 * 3
    good = np.arange(N_GROUPS) != LOST
    predicted, actual = found.predicted["paper"][good, :, 1], found.changes[good, :, 1]
    expected = spearmanr(predicted.ravel(), actual.ravel())[0]
    row = found.row("paper", "v")
    assert row.agreement.spearman.value == pytest.approx(expected, abs=1e-3)
    with pytest.raises(KeyError, match="no row"):
        found.row("paper", "w")


def test_each_group_has_its_figures(path):
    found = read(path).by_group("gauss-newton", "u")
    assert LOST not in found.groups
    worst = found.groups[np.argmin(found.correlation)]
    assert worst == WORST
    at = int(np.flatnonzero(found.groups == WORST)[0])
    assert found.correlation[at] == pytest.approx(-1)
    assert found.error[at] == pytest.approx(2, rel=1e-5)
    changes = outcome_of().changes[WORST, :, 0]
    assert found.effect[at] == pytest.approx(np.sqrt((changes**2).mean()), rel=1e-5)


def test_other_files_are_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"none\.npz.*pinnfluence validate"):
        read(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not results")
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    np.save(tmp_path / "array.npz.npy", np.zeros(2))
    for name in ("text.npz", "other.npz", "array.npz.npy"):
        with pytest.raises(InputError, match="another file"):
            read(tmp_path / name)
    facts = json.dumps({"format_version": results.FORMAT_VERSION - 1}).encode()
    write_npz(tmp_path / "old.npz", {"facts": np.frombuffer(facts, np.uint8)})
    with pytest.raises(InputError, match=r"format version 2 .* found 1"):
        read(tmp_path / "old.npz")


def test_folders_are_found_by_name(tmp_path):
    names = ("heat_validation", "heat_validation_early", "flow_validation_paper")
    for name in (*names, "heat_validations", "heat_other"):
        write_results(tmp_path / name)
    (tmp_path / "empty_validation").mkdir()
    found = find_studies(tmp_path)
    assert found == {
        "flow": {"paper": tmp_path / "flow_validation_paper"},
        "heat": {
            "": tmp_path / "heat_validation",
            "early": tmp_path / "heat_validation_early",
        },
    }
    assert next(iter(found["heat"])) == ""
    with pytest.raises(InputError, match="found none"):
        find_studies(tmp_path / "heat_validation")


def test_experiments_come_by_falling_proximal_weight(tmp_path):
    for proximal in (0.0, 1e-3, 1e-5):
        write_results(tmp_path, f"removal_{proximal:.0e}", proximal)
    write_results(tmp_path)
    found = [results.facts["settings"]["proximal"] for results in read_experiments(tmp_path)]
    assert found == [1e-3, 1e-5, 0.0]
