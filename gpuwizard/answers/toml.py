"""The answers file: TOML in and out. Comments and order of an existing file survive; errors name line and key."""

import difflib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel, ValidationError
from tomlkit.items import Table

from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.errors import UsageError

__all__ = ["example", "parse_answers", "read_answers", "reason", "render_answers", "schema", "write_answers"]

_HEADER = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_REMEDY = "`gpuwizard answers schema` lists all keys, `gpuwizard answers example` prints a whole file"
_SECRET = re.compile(r"pass(word|wd|phrase)?$|secret|token|private_?key|credential", re.IGNORECASE)
_NO_SECRETS = (
    "take it out; -k and -K ask for passwords, GPUWIZARD_SUDO_PASSWORD holds the one of sudo, "
    "connection.sudo_password_command names a command that prints it"
)
_INTRO = (
    "Answers for gpuwizard: `gpuwizard --answers THIS-FILE` applies them without questions.",
    "Every key may be left out. Secrets do not belong here.",
)


def read_answers(path: Path) -> Answers:
    """Read and check an answers file.

    Raises UsageError that names the file, the line and the key of every problem.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            "there is no such answers file", where=str(path), remedy="`gpuwizard answers example > FILE` makes one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"the answers file cannot be read: {why}", where=str(path), remedy="name a TOML file that you may read"
        ) from error
    return parse_answers(text, str(path))


def parse_answers(text: str, name: str = "answers") -> Answers:
    """Parse the text of an answers file called `name`. Raises UsageError as `read_answers`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"this is not TOML: {error}", where=name, remedy="mend the line that is named") from error
    try:
        return Answers.model_validate(data)
    except ValidationError as error:
        lines = _lines_of_keys(text)
        problems = [_problem(detail, lines, name) for detail in error.errors()]
        secret = any(_is_secret(detail) for detail in error.errors())
        raise UsageError("; ".join(problems), remedy=_NO_SECRETS if secret else _REMEDY) from None


def _problem(detail: Any, lines: Mapping[tuple[str, ...], int], name: str) -> str:
    """One line on one problem that pydantic found: ``site.toml:12: runtime.strategy: …``."""
    path = tuple(str(part) for part in detail["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    where = f"{name}:{line}" if line else name
    if _is_secret(detail):
        message = "a secret does not belong in this file"
    elif detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_beside(path), n=1)
        message = "unknown key" + (f", did you mean `{near[0]}`?" if near else "")
    else:
        message = reason(detail)
    return f"{where}: {'.'.join(path)}: {message}"


_WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text in quotes",
    "string_pattern_mismatch": "must be a name as Kubernetes has them: small letters, digits and hyphens",
}


_PHRASES = (
    ("input should be a valid", "must be a"),
    ("input should be", "must be"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
)


def reason(detail: Any, *, name_it: bool = True) -> str:
    """What pydantic says is wrong with one value, in the words of TOML; with `name_it` the value as well."""
    message = _WORDS.get(detail["type"])
    if message is None:
        message = str(detail["msg"][:1].lower() + detail["msg"][1:]).replace("tuple", "list")
        for theirs, ours in _PHRASES:
            message = message.replace(theirs, ours)
    if isinstance(detail["input"], dict) or not name_it:
        return message
    return f"{message}, not {clean_line(repr(detail['input']), 60)}"


def _is_secret(detail: Any) -> bool:
    """True for an unknown key that is named like a secret; its value is never shown."""
    return detail["type"] == "extra_forbidden" and _SECRET.search(str(detail["loc"][-1])) is not None


def _keys_beside(path: Sequence[str]) -> list[str]:
    """The keys that would have been right where `path` ends."""
    model: Any = Answers
    for part in path[:-1]:
        known = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if known is None:
            break
        arguments = getattr(known.annotation, "__args__", ())
        model = arguments[-1] if arguments else known.annotation
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _lines_of_keys(text: str) -> dict[tuple[str, ...], int]:
    """Where each key of a TOML text stands (1-based). Good enough to point at: values are not understood."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _split(header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_split(key[1])), number)
    return found


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(
        part.strip().strip("\"'") for part in re.findall(r"""[^."']+|"[^"]*"|'[^']*'""", dotted) if part.strip()
    )


def render_answers(answers: Answers, original: str | None = None) -> str:
    """Return the answers as TOML. With `original`, that text is kept and only values that differ are changed."""
    if original is None:
        return _fresh(answers)
    document = tomlkit.parse(original)
    _merge(document, answers.model_dump(mode="json"), Answers().model_dump(mode="json"))
    text = tomlkit.dumps(document)
    return text if text.endswith("\n") else text + "\n"


def _merge(container: Any, wanted: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Change `container` so that it means `wanted`; keys that are absent and hold their default stay absent."""
    for key in [key for key in container if key not in wanted]:
        del container[key]
    for key, value in wanted.items():
        default = defaults.get(key)
        if isinstance(value, Mapping):
            inner_default = default if isinstance(default, Mapping) else {}
            if key in container:
                _merge(container[key], value, inner_default)
            elif value != inner_default:
                container[key] = tomlkit.table(is_super_table=key == "host")
                _merge(container[key], value, inner_default)
        elif value is None:
            container.pop(key, None)
        elif key in container:
            if container[key] != value:
                container[key] = value
        elif value != default:
            container[key] = value


def _fresh(answers: Answers) -> str:
    """A whole new file, every key with its description; keys without a value are shown as comments."""
    document = tomlkit.document()
    for line in _INTRO:
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    for name, value in answers:
        if isinstance(value, BaseModel):
            document.add(tomlkit.nl())
            document.add(name, _section(value))
        elif name != "host":
            document.add(tomlkit.comment(Answers.model_fields[name].description or name))
            document.add(name, _item(value))
    for host, override in answers.host.items():
        document.setdefault("host", tomlkit.table(is_super_table=True)).add(host, _section(override))
    return tomlkit.dumps(document)


def _section(section: BaseModel) -> Table:
    table = tomlkit.table()
    for name, value in section:
        table.add(tomlkit.comment(type(section).model_fields[name].description or name))
        if value is None:
            table.add(tomlkit.comment(f'{name} = ""'))
        else:
            table.add(name, _item(value))
    return table


def _item(value: Any) -> Any:
    if isinstance(value, tuple):
        array = tomlkit.array()
        array.extend(value)
        return array.multiline(len(value) > 3)
    return value


def write_answers(answers: Answers, path: Path) -> None:
    """Write the answers to `path`, atomically; an existing file keeps its comments and order.

    Raises UsageError when the path cannot be written.
    """
    try:
        original = path.read_text(encoding="utf-8") if path.exists() else None
        text = render_answers(answers, original)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(path.stat().st_mode & 0o777 if original is not None else 0o644)
        Path(temporary).replace(path)
    except (OSError, tomlkit.exceptions.TOMLKitError) as error:
        raise UsageError(
            f"the answers file cannot be written: {error}", where=str(path), remedy="choose another path"
        ) from error


def example(hosts: Sequence[str]) -> str:
    """A whole answers file with every key, its meaning and its default, for `hosts`."""
    return _fresh(Answers(hosts=tuple(hosts)))


def schema() -> dict[str, Any]:
    """The JSON Schema of the answers file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Answers.model_json_schema()} | {
        "title": "gpuwizard answers"
    }
