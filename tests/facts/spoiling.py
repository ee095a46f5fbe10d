"""Ways to spoil a probe: what a host, a shell, a network or an attacker can do to its bytes."""

import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gpuwizard.facts.frames import Section, read_frames
from tests.captured import edit

DATA = Path(__file__).parent.parent / "data" / "facts"
CRI = 'plugins."io.containerd.grpc.v1.cri".containerd'
HANDLER = f"""\
[{CRI}.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
[{CRI}.runtimes.nvidia.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
  SystemdCgroup = true
"""


def ready() -> bytes:
    """A captured host that is ready for GPU pods: its containerd knows the handler."""
    raw = (DATA / "kubeadm_h200.probe").read_bytes()
    dump = read_frames(raw).text("containerd-dump", "700")
    assert dump is not None
    dump = dump.split(f"[{CRI}.runtimes.site]")[0]
    return edit("containerd-dump:700", dump + HANDLER, probe=with_config(raw, dump + HANDLER))


def with_config(raw: bytes, text: str | bytes, path: str = "/etc/containerd/config.toml") -> bytes:
    """The probe with other content in a file that it brought."""
    content = text.encode() if isinstance(text, str) else text
    stats = f"644 0 0 1700000000 1700000000 {len(content)} {path}\n"
    others = [line for line in read_frames(raw).lines("file-stats") if not line.endswith(f" {path}")]
    raw = edit(f"file:{path}", base64.encodebytes(content).decode(), probe=raw)
    return edit("file-stats", stats + "".join(f"{line}\n" for line in others), probe=raw)


def written(sections: Sequence[Section]) -> bytes:
    """Sections as the probe prints them."""
    return b"".join(
        b"@@ %s%s %d %d\n%s\n"
        % (s.name.encode(), f":{s.key}".encode("utf-8", "replace") if s.key else b"", s.status, len(s.data), s.data)
        for s in sections
    )


WORDS = {
    "ok": "в порядке",
    "active": "aktiv",
    "loaded": "geladen",
    "Enabled": "Activé",
    "N/A": "н/д",
    "true": "ja",
    "root": "Wurzel",
    ".": ",",
    "0": "０",
    "1": "١",
}
NUMBERS = ("-1", "99999999999999999999", "1e400", "0x7fffffffffffffff", "NaN", "３", "", "1.0", "1,5")
JUNK = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(
        [
            b"\x1b]0;owned\x07\x1b[2J\x1b[31m",
            b"\x9b31m\x00\x00\xff\xfe",
            b"\xe2\x80\xae\xe2\x80\x8b",
            b"No devices were found\n",
            b"sh: 1: Permission denied\n",
            b"Segmentation fault (core dumped)\n",
            b"[[[[",
            b"{{{{",
            b"= = =",
            b"imports = ['/etc/containerd/config.toml']\n",
            b"\r\r\r\n",
            b"\n\n\n\n",
        ]
    ),
)
Change = Callable[[Any, list[Section], int], list[Section]]


def replaced(sections: list[Section], at: int, data: bytes, status: int | None = None) -> list[Section]:
    old = sections[at]
    new = Section(old.name, old.key, old.status if status is None else status, data)
    return [*sections[:at], new, *sections[at + 1 :]]


def cut_short(draw: Any, sections: list[Section], at: int) -> list[Section]:
    data = sections[at].data
    return replaced(sections, at, data[: draw(st.integers(0, len(data)))])


def removed(draw: Any, sections: list[Section], at: int) -> list[Section]:
    return [*sections[:at], *sections[at + 1 :]]


def other_content(draw: Any, sections: list[Section], at: int) -> list[Section]:
    return replaced(sections, at, draw(JUNK))


def junk_inside(draw: Any, sections: list[Section], at: int) -> list[Section]:
    data = sections[at].data
    place = draw(st.integers(0, len(data)))
    return replaced(sections, at, data[:place] + draw(JUNK) + data[place:])


def other_status(draw: Any, sections: list[Section], at: int) -> list[Section]:
    return replaced(sections, at, sections[at].data, draw(st.sampled_from([0, 1, 2, 9, 14, 124, 127, 137, 255, 999])))


def said_twice(draw: Any, sections: list[Section], at: int) -> list[Section]:
    """Two versions of one section: with the data of another, before or after the right one."""
    other = sections[draw(st.integers(0, len(sections) - 1))]
    second = Section(sections[at].name, sections[at].key, draw(st.sampled_from([0, 1])), other.data)
    place = draw(st.integers(0, len(sections)))
    return [*sections[:place], second, *sections[place:]]


def exchanged(draw: Any, sections: list[Section], at: int) -> list[Section]:
    other = draw(st.integers(0, len(sections) - 1))
    first, second = sections[at].data, sections[other].data
    return replaced(replaced(sections, at, second), other, first)


def other_key(draw: Any, sections: list[Section], at: int) -> list[Section]:
    key = draw(
        st.sampled_from(["", "0", "700", "-1", "99999999999", "/etc/containerd/config.toml", "x:y z", "\x1b[31m"])
    )
    new = Section(sections[at].name, key, sections[at].status, sections[at].data)
    return [*sections[:at], new, *sections[at + 1 :]]


