"""Pages of the documentation that are made from the code: ``python tests/docs.py`` writes them anew."""

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PAGES = ROOT / "assets" / "docs"


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
skip = true                 # look at it, change nothing
```
"""


def findings_page() -> str:
    """All rules of the catalogue."""
    return "\n".join(_findings()) + "\n"


def _findings() -> Iterator[str]:
    from gpuwizard.findings import RULES

    yield "# Findings\n"
    yield "What `gpuwizard check` can find. `gpuwizard check --explain ID` prints one of these.\n"
    for rule in sorted(RULES, key=lambda r: r.id):
        yield f"## {rule.id}: {rule.title}\n"
        yield f"Severity: {rule.severity}.\n"
        yield f"**Cause.** {rule.cause}\n"
        if rule.remedy:
            yield f"**Remedy.** {rule.remedy}\n"


MADE = {"answers.md": answers_page, "findings.md": findings_page}


def main() -> None:
    """Write every page."""
    for name, page in MADE.items():
        (PAGES / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
