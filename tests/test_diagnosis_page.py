"""The page docs/diagnosis.md does what it says."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pinnfluence.diagnosis import QuantityError
from pinnfluence.diagnosis.page import _where

PAGE = Path(__file__).parents[1] / "docs" / "diagnosis.md"


def test_the_page_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    report = names["report"]
    assert report.errors["u"].half_width < 0.2
    assert report.text() in capsys.readouterr().out


def test_an_error_that_is_not_known_has_no_size_or_place():
    report: Any = SimpleNamespace(pinn=SimpleNamespace(inputs=("x",)))
    known = QuantityError(0.5, 0.5, 0.1, -0.2, (0.25,), 0.1, 0.1, 0.1, {})
    assert _where(report, known) == ("0.1", "-0.2", "x = 0.25")
    assert _where(report, replace(known, by_damping=0.9)) == ("unknown",) * 3
