"""The documentation says what the program does today."""

import re
from pathlib import Path

import pytest

from tests.docs import MADE, PAGES, escaped

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", MADE)
def test_made_pages_are_up_to_date(name: str) -> None:
    assert (PAGES / name).read_text(encoding="utf-8") == MADE[name](), "run `python tests/docs.py`"


def test_the_findings_page_tells_every_story_once() -> None:
    from gpuwizard.findings import RULES

    page = (PAGES / "findings.md").read_text(encoding="utf-8")
    told = re.findall(
        r"^### (GW-[A-Z0-9]+-[0-9]+): .+\n\nSeverity: \*\*(error|warning|info|ok)\*\*$", page, re.MULTILINE
    )
    assert dict(told) == {rule.id: rule.severity for rule in RULES}
    assert len(told) == len(RULES)


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("set `a_b` to <PATH>", r"set `a_b` to \<PATH>"),
        ("an odd ` in a_b", "``an odd ` in a_b``"),
        ("{{ template *base* }}", r"{{ template \*base\* }}"),
    ],
)
def test_prose_is_shown_as_it_is(text: str, markdown: str) -> None:
    assert escaped(text) == markdown


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


def test_the_page_of_refusals_has_every_id() -> None:
    page = (PAGES / "refusals.md").read_text(encoding="utf-8")
    ids = set()
    others = ("reasons", "docker", "crio", "microk8s", "k0s")
    for module in ("refusals", "owned", "containerd", "containerd_convert", "containerd_plan", "k8s_snap", *others):
        source = (ROOT / "gpuwizard" / "flavours" / f"{module}.py").read_text(encoding="utf-8")
        ids |= set(re.findall(r'Refusal\(\s*"([a-z-]+)"', source))
        ids |= set(re.findall(r'^    \(\s*"([a-z-]+)",', source, re.MULTILINE))
    assert len(ids) > 25
    assert ids == {name for name in ids if f"`{name}`" in page}
