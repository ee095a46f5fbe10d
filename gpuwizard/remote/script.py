"""A remote script as the bytes that go over the wire, such that a cut transfer runs nothing (`safety.md`, Scripts).

Everything stands inside one ``{ … }`` whose closing brace is the last line. A shell parses a compound command to its
end before it runs any of it, so a text that lost its tail is a syntax error, wherever it was cut.
"""

import base64
import functools
import hashlib
import re
import shlex

from gpuwizard.remote.transport import Payload, Script

__all__ = ["render"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PAYLOAD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b-\x1f]")
_LONG = 8192
_TOKEN = re.compile(r"[A-Za-z0-9_]{8,}")

_PREAMBLE = """\
LC_ALL=C
export LC_ALL
R=${GPUWIZARD_FLEET_ROOT-}
case $R in
'') PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin ;;
esac
export PATH
cd "$R/" || exit 96
"""

_PAYLOAD_SETUP = """\
PAYLOADS=$(umask 077 && mktemp -d "$R/tmp/gpuwizard.XXXXXXXX") || {
echo 'gpuwizard: no place for temporary files' >&2
exit 97
}
trap 'rm -rf "$PAYLOADS"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
gpuwizard_payload() {
base64 -d >"$PAYLOADS/$1" || gpuwizard_damaged "payload $1"
}
gpuwizard_damaged() {
echo "gpuwizard: $1 arrived damaged" >&2
exit 97
}
gpuwizard_mask=$(umask)
umask 077
"""
_PAYLOAD_CHECK = """\
gpuwizard_damage=$(cd "$PAYLOADS" && sha256sum -c - 2>&1 <<'{end}'
{sums}{end}
) || gpuwizard_damaged "payload ${{gpuwizard_damage%%: *}}"
umask "$gpuwizard_mask"
"""


def render(script: Script, token: str, *, lines: bool = False) -> bytes:
    """The text for ``sh -s``. It prints `token` as a line on stdout and on stderr before ``main`` runs.

    With `lines`, ``main`` keeps the channel as its standard input: send nothing before the token was seen, because
    some shells read their script in blocks. Exit status: main's; 96 no root directory, 97 a payload is damaged.
    Raises ValueError for a name that is none or a NUL byte.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token must be letters and digits")
    parts = [
        "{\n",
        _PREAMBLE,
        script.text.rstrip("\n"),
        "\n",
        f"printf '%s\\n' {token}\nprintf '%s\\n' {token} >&2\n",
        *(_assignment(name, value) for name, value in script.environment.items()),
        *_payloads(script.payloads, token),
        _call(script, lines=lines),
        "exit $?\n}\n",
    ]
    text = "".join(parts)
    if "\0" in text:
        raise ValueError("a script cannot hold NUL bytes")
    return text.encode("utf-8", "surrogateescape")


def _assignment(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no shell variable")
    return f"{name}={_quoted_program(value) if len(value) > _LONG else shlex.quote(value)}\n"


@functools.lru_cache(maxsize=4)
def _quoted_program(text: str) -> str:
    """Kept, because the long texts are programs that go to all hosts of a run."""
    return shlex.quote(text)


def _payloads(payloads: tuple[Payload, ...], token: str) -> list[str]:
    if not payloads:
        return []
    names = [p.name for p in payloads]
    if len(set(names)) != len(names):
        raise ValueError("two payloads have one name")
    sums = "".join(f"{_encoded(p.data)[0]}  {p.name}\n" for p in payloads)
    end = f"END_{token}"
    check = _PAYLOAD_CHECK.format(end=end, sums=sums)
    texts: list[tuple[str, str]] = []
    parts = [_PAYLOAD_SETUP]
    for payload in payloads:
        if not _PAYLOAD_NAME.fullmatch(payload.name):
            raise ValueError(f"{payload.name!r} is no payload name")
        text = _plain(payload.data)
        if text is not None:
            texts.append((payload.name, text))
        else:
            parts.append(f"gpuwizard_payload {payload.name} <<'{end}'\n{_encoded(payload.data)[1]}{end}\n")
    return [*parts, *_texts(texts, end), check]


def _texts(texts: list[tuple[str, str]], end: str) -> list[str]:
    """All plain payloads behind each other, parted by one program: each of its own would be one more process."""
    if not texts:
        return []
    words, first = ["sed -n"], 1
    for name, text in texts:
        last = first + text.count("\n") - 1
        words.append(f"""-e '{first},{last}w '"$PAYLOADS/{name}\"""")
        first = last + 1
    return [f"{' '.join(words)} <<'{end}' || gpuwizard_damaged payloads\n", *(text for _, text in texts), f"{end}\n"]


@functools.lru_cache(maxsize=64)
def _plain(data: bytes) -> str | None:
    """Lines of plain ASCII travel as they are: a third less to send, and a shell keeps every byte of them."""
    if not data.endswith(b"\n") or not data.isascii() or _CONTROLS.search(data):
        return None
    return data.decode("ascii")


@functools.lru_cache(maxsize=64)
def _encoded(data: bytes) -> tuple[str, str]:
    """The sha256 of `data` and its base64 text; kept, because one payload goes to all hosts of a run."""
    return hashlib.sha256(data).hexdigest(), base64.encodebytes(data).decode("ascii")


def _call(script: Script, *, lines: bool) -> str:
    """The call of main. With payloads it runs in a subshell, so that no trap of its own can keep them from going."""
    words = " ".join(["main", *(shlex.quote(argument) for argument in script.arguments)])
    call = f"( {words} )" if script.payloads else words
    return f"{call}\n" if lines else f"{call} </dev/null\n"
