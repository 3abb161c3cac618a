"""README and the pages in docs/: their blocks run, their commands and links exist.

Pages with a story of their own have a test file each, named in ``ELSEWHERE``.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import ROOT

import pinnfluence
from pinnfluence.commands import COMMANDS
from pinnfluence.runtime.script import Parser

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    "arrays": "test_arrays",
    "diagnosis": "test_diagnosis_page",
    "new_points": "test_new_points_page",
    "pina": "test_pina",
    "plain_pytorch": "test_plain_torch",
    "samplers": "test_samplers_page",
    "your_model": "test_your_model",
}
SCRIPTS = {"calc_influences.py": "scores", **{f"{n}.py": n for n in COMMANDS if n != "scores"}}
PREFIX = re.compile(r"^.*?(?:\bpinnfluence|\bpython (?=\w+\.py)|torchrun.*?(?=\w+\.py))\s*")


def parser_of(command: str) -> Parser:
    parser: Parser = import_module(f"pinnfluence.commands.{command}").make_parser()
    return parser


def blocks_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def command_lines() -> list[tuple[str, str]]:
    """Each command line of ours in the pages, in blocks and in code of one line, by page."""
    found = []
    for page in PAGES:
        text = "\n".join(blocks_of(page, "sh")).replace("\\\n", " ")
        inline = re.findall(r"`((?:pinnfluence|python \w+\.py) [^`]+)`", page.read_text())
        found += [(page.stem, line) for line in [*text.splitlines(), *inline]]
    words = rf"(pinnfluence ({'|'.join(COMMANDS)})\b|({'|'.join(SCRIPTS)}) )"
    return [(page, line) for page, line in found if re.search(words, line)]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small models under the names that the pages use."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "runs").mkdir()
    for name in ("model_zoo/heat_bad", "runs/heat_bad", "runs/heat_mended"):
        shutil.copytree(ROOT / "model_zoo" / "heat_bad", folder / name)
    model = pinnfluence.load_model(folder / "runs" / "heat_mended")
    influence = pinnfluence.Influence(model.pinn, model.train_x, rank=3)
    test_x = np.random.default_rng(0).random((250, 2))
    influence.influence(test_x).save(folder / "runs" / "heat_mended_influences")
    return folder


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.stem not in ELSEWHERE and blocks_of(p, "python")], ids=str
)
def test_the_blocks_run(page: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo)
    names: dict[str, Any] = {}
    if page.stem == "README":
        names |= {"model": pinnfluence.load_model("model_zoo/heat_bad"), "x": np.ones((3, 2))}
    for block in blocks_of(page, "python"):
        block = block.replace("diagnose(model)", "diagnose(model, 60)")  # fewer fresh points
        exec(compile(block, str(page), "exec"), names)


def test_every_page_with_blocks_has_a_test() -> None:
    for page, test in ELSEWHERE.items():
        assert f'{page}.md"' in (ROOT / "tests" / f"{test}.py").read_text()


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_a_command_line_is_understood(page: str, line: str) -> None:
    line = re.split(r"\s+#|;|\|", re.sub(r"\$\w+|\[.*?\]", "name", line))[0]
    script, *words = shlex.split(PREFIX.sub("", line))
    parser: Parser = import_module(
        f"pinnfluence.commands.{SCRIPTS.get(script, script)}"
    ).make_parser()
    given = [word for word in words if word != "..."]
    if any(word in ("--checkpoint", "--model", "--problem") for word in given[:-1]):
        parser.parse_args(given)
        return
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert {word for word in given if word.startswith("-")} <= flags


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= 150
    for target in re.findall(r"\]\(([^)]+)\)", readme.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        assert (ROOT / path).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


def test_every_page_is_in_the_navigation() -> None:
    class Loader(yaml.SafeLoader):
        pass

    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]
    listed = re.findall(r"[\w/]+\.md", str(nav))
    assert sorted(listed) == sorted(page.name for page in PAGES[1:])
    assert len(set(listed)) == len(listed)


def test_modules_that_are_run_do_something() -> None:
    """``python -m`` of a module without a main program ends at once, and without an error."""
    texts = [*PAGES, *(ROOT / "pinnfluence").rglob("*.py"), ROOT / "Makefile"]
    named = {
        m for path in texts for m in re.findall(r"-m (pinnfluence(?:\.\w+)*)", path.read_text())
    }
    assert len(named) >= 3
    for name in named:
        path = ROOT.joinpath(*name.split("."))
        source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert '__name__ == "__main__"' in source.read_text(), name


def test_pages_that_messages_name_exist() -> None:
    for source in (ROOT / "pinnfluence").rglob("*.py"):
        for page in re.findall(r"docs/\w+\.md", source.read_text()):
            assert (ROOT / page).is_file(), (source, page)


def test_paths_exist() -> None:
    """Paths into folders of the clone or of the package, except what a command makes."""
    folders = {path.name for at in (ROOT, ROOT / "pinnfluence") for path in at.iterdir()}
    made = {"build", "dist", "figures", "runs"}
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        for path in re.findall(r"`([\w.]+(?:/[\w.-]+)+)/?`", page.read_text()):
            first, name = path.split("/")[0], path.split("/")[-1]
            if first in folders - made and not name.endswith(("_influences", "_diagnosis")):
                at = (ROOT / path, ROOT / "pinnfluence" / path)
                assert any(p.exists() for p in at), (page.name, path)


def test_command_tables_have_every_flag() -> None:
    """As the hook makes them when pages are built."""
    hook: dict[str, Any] = {}
    exec((ROOT / "docs" / "_hooks" / "commands.py").read_text(), hook)
    page = hook["on_page_markdown"]((ROOT / "docs" / "commands.md").read_text())
    for name in COMMANDS:
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        for action in import_module(f"pinnfluence.commands.{name}").make_parser()._actions:
            assert (
                action.dest == "help"
                or f"`{(action.option_strings or [action.dest])[0]}`" in section
            )
    assert hook["on_page_markdown"]("another page") == "another page"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_tutorial_mends_its_network(tmp_path: Path) -> None:
    """Its commands to the letter; the errors that it states, within a factor of two."""
    page = ROOT / "docs" / "tutorial.md"
    lines = "\n".join(blocks_of(page, "sh")).replace("\\\n", " ").splitlines()
    lines = [line for line in lines if not line.startswith("pip ")]
    script = f'pinnfluence() {{ "{sys.executable}" -m pinnfluence "$@"; }}\n' + "\n".join(lines)
    script = script.replace("python -m", f'"{sys.executable}" -m')
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["bash", "-ec", script]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verdict = re.compile(r"^The network is .*off by u ([\d.]+) %", re.M)
    stated, found = (list(map(float, verdict.findall(t))) for t in (page.read_text(), done.stdout))
    assert len(stated) == len(found) == 3
    assert np.allclose(np.log2(stated), np.log2(found), atol=1)
    true = re.search(r"relative L2 error: u \|(.*)\|", done.stdout)
    assert true
    errors = [float(cell.split()[0]) for cell in true[1].split("|")]
    np.testing.assert_allclose(errors, found, rtol=0.1)
