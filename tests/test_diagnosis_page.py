"""The page docs/diagnosis.md does what it says."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "diagnosis.md"


def test_the_page_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    report = names["report"]
    assert report.errors["u"].half_width < 0.2
    assert report.text() in capsys.readouterr().out
