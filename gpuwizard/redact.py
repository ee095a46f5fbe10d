"""Secrets out of anything shown or stored: a secret becomes ``‹redacted #4hex›`` of a keyed hash.

The same secret shows as the same mark within a run and as another one in the next, so that a changed secret is
still a visible change and the mark tells nothing (`safety.md`, secrets and foreign text).
"""

import hmac
import re
import secrets
from hashlib import sha256

__all__ = ["Redactor", "redact_text", "redacted_secret"]

_KEY_NAMES = (
    r"(?:[\w.-]*(?:password|passwd|passphrase|secret|token|private[_-]?key|client[_-]?key(?:[_-]?data)?|"
    r"api[_-]?key|access[_-]?key|credentials?|license[_-]?key|serial)|(?:identity|registry)[_-]?token|"
    r"auth|x-registry-auth)"
)
_PAIR = re.compile(
    rf"(?i)(?P<head>(?:^|(?<=[\s,{{\[.\"'-]))[\"']?{_KEY_NAMES}[\"']?[ \t]*(?:=|:)[ \t]*)"
    r"(?P<value>\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[^\s,}\]#\"']+)",
    re.MULTILINE,
)
_YAML_LINE = re.compile(
    rf"(?im)(?P<head>^[ \t]*(?:- )?[\"']?{_KEY_NAMES}[\"']?[ \t]*:[ \t]+)"
    r"(?P<value>[^\n#\"'{\[|>&*! \t][^\n]*?)(?=[ \t]+#|[ \t]*\r?$)"
)
_YAML_BLOCK = re.compile(
    rf"(?im)(?P<head>^(?P<indent>[ \t]*)(?:- )?[\"']?{_KEY_NAMES}[\"']?[ \t]*:[ \t]*[|>][+-]?[ \t]*\n)"
    r"(?P<value>(?:(?P=indent)[ \t]+[^\n]*(?:\n|$))+)"
)
_HARMLESS = re.compile(r"(?i)^(?:true|false|null|none|~|\"\"|''|\{|\[|\|-?|>-?)?$")
_BEARER = re.compile(r"(?i)\b(?P<head>(?:bearer|basic)[ \t]+)(?P<value>[\w~+/.=-]{8,})")
_URL_LOGIN = re.compile(r"(?P<head>\b[a-zA-Z][\w+.-]*://[^\s/:@\"']*:)(?P<value>[^\s/@\"']+)(?=@)")
_PEM = re.compile(
    r"(?P<head>-----BEGIN [A-Z ]*PRIVATE KEY-----\n?)(?P<value>[\s\S]*?)(?=-----END [A-Z ]*PRIVATE KEY-----)"
)
_K3S_TOKEN = re.compile(r"(?P<head>)(?P<value>\bK10[0-9a-f]{64}::[^\s\"']+)")
_HEADER = re.compile(
    r"(?i)(?P<head>\b(?:x-auth-token|authorization|cookie)[\"']?[ \t]*[:=][ \t]*\[?[\"']?)(?P<value>[^\"'\n\]]+)"
)
_PATTERNS = (_PEM, _YAML_BLOCK, _YAML_LINE, _K3S_TOKEN, _HEADER, _BEARER, _URL_LOGIN, _PAIR)


class Redactor:
    """Hides secrets in text. `key` is random per run and never stored."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def text(self, text: str) -> str:
        """`text` with every secret replaced by its mark; line breaks inside a secret vanish with it."""
        for pattern in _PATTERNS:
            text = pattern.sub(self._replace, text)
        return text

    def bytes(self, raw: bytes) -> str:
        """As `text`, for the content of a file."""
        return self.text(raw.decode("utf-8", "replace"))

    def mark(self, value: str) -> str:
        """The mark that stands for the secret `value`."""
        return f"‹redacted #{hmac.new(self._key, value.encode('utf-8', 'surrogateescape'), sha256).hexdigest()[:4]}›"

    def _replace(self, found: re.Match[str]) -> str:
        value = found["value"]
        if _HARMLESS.match(value) or value.strip("\"' \t\n").startswith("‹redacted"):
            return found[0]
        if found.re is _YAML_BLOCK:
            return f"{found['head']}{found['indent']}  {self.mark(value)}\n"
        quote = value[0] if value[0] in "\"'" and value[-1] == value[0] and len(value) > 1 else ""
        return f"{found['head']}{quote}{self.mark(value)}{quote}"


_PROCESS = Redactor(secrets.token_bytes(32))


def redact_text(text: str) -> str:
    """`text` redacted with this process's own key."""
    return _PROCESS.text(text)


def redacted_secret(value: str) -> str:
    """The mark of a text that is a secret as a whole."""
    return _PROCESS.mark(value)
