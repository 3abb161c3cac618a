"""The page docs/your_model.md does what it says."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pinnfluence.models.deepxde.model import dde

PAGE = Path(__file__).parents[1] / "docs" / "your_model.md"


@pytest.fixture
def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_first_picture_takes_at_most_15_lines(blocks):
    assert len([line for line in blocks[1].splitlines() if line.strip()]) <= 15
    assert "savefig" in blocks[1]


def test_the_table_of_the_doors_has_the_lines_of_their_pages():
    text, counted = PAGE.read_text(), {}
    for name in ("your_model", "plain_pytorch", "pina", "arrays"):
        page = PAGE.with_name(f"{name}.md").read_text()
        added = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[1]
        counted[name] = len([line for line in added.splitlines() if line.strip()])
    stated = re.findall(r"^\|.*\| (\d+) lines", text, flags=re.MULTILINE)
    assert list(map(int, stated)) == list(counted.values())


def test_the_page_runs(blocks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    dde.config.set_random_seed(0)
    names: dict = {}
    shorter = [re.sub(r"(iterations|maxiter)=500", r"\1=60", block) for block in blocks]
    assert shorter[0] != blocks[0]  # a minimum is not needed to see that the page runs
    for block in shorter:
        exec(compile(block, str(PAGE), "exec"), names)
    plt.close("all")
    picture = plt.imread(tmp_path / "influence.png")
    assert picture[..., :3].std() > 0.1
    influence, scores = names["influence"], names["scores"]
    assert scores.shape == (17, 120)
    assert np.isfinite(scores.values).all()
    assert names["limit"] > 0
    np.testing.assert_allclose(sum(names["by_term"].values()), scores.values, atol=1e-12)
    mask = influence.train_x[:, 1] == 0
    np.testing.assert_allclose(names["together"], scores.values[:, mask].sum(1))
    assert names["memorised"].shape == (120,)
    assert names["flux"].shape == names["wrong"].shape == (17, 120)
    weights = [p.clone() for p in names["net"].parameters()]
    for p in names["net"].parameters():
        p.data += 1
    restored = names["make_model"]()
    assert all(torch.equal(*pair) for pair in zip(weights, restored.net.parameters(), strict=True))
    printed = capsys.readouterr().out
    assert "('residual', 'dirichlet', 'ic')" in printed
    assert "(5, 120)" in printed
