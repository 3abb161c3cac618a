"""The page docs/samplers.md does what it says."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pinnfluence.models.deepxde.model import dde
from pinnfluence.samplers.strategies import STRATEGIES

PAGE = Path(__file__).parents[1] / "docs" / "samplers.md"


@pytest.fixture(autouse=True)
def _default_float() -> Iterator[None]:
    before = np.dtype(dde.config.real(np)).name
    yield
    dde.config.set_default_float(before)
    torch.set_default_dtype(torch.float32)


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    for block in blocks:
        assert len([line for line in block.splitlines() if line.strip()]) <= 25
    names: dict = {}
    exec(compile(blocks[0].replace("1000", "401"), str(PAGE), "exec"), names)
    assert [done.step for done in names["sampler"].log] == [200, 400]
    assert len(names["data"].train_x_all) == 70
    exec(compile(blocks[1], str(PAGE), "exec"), names)
    assert names["error"] < 1e-4
    assert names["train_state"].step == 60
    printed = capsys.readouterr().out
    assert re.search(r"step 200: 5 points added by influence, 60 kept", printed)
    assert "relative error" in printed


def test_the_page_names_all_strategies() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \|$", PAGE.read_text(), flags=re.MULTILINE)
    assert dict(rows) == {name: strategy.mode for name, strategy in STRATEGIES.items()}
