"""The documents: every test and file that they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_test_named_in_security_exists() -> None:
    words = (ROOT / "SECURITY.md").read_text()
    last, named = "", 0
    for file, test in re.findall(r"`(?:([a-z_]+/test_[a-z_]+\.py))?(?:::(test_[a-z0-9_]+))?`", words):
        if not (file or test):
            continue
        last = file or last
        named += 1
        content = (ROOT / "tests" / last).read_text()
        assert not test or f"def {test}(" in content, (last, test)
    assert named > 15


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target
