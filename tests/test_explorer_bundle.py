"""The explorer's script is the bundle of its modules, which tests without npm can see by a hash."""

import hashlib
import re
from pathlib import Path

EXPLORER = Path(__file__).parents[1] / "pinnfluence" / "explorer"
WEB = EXPLORER / "web"


def test_the_committed_script_is_made_of_the_committed_modules():
    names = ["bundle.mjs", "package-lock.json"]
    names += [f"src/{path.name}" for path in sorted((WEB / "src").glob("*.js"))]
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\n{(WEB / name).read_text('utf-8')}".encode())
    first = (EXPLORER / "static" / "explorer.js").read_text("utf-8").partition("\n")[0]
    assert first == f"// sources {digest.hexdigest()}", "run make explorer-bundle"


def test_every_element_that_the_modules_name_is_in_the_page():
    page = (EXPLORER / "static" / "page.html").read_text("utf-8")
    ids = set(re.findall(r'\bid="([\w-]+)"', page))
    named = set()
    for path in (WEB / "src").glob("*.js"):
        named |= set(re.findall(r'(?:byId|on)\("([\w-]+)"', path.read_text("utf-8")))
    assert len(named) > 40
    assert named <= ids, named - ids