def localised(draw: Any, sections: list[Section], at: int) -> list[Section]:
    text = sections[at].text
    for word in draw(st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=4)):
        text = text.replace(word, WORDS[word])
    return replaced(sections, at, text.encode("utf-8", "replace"))


def other_numbers(draw: Any, sections: list[Section], at: int) -> list[Section]:
    number = draw(st.sampled_from(NUMBERS)).encode()
    return replaced(sections, at, re.sub(rb"\d+", number, sections[at].data))


def lines_mixed(draw: Any, sections: list[Section], at: int) -> list[Section]:
    lines = sections[at].data.split(b"\n")
    kept = draw(st.lists(st.sampled_from(lines), max_size=2 * len(lines)))
    return replaced(sections, at, b"\n".join(kept))


def many_times(draw: Any, sections: list[Section], at: int) -> list[Section]:
    return replaced(sections, at, sections[at].data * draw(st.sampled_from([2, 10, 50])))


CHANGES: tuple[Change, ...] = (
    cut_short,
    removed,
    other_content,
    junk_inside,
    other_status,
    said_twice,
    exchanged,
    other_key,
    localised,
    other_numbers,
    lines_mixed,
    many_times,
)


def spoiled(draw: Any, raw: bytes) -> bytes:
    """One to three changes to sections, and at times one to the bytes of the whole."""
    sections = list(read_frames(raw).sections)
    for change in draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3)):
        if sections:
            sections = change(draw, sections, draw(st.integers(0, len(sections) - 1)))
    raw = written(sections)
    place = draw(st.integers(0, len(raw)))
    match draw(st.sampled_from(["", "", "cut", "insert", "overwrite", "crlf"])):
        case "cut":
            return raw[:place]
        case "insert":
            return raw[:place] + draw(JUNK) + raw[place:]
        case "overwrite":
            noise = draw(JUNK)
            return raw[:place] + noise + raw[place + len(noise) :]
        case "crlf":
            return raw.replace(b"\n", b"\r\n")
    return raw


# Texts that parsers fear


HOSTILE: dict[str, bytes] = {
    "blanks": b" ",
    "letters": b"a",
    "digits": b"1",
    "newlines": b"\n",
    "lists": b"[",
    "tables": b"{",
    "quotes": b'"',
    "single quotes": b"'",
    "backslashes": b"\\",
    "assignments": b"a=",
    "items": b"- ",
    "keys": b"a: ",
    "deep keys": b"a.",
    "commas": b"0,",
    "version": b"1.",
    "units": b"a.service/",
    "paths": b"/a",
    "comments": b"# ",
    "escapes": b"\x1b[",
    "titles": b"\x1b]",
    "returns": b"\r",
    "hidden": b"\xe2\x80\xae",
    "broken": b"\xff",
    "zeros": b"\0",
    "headers": b"@@ end 0 0\n\n",
    "half headers": b"@@ a 0 9\n",
    "blocks": b"Id=a\n\n",
    "words": b"NVRM: Xid (PCI:0000:83:00): 79, ",
    "lines": b"[    1.0] NVRM: Xid (PCI:0000:83:00): 79, x\n",
    "rows": b"0, GPU-1, NVIDIA H200, 00000000:83:00.0, N/A\n",
}


def yaml_bomb(levels: int = 30) -> str:
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    return "\n".join([*lines, ""])


DOCUMENTS: dict[str, str] = {
    "yaml bomb": yaml_bomb(),
    "yaml that contains itself": "a: &a\n  b: *a\n  c: [*a]\n",
    "yaml with a type": "a: !!python/object/apply:os.system [true]\n",
    "deep yaml": "[" * 5000,
    "deeper yaml": "".join(f"{' ' * n}a:\n" for n in range(800)),
    "deep json": '{"a":' * 5000 + "1" + "}" * 5000,
    "long json number": '{"a": ' + "1" * 5000 + "}",
    "deep toml": "a = " + "[" * 5000,
    "deep toml tables": "[" + ".".join("a" * 5000) + "]\nb = 1\n",
    "deep toml keys": ".".join(["a"] * 5000) + " = 1\n",
    "long toml number": "version = " + "2" * 5000 + "\n",
    "long hexadecimal": "version = 0x" + "f" * 5000 + "\n",
    "toml of dates": f"version = 2\n[{CRI}.runtimes.x.options]\na = 1979-05-27T07:32:00Z\nb = [nan, inf, 07:32:00]\n",
    "toml of other types": f"version = 'two'\nimports = {{}}\nplugins = []\n[grpc]\naddress = [1]\n[{'x' * 70000}]\n",
    "imports itself": 'version = 2\nimports = ["/etc/containerd/config.toml", "config.toml", "../config.toml"]\n',
    "imports everything": 'version = 2\nimports = ["/**/*", "/*/*/*/*", "[", "*[", "\\u0000"]\n',
    "control characters": f'version = 2\n[{CRI}.runtimes."\\u001b[31mred\\u202e"]\nruntime_type = "\\u0007\\n\\r"\n',
    "half a surrogate": f'version = 2\n[{CRI}.runtimes."a\\ud800"]\n',
}
