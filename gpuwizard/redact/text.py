"""The redactor: by the keys and tables of a file where its format is known, by the looks of the text everywhere."""

import hmac
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256

from gpuwizard.redact.names import KEY, in_scalar, is_secret_path, split_key
from gpuwizard.redact.places import Value, decoded, values

__all__ = ["Redactor"]

_NAMED = rf"(?<![\w])(?:\\*[\"'])?{KEY}(?:\\*[\"'])?"
_PAIR = re.compile(
    rf"(?i)(?P<head>{_NAMED}(?:(?<=[\"'])\s*[:=]\s*|[ \t]*[:=][ \t]*))"
    r"(?P<value>\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\\+\"(?:(?!\\+\")[^\n])*\\+\"|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'"
    r"|[^\s,}\]#\"']+)",
)
_LIST = re.compile(
    rf"(?i)(?P<head>{_NAMED}[ \t]*[:=]\s*\[\s*)(?P<value>(?:\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
    r"(?:\s*,\s*(?:\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'))*)"
)
_QUOTED_PAIR = re.compile(
    rf"(?i)(?P<head>(?P<quote>[\"'])-{{0,2}}{KEY}[ \t]*[:=][ \t]*)"
    r"(?P<value>(?:(?!(?P=quote))[^\\\n]|\\.)+)(?=(?P=quote))"
)
_ARGUMENT = re.compile(
    rf"(?i)(?P<head>--{KEY}(?:[ \t]+|[\"'],\s*[\"']|[\"']?[ \t]*\n[ \t]*-[ \t]+[\"']?))(?P<value>[^\s\"'‹-][^\s\"']*)"
)
_ENVIRONMENT = re.compile(rf"(?im)(?P<head>^[ \t]*(?:export[ \t]+)?{KEY}=)(?P<value>[^\s\"'\[{{][^\n]*?)(?=[ \t]*\r?$)")
_YAML_LINE = re.compile(
    rf"(?im)(?P<head>^[ \t]*(?:#+[ \t]*)?(?:- )?[\"']?{KEY}[\"']?[ \t]*:[ \t]+)"
    r"(?P<value>[^\n#\"'{\[|> \t][^\n]*?)(?=[ \t]+#|[ \t]*\r?$)"
)
_YAML_BLOCK = re.compile(
    rf"(?im)(?P<head>^(?P<indent>[ \t]*)(?:- )?[\"']?{KEY}[\"']?[ \t]*:[ \t]*)"
    r"(?P<value>[|>][+-]?[0-9]?[ \t]*\n(?:(?P=indent)[ \t]+[^\n]*(?:\n|$))+)"
)
_HARMLESS = re.compile(r"(?i)^(?:true|false|null|none|~|\"\"|''|\{|\[|\|-?|>-?)?$")
_BEARER = re.compile(r"(?i)\b(?P<head>(?:bearer|basic)[ \t]+)(?P<value>[\w~+/.=%!:-]{8,})")
_URL_LOGIN = re.compile(r"(?P<head>\b[a-zA-Z][\w+.-]{0,20}://[^\s/:@\"']*:)(?!\d+[/?#])(?P<value>[^\s\"']+)(?=@)")
_URL_TOKEN = re.compile(r"(?i)(?P<head>\bhttps?://)(?P<value>[^\s/:@\"'‹]+)(?=@)")
_PROXY_LOGIN = re.compile(
    r"(?i)(?P<head>proxy(?:\\*[\"'])?[ \t]*[=:][ \t]*(?:\\*[\"'])?[^\s/:@\"'\\]+:)(?P<value>[^\s\"'‹]+)(?=@)"
)
_PEM = re.compile(
    r"(?P<head>-----BEGIN [A-Z ]*PRIVATE KEY-----\n?)(?P<value>[\s\S]*?)(?=-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
_K3S_TOKEN = re.compile(r"(?P<head>)(?P<value>\bK10[0-9a-f]{64}::[^\s\"']+)")
_PATTERNS: tuple[re.Pattern[str], ...] = (
    _PEM, _YAML_BLOCK, _YAML_LINE, _K3S_TOKEN, _LIST, _QUOTED_PAIR, _ARGUMENT,
    _ENVIRONMENT, _BEARER, _PROXY_LOGIN, _URL_LOGIN, _URL_TOKEN, _PAIR,
)  # fmt: skip
MARK = "‹redacted"
_CONTINUED = "‹redacted›"
_QUOTES = re.compile(r"\"\"\"|'''|\\+\"|\"|'")
_PUBLIC = ("username", "email", "user-agent")
"""Hidden in their file, but too common as words to be looked for in other texts."""
_SHORTEST = 4
"""A shorter secret is hidden where it stands, but not looked for in other texts, which it would make unreadable."""


class Redactor:
    """Hides secrets in text. `key` is random per run and never stored."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def text(self, text: str) -> str:
        """`text` with every secret that it shows by its looks replaced by its mark; the number of lines is kept."""
        for pattern in _PATTERNS:
            text = pattern.sub(self._replace, text)
        return text

    def bytes(self, raw: bytes) -> str:
        """As `text`, for bytes."""
        return self.text(raw.decode("utf-8", "replace"))

    def document(self, text: str, path: str) -> str:
        """The content of file `path`: secrets by their keys and tables, then by their looks."""
        parts, at = [], 0
        for place in sorted(_secret_places(text, path), key=lambda place: place.start):
            if place.start < at:
                continue
            parts += [text[at : place.start], self._hidden(text[place.start : place.end])]
            at = place.end
        return self.text("".join(parts) + text[at:])

    def value(self, key: str, value: str) -> str:
        """The value of the setting `key` (dotted, parts with dots in quotes)."""
        if is_secret_path(split_key(key)):
            return self._hidden(value)
        shown = "\n".join(self._in_scalar(line) for line in value.split("\n"))
        return self.text(shown)

    def object(self, value: object, path: tuple[str, ...] = ()) -> object:
        """Parsed JSON or YAML; the ``value`` of an entry ``name: X`` is the value of X."""
        match value:
            case Mapping():
                named = value.get("name") if isinstance(value.get("name"), str) else None
                return {
                    key: self.object(item, (*path, named if named and key == "value" else str(key)))
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.object(item, path) for item in value]
            case str():
                return self._hidden(value) if is_secret_path(path) else self.text(self._in_scalar(value))
        return value

    def secrets_in(self, text: str, path: str) -> frozenset[str]:
        """The secrets of file `path`, as they are written there and as they are read."""
        found: set[str] = set()
        for place in _secret_places(text, path):
            if place.path and place.path[-1].lower() in _PUBLIC:
                continue
            raw = text[place.start : place.end]
            found |= {raw.strip("\"'"), decoded(raw)}
        for pattern in (_URL_LOGIN, _URL_TOKEN, _PROXY_LOGIN, _BEARER):
            found |= {match["value"] for match in pattern.finditer(text)}
        return frozenset(s for s in found if len(s) >= _SHORTEST and not _HARMLESS.match(s) and not s.isspace())

    def mark(self, value: str) -> str:
        """The mark that stands for the secret `value`."""
        return f"{MARK} #{hmac.new(self._key, value.encode('utf-8', 'surrogateescape'), sha256).hexdigest()[:4]}›"

    def _replace(self, found: re.Match[str]) -> str:
        return found["head"] + self._hidden(found["value"])

    def _hidden(self, value: str) -> str:
        """`value` as its mark, between the same quotes and on as many lines."""
        if _HARMLESS.match(value) or value.strip("\"'\\ \t\n|>+-0123456789").startswith(MARK):
            return value
        first, *more = value.split("\n")
        if more and first[:1] in ("|", ">"):
            return "\n".join((first, *self._block(value, more)))
        opening = _QUOTES.match(value)
        quote = opening[0] if opening and value.endswith(opening[0]) and len(value) >= 2 * len(opening[0]) else ""
        lines = [self.mark(value), *(_CONTINUED for _ in more)]
        return f"{quote}{chr(10).join(lines)}{quote}"

    def _block(self, value: str, lines: list[str]) -> Iterator[str]:
        """The lines of a YAML block: each keeps its indentation."""
        words = self.mark(value)
        for line in lines:
            if line.strip():
                yield f"{line[: len(line) - len(line.lstrip())]}{words}"
                words = _CONTINUED
            else:
                yield line

    def _in_scalar(self, text: str) -> str:
        for at in in_scalar(text):
            return text[:at] + self._hidden(text[at:])
        return text


def _secret_places(text: str, path: str) -> Iterator[Value]:
    """Where the secrets of a file stand: whole values, or the end of one behind ``--token=``."""
    for place in values(text, path):
        if is_secret_path(place.path):
            if not _HARMLESS.match(text[place.start : place.end]):
                yield place
            continue
        raw = text[place.start : place.end]
        for at in in_scalar(raw):
            closing = 1 if raw[:1] in "\"'" and raw[-1:] == raw[:1] else 0
            if place.start + at < place.end - closing:
                yield Value(place.path, place.start + at, place.end - closing)
            break
