"""A plan on disk: the very object that was reviewed, readable by its owner only, since it holds file contents.

The document names its format and the version that wrote it, and carries a hash over all that it holds: one that was
cut, garbled, edited or made by a version with other fields is named as such, and nothing of it is used.
"""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gpuwizard import __version__
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, RefusedError, UsageError
from gpuwizard.plan.codec import MisfitError, decode, encode
from gpuwizard.plan.digest import plan_hash
from gpuwizard.plan.model import Plan

__all__ = ["load_plan", "save_plan"]

_FORMAT = "gpuwizard.saved-plan/"
_NUMBER = "2"
_NO_PLAN = "not a saved plan"
_GARBLED = "the saved plan is cut short or garbled"
_CHANGED = "the saved plan was changed by hand, or damaged"
_AGAIN = "plan again with this version: gpuwizard plan --out FILE HOST…"


def save_plan(plan: Plan, answers: Answers, path: Path) -> None:
    """Write `plan` and the `answers` that it was made for to `path` with mode 0600, whole or not at all.

    Raises UsageError when it cannot be written.
    """
    content = {"answers": answers.model_dump(mode="json"), "plan": encode(plan)}
    document = {
        "schema": _FORMAT + _NUMBER,
        "written_by": __version__,
        "content_sha256": _digest(content),
        "content": content,
    }
    raw = json.dumps(document, indent=1, sort_keys=True).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"the plan cannot be saved: {error.strerror}", where=str(path)) from error


def load_plan(path: Path, *, again: str = _AGAIN) -> tuple[Plan, Answers]:
    """Read a saved plan and its answers. `again` is the remedy: what makes one that this version reads.

    Raises UsageError when it is none, is cut or garbled, or is of another version; RefusedError when it was changed
    after it was saved.
    """
    try:
        return _loaded(path.read_bytes())
    except OSError as error:
        raise UsageError(f"the plan cannot be read: {error.strerror}", where=str(path), remedy=again) from error
    except RecursionError as error:
        raise UsageError(_GARBLED, where=str(path), remedy=again) from error
    except GpuwizardError as error:
        raise type(error)(error.what, where=str(path), remedy=again) from error


def _loaded(raw: bytes) -> tuple[Plan, Answers]:
    document = _document(raw)
    schema, author = document["schema"], _author(document)
    if schema != _FORMAT + _NUMBER:
        theirs = clean_line(schema.removeprefix(_FORMAT))
        raise UsageError(f"a saved plan in format {theirs}, written by {author}; this is gpuwizard {_mine()}")
    content = document.get("content")
    if not isinstance(content, dict) or document.get("content_sha256") != _digest(content):
        raise RefusedError(_CHANGED)
    try:
        plan: Plan = decode(Plan, content.get("plan"), "plan")
        answers = _answers(content.get("answers"))
    except MisfitError as error:
        raise UsageError(
            f"a saved plan of another version: written by {author}; this is gpuwizard {_mine()}. "
            f"What does not fit: {clean_line(str(error))}"
        ) from error
    if plan_hash(plan.hosts, plan.cluster) != plan.hash:
        raise RefusedError(_CHANGED)
    return plan, answers


def _document(raw: bytes) -> dict[str, Any]:
    """The JSON object with a schema of saved plans. Raises UsageError for anything else."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        ours = not raw.strip() or any(word in raw for word in (b'"content_sha256"', b'"answers"', _FORMAT.encode()))
        raise UsageError(_GARBLED if ours else _NO_PLAN) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith(_FORMAT):
        raise UsageError(_NO_PLAN)
    return dict(document)


def _answers(value: Any) -> Answers:
    """The answers, all of them. Raises MisfitError for those that this version does not know, or that are left out."""
    try:
        answers = Answers.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise MisfitError(".".join(["answers", *map(str, first["loc"])]), first["msg"]) from error
    if missing := _missing(answers.model_dump(mode="json"), value, "answers"):
        raise MisfitError(missing, "it is missing")
    return answers


def _missing(whole: Any, part: Any, place: str) -> str | None:
    """The first place of `whole` that `part` does not have."""
    if not isinstance(whole, dict) or not isinstance(part, dict):
        return None
    for key, inner in whole.items():
        if key not in part:
            return f"{place}.{key}"
        if found := _missing(inner, part[key], f"{place}.{key}"):
            return found
    return None


def _author(document: dict[str, Any]) -> str:
    version = document.get("written_by")
    return f"gpuwizard {clean_line(version)}" if isinstance(version, str) else "an older gpuwizard"


def _mine() -> str:
    return f"{__version__}, which reads format {_NUMBER}"


def _digest(content: Any) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
