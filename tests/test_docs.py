"""The documentation says what the program does today."""

import re
from pathlib import Path

import pytest

from tests.docs import MADE, PAGES

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", MADE)
def test_made_pages_are_up_to_date(name: str) -> None:
    assert (PAGES / name).read_text(encoding="utf-8") == MADE[name](), "run `python tests/docs.py`"


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *PAGES.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_only_commands_that_exist() -> None:
    from gpuwizard.cli import COMMANDS

    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    words = re.findall(r"^gpuwizard ([a-z]+)(?= |$)", "\n".join(blocks), re.MULTILINE)
    assert len(words) >= 4
    assert set(words) <= set(COMMANDS)
