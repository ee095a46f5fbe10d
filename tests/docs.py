"""Pages of the documentation that are made from the code: ``python tests/docs.py`` writes them anew."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PAGES = ROOT / "assets" / "docs"
if TYPE_CHECKING:
    from gpuwizard.findings.rule import Rule


def answers_page() -> str:
    """What can be chosen: the example file, whose comments are the descriptions of the model."""
    from gpuwizard.answers.toml import example

    return f"""\
# Answers

The wizard writes this file, `gpuwizard --answers FILE` runs it without questions, and the same file gives the same
plan hash in both. Every key may be left out; its default is shown here. Unknown keys and bad values are refused with
their line. `gpuwizard answers schema` prints the JSON Schema, `gpuwizard answers check FILE` checks a file.

```toml
{example(["admin@gpu1", "gpu2:2222", "@more-hosts.txt"]).strip()}
```

Choices for single hosts, by name:

```toml
[host.gpu2]
strategy = "in-place"       # as runtime.strategy
default_runtime = "nvidia"  # as runtime.default_runtime
convert = true              # as runtime.convert
take_latent = true          # as runtime.take_latent
skip = true                 # look at it, change nothing
```
"""


AREAS = {
    "GPU": "GPUs",
    "DRIVER": "Driver",
    "TOOLKIT": "Container toolkit",
    "CDI": "CDI",
    "OPERATOR": "GPU Operator",
    "RUNTIME": "Container runtimes",
    "CONTAINERD": "containerd",
    "DOCKER": "Docker",
    "CRIO": "CRI-O",
    "KUBE": "Kubernetes",
    "K3S": "K3s and RKE2",
    "K0S": "k0s",
    "MICROK8S": "MicroK8s",
    "SNAP": "Canonical Kubernetes (k8s-snap)",
    "HOST": "Host",
    "OK": "All is well",
}
"""The chapters of the findings page, in their order; an area that is not here comes last, under its own name."""


def findings_page() -> str:
    """All rules of the catalogue, by area."""
    from gpuwizard.findings import RULES
    from gpuwizard.show.words import count, natural

    by_area: dict[str, list[Rule]] = {}
    for rule in sorted(RULES, key=lambda r: natural(r.id)):
        by_area.setdefault(rule.id.split("-")[1], []).append(rule)
    areas = sorted(by_area, key=lambda area: (list(AREAS).index(area) if area in AREAS else len(AREAS), area))
    parts = [
        f"# Findings\n\nThe {len(RULES)} things that `gpuwizard check` can find. It reads hosts and changes nothing.",
        "An **error** keeps GPUs or the node from working, now or after the next restart. A **warning** will bite. "
        "**info** is worth knowing, and **ok** says that all is well. `gpuwizard check --explain ID` prints one of "
        "these stories; given the words of a log message instead, it names the findings that have them.",
        "One cause makes one finding. Where several rules hold because of the same file, GPU or kernel, the most exact "
        "one is told, with the severity of the gravest and the evidence of all; its story names those that it may be "
        "told in place of.",
        "\n".join(f"- {AREAS.get(area, area)}: {count(len(by_area[area]), 'finding')}" for area in areas),
    ]
    for area in areas:
        parts.append(f"## {AREAS.get(area, area)}")
        parts += [part for rule in by_area[area] for part in _finding(rule)]
    return "\n\n".join(parts) + "\n"


def _finding(rule: "Rule") -> Iterator[str]:
    """One rule as paragraphs of Markdown."""
    from gpuwizard.show.story import story

    yield f"### {rule.id}: {escaped(rule.title)}"
    yield f"Severity: **{rule.severity}**"
    for chapter, texts in story(rule):
        if len(texts) == 1 and texts[0] not in rule.messages:
            yield f"**{chapter}.** {escaped(texts[0])}"
        else:
            code = texts == rule.messages
            yield f"**{chapter}**\n\n" + "\n".join(f"- {as_code(text) if code else escaped(text)}" for text in texts)


def escaped(text: str) -> str:
    """Prose as Markdown: what stands between backticks is code already, all else is shown as it is."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return as_code(text)
    return "`".join(part if n % 2 else re.sub(r"([<*_\[\]\\|])", r"\\\1", part) for n, part in enumerate(parts))


def as_code(text: str) -> str:
    """A text in as many backticks as it needs."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks, space = "`" * (longest + 1), " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def screens_page() -> str:
    """What the screens are for, and every key."""
    from screens.help import help_page

    return help_page()


MADE = {"answers.md": answers_page, "findings.md": findings_page, "screens.md": screens_page}


def main() -> None:
    """Write every page."""
    for name, page in MADE.items():
        (PAGES / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
