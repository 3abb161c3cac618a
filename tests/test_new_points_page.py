"""The page docs/new_points.md does what it says."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid
from test_samplers_page import _default_float

PAGE = Path(__file__).parents[1] / "docs" / "new_points.md"

__all__ = ["_default_float"]


def solution(x: np.ndarray) -> np.ndarray:
    """Twice the integral of the source, zero at both ends, ``[n]``."""
    slope = cumulative_trapezoid(-100 * np.exp(-((x - 0.7) ** 2) / 0.005), x, initial=0)
    u = cumulative_trapezoid(slope, x, initial=0)
    result: np.ndarray = u - x * u[-1]
    return result


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict = {}
    x = np.linspace(0, 1, 2001)

    def error() -> float:
        difference = names["model"].predict(x[:, None])[:, 0] - solution(x)
        return float(np.linalg.norm(difference) / np.linalg.norm(solution(x)))

    for block in blocks[:2]:
        exec(compile(block, str(PAGE), "exec"), names)
    candidates, chosen = names["candidates"], names["chosen"]
    assert "(199,)" in capsys.readouterr().out
    before = error()
    assert before == pytest.approx(names["report"].errors["u"].relative, rel=0.01)
    assert before**2 == pytest.approx(chosen.squares[0], rel=0.02)
    assert chosen.squares[3] < 1e-3 * chosen.squares[0]
    assert abs(candidates.x[np.argsort(candidates.changes)[:3]] - 0.685).max() < 0.02
    assert np.diff(np.sort(candidates.x[chosen.points, 0])).min() > 0.05
    exec(compile(blocks[2], str(PAGE), "exec"), names)
    assert error() < 0.1 * before
