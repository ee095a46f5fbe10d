"""The rules that hold the house up, proved in a fresh interpreter (`import-linter` proves the rest)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("textual", "rich", "asyncssh", "kubernetes_asyncio", "pydantic", "tomlkit", "aiohttp")


def modules_after(code: str) -> set[str]:
    """The top-level names in sys.modules after `code` ran in a fresh interpreter, away from the checkout."""
    script = f"{code}\nimport sys\nsys.stdout.flush()\nprint('\\n' + ' '.join(sorted(m for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_the_first_answer_imports_nothing_heavy(flag: str) -> None:
    loaded = modules_after(
        f"import sys\nfrom gpuwizard.cli import main\ntry:\n    main([{flag!r}])\nexcept SystemExit:\n    pass"
    )
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("module", ["gpuwizard.session", "gpuwizard.flow", "gpuwizard.pages", "gpuwizard.unattended"])
def test_the_engine_loads_no_screen_and_no_cluster_client(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert not loaded & {"textual", "rich", "screens", "kubernetes_asyncio"}


def test_the_first_screen_waits_for_no_client_library() -> None:
    loaded = modules_after("import screens.app, screens.hosts")
    assert not loaded & {"kubernetes_asyncio", "asyncssh"}


def sources() -> list[Path]:
    return [p for top in ("gpuwizard", "screens", "assets") for p in (ROOT / top).rglob("*.py")]


def test_every_module_opens_with_what_it_is_for() -> None:
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or text.startswith('"""'), path


def test_no_file_grows_beyond_four_hundred_lines() -> None:
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_nothing_speaks_of_a_machine_or_a_registry() -> None:
    words = re.compile(r"/work/|/tmp/venv|https?://[\w.-]*(debian|pypi|pythonhosted|npm)[\w.-]*")
    lists = (*(ROOT / "assets").rglob("*.*"), *(ROOT / "tests").rglob("*.py"), *(ROOT / ".ci").iterdir())
    for path in [*sources(), *lists, ROOT / "README.md", ROOT / "pyproject.toml"]:
        if path.suffix in {".png", ".pyc"} or path == Path(__file__):
            continue
        assert not words.search(path.read_text(encoding="utf-8")), path


def test_only_front_ends_print() -> None:
    allowed = {"cli.py", "unattended.py"}
    for path in (ROOT / "gpuwizard").rglob("*.py"):
        if path.name not in allowed and "standins" not in path.parts:
            assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_the_top_level_holds_what_was_agreed() -> None:
    agreed = {"gpuwizard", "screens", "tests", "assets", "pyproject.toml", "README.md", "LICENSE"}
    made = {"build", "dist", "gpuwizard.egg-info", "__pycache__"}  # by tools, and ignored by git
    assert {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - made == agreed


def test_the_version_is_the_same_everywhere() -> None:
    import gpuwizard

    assert f'version = "{gpuwizard.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_python_m_works_from_another_directory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuwizard", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.startswith("gpuwizard ")
