"""A plan on disk: the very object that was reviewed, readable by its owner only, since it holds file contents."""

import base64
import binascii
import json
import os
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpuwizard.answers.model import Answers
from gpuwizard.errors import RefusedError, UsageError
from gpuwizard.plan.digest import plan_hash
from gpuwizard.plan.model import Plan
from gpuwizard.secret import SecretBytes

__all__ = ["load_plan", "save_plan"]

_SCHEMA = "gpuwizard.saved-plan/1"


def save_plan(plan: Plan, answers: Answers, path: Path) -> None:
    """Write `plan` and the `answers` that it was made for to `path` with mode 0600, whole or not at all.

    Raises UsageError when it cannot be written.
    """
    document = {
        "schema": _SCHEMA,
        "answers": answers.model_dump(mode="json"),
        "answers_sha256": _digest(answers),
        "plan": _encode(plan),
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


def load_plan(path: Path) -> tuple[Plan, Answers]:
    """Read a saved plan and its answers.

    Raises UsageError when it is none, RefusedError when it was changed after it was saved.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != _SCHEMA:
            raise UsageError("not a saved plan of this version", where=str(path), remedy="plan again with --out")
        plan: Plan = _decode(Plan, document["plan"])
        answers = Answers.model_validate(document["answers"])
    except OSError as error:
        raise UsageError(f"the plan cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise UsageError("not a saved plan", where=str(path), remedy="make one with: gpuwizard plan --out") from error
    if plan_hash(plan.hosts, plan.cluster) != plan.hash or document.get("answers_sha256") != _digest(answers):
        raise RefusedError("the saved plan was changed by hand", where=str(path), remedy="plan again")
    return plan, answers


def _digest(answers: Answers) -> str:
    return sha256(json.dumps(answers.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _encode(value: Any) -> Any:
    if isinstance(value, SecretBytes):
        return base64.b64encode(value.raw).decode()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: _encode(v) for k, v in value.items()}
    return [_encode(v) for v in value] if isinstance(value, list | tuple) else value


def _decode(kind: Any, value: Any) -> Any:
    """The reverse of `_encode`, led by the type annotations of the plan's dataclasses."""
    if kind is SecretBytes:
        return SecretBytes(base64.b64decode(value, validate=True))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(arguments, value)
    if origin is tuple:
        return tuple(_decode(arguments[0], v) for v in value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        if set(value) != set(hints):
            raise ValueError(kind.__name__)
        return kind(**{name: _decode(hints[name], value[name]) for name in hints})
    return value


def _decode_union(kinds: tuple[Any, ...], value: Any) -> Any:
    """Optional values, and the actions by their `kind`."""
    if value is None and type(None) in kinds:
        return None
    candidates = [k for k in kinds if k is not type(None)]
    if len(candidates) == 1:
        return _decode(candidates[0], value)
    for candidate in candidates:
        if isinstance(candidate, type) and is_dataclass(candidate) and isinstance(value, dict):
            tag = get_type_hints(candidate)["kind"]
            if get_origin(tag) is Literal and get_args(tag) == (value.get("kind"),):
                return _decode(candidate, value)
    raise ValueError(f"no such action: {value!r}")
