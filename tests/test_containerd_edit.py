"""Edits of TOML texts: they change exactly what was planned and no other byte's meaning."""

import difflib
import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gpuwizard.containerd.edit import add_import, add_table, literal, set_value, verify
from gpuwizard.containerd.statements import flat_path, statements
from gpuwizard.errors import RefusedError

CRI = ("plugins", "io.containerd.grpc.v1.cri")
RUNTIMES = (*CRI, "containerd", "runtimes")
NVIDIA: dict[str, Any] = {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}

NAMES = st.sampled_from(["runc", "kata", "a.b", "x-y", "Ünï"])
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.one_of(st.booleans(), st.integers(-5, 5), TEXT, st.lists(TEXT, max_size=3))
COMMENTS = st.sampled_from(["", "", " # why", "  # [not.a.table]", ' # "quoted'])
LISTS = st.sampled_from(
    [
        "[]",
        '["/a"]',
        "['/a', '/b',]",
        '[\n  "/a", # [x]\n  "/b" # last\n]',
        "[ # none\n]",
        '[\n\t"/a",\n]',
        '["/a",\n "/b"] # ]',
        '[ "/a" # x\n, "/b" # y, z\n  # "/c",\n\n]',
        '[\n  # why\n  "/a",\n  # ["/c"]\n  ]',
        "[\n\n  # nothing yet\n]",
    ]
)


@st.composite
def configs(draw: st.DrawFn) -> str:
    """Configurations in many hands: comments, indentation, both quotes, lists over lines, odd strings."""
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    quote = draw(st.sampled_from("\"'"))
    lines = draw(st.lists(st.sampled_from(["", "# a comment", "# [plugins]"]), max_size=2))
    if draw(st.booleans()):
        lines.append(f"version = 2{draw(COMMENTS)}")
    if draw(st.booleans()):
        lines += [*f"imports = {draw(LISTS)}".split("\n")]
    if draw(st.booleans()):
        lines.append('root = """\n[plugins]\nimports = []\n"""')
    plugin = f"plugins.{quote}{CRI[1]}{quote}"
    indent = draw(st.sampled_from(["", "  ", "\t"]))
    if draw(st.booleans()):
        lines += [f"[{plugin}]{draw(COMMENTS)}", f"{indent}sandbox_image = {quote}x # y{quote}"]
    if draw(st.booleans()):
        lines.append(f"{indent}[{plugin}.containerd]")
        if draw(st.booleans()):
            lines.append(f"{indent}{indent}default_runtime_name = {quote}runc{quote}{draw(COMMENTS)}")
    for name in draw(st.lists(NAMES, max_size=3, unique=True)):
        lines += [
            *draw(st.sampled_from([[], [""], ["# about it"]])),
            f"{indent}[{plugin}.containerd.runtimes.{literal(name)}]",
        ]
        lines += [
            f"{indent}  {literal(k)} = {literal(v)}"
            for k, v in draw(st.dictionaries(NAMES, SCALARS, max_size=2)).items()
        ]
    text = newline.join(lines)
    return text + draw(st.sampled_from(["", newline]))


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\r\n", "\n").split("\n")]


@given(configs())
def test_statements_cover_a_text(text: str) -> None:
    position = 0
    for statement in statements(text):
        assert position <= statement.start <= statement.value_start < statement.value_end <= statement.end
        assert all(
            not part.strip() or part.strip().startswith("#") for part in text[position : statement.start].split("\n")
        )
        position = statement.end


@given(configs(), st.booleans())
def test_add_table(text: str, model: bool) -> None:
    new = add_table(text, (*RUNTIMES, "nvidia"), NVIDIA, after=(*RUNTIMES, "runc") if model else None)
    data = tomllib.loads(new)
    for part in RUNTIMES:
        data = data[part]
    assert data["nvidia"] == NVIDIA
    remaining = lines_of(new)
    for line in lines_of(text):
        assert line in remaining
    assert ("\r\n" in new) == ("\r\n" in text)


@given(configs())
def test_set_value_twice_is_once(text: str) -> None:
    once = set_value(text, (*CRI, "containerd", "default_runtime_name"), "nvidia")
    assert tomllib.loads(once)["plugins"][CRI[1]]["containerd"]["default_runtime_name"] == "nvidia"
    assert set_value(once, (*CRI, "containerd", "default_runtime_name"), "nvidia") == once


@given(configs())
def test_add_import(text: str) -> None:
    before = tomllib.loads(text)
    new = add_import(text, "/etc/x/*.toml")
    assert tomllib.loads(new) == {**before, "imports": [*before.get("imports", []), "/etc/x/*.toml"]}
    assert add_import(new, "/etc/x/*.toml") == new


@given(configs())
def test_add_import_leaves_every_line_as_it_was(text: str) -> None:
    """Nothing is removed; what is added is one element, with a comma and a line at most."""
    new = add_import(text, "/etc/x/*.toml")
    parts = difflib.SequenceMatcher(None, text, new, autojunk=False).get_opcodes()
    assert {part[0] for part in parts} <= {"equal", "insert"}
    remaining = new.splitlines()
    changed = [line for line in text.splitlines() if line not in remaining]
    assert len(changed) <= 1
    for line in changed:
        head, quote, behind = line.partition("#")
        assert any(n.endswith(quote + behind) and n.startswith(head.rstrip(" ]")) for n in remaining)


NEW = '"/etc/x/*.toml"'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[]", f"[{NEW}]"),
        ("[ ]", f"[{NEW}]"),
        ('["/a"]', f'["/a", {NEW}]'),
        ('["/a"] # the only one', f'["/a", {NEW}] # the only one'),
        ('[ "/a", ]', f'[ "/a", {NEW}, ]'),
        ("[\n]", f"[\n  {NEW}\n]"),
        ('[\n  "/a"\n]', f'[\n  "/a",\n  {NEW}\n]'),
        ('[\n\t"/a",\n]', f'[\n\t"/a",\n\t{NEW},\n]'),
        ('[\n  "/a",   # first\n  "/b"    # second, and last\n]',
         f'[\n  "/a",   # first\n  "/b",    # second, and last\n  {NEW}\n]'),
        ('[\n  "/a",\n  # about /a, still\n]', f'[\n  "/a",\n  # about /a, still\n  {NEW},\n]'),
        ('[\n  "/a" # one\n  # "/off",\n\n  # end\n]', f'[\n  "/a", # one\n  # "/off",\n\n  # end\n  {NEW}\n]'),
        ('[ # ours\n    # "/off",\n]', f'[ # ours\n    # "/off",\n    {NEW}\n]'),
        ("[ # none\n]", f"[ # none\n  {NEW}\n]"),
        ('["/a",\n "/b"]', f'["/a",\n "/b", {NEW}]'),
        ('["/a", # x\n "/b" ] # y', f'["/a", # x\n "/b", {NEW} ] # y'),
        ('[ "/a" # x\n, "/b" # y\n]', f'[ "/a" # x\n, "/b" # y\n, {NEW}\n]'),
        ('["/a", # x\n]', f'["/a", # x\n  {NEW},\n]'),
        ('[\n  "/a#b", # "]"\n  ]', f'[\n  "/a#b", # "]"\n  {NEW},\n  ]'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_comments_and_layout_of_a_list_stay(before: str, after: str, newline: str) -> None:
    text = f"# head\nversion = 2\nimports = {before}\n\n[grpc]\n  address = 'x' # y\n".replace("\n", newline)
    wanted = f"# head\nversion = 2\nimports = {after}\n\n[grpc]\n  address = 'x' # y\n".replace("\n", newline)
    assert add_import(text, "/etc/x/*.toml") == wanted


@given(SCALARS)
def test_literal_reads_back(value: Any) -> None:
    assert tomllib.loads(f"x = {literal(value)}") == {"x": value}


def test_comment_behind_a_changed_value_stays() -> None:
    text = '[plugins."io.containerd.grpc.v1.cri".containerd]\n  default_runtime_name = "runc"  # ours\n'
    assert 'default_runtime_name = "nvidia"  # ours\n' in set_value(
        text, (*CRI, "containerd", "default_runtime_name"), "nvidia"
    )


KEYS = st.sampled_from(["a", "b", "c", "io.x.v1", "d e"])
ODD_VALUES = st.sampled_from(
    ["{ a = 1, b.c = 'x' }", "{}", "[{ a = 1 }, {}]", "1979-05-27", "0x1F", "-inf", "'''\n[a]\n'''", '"""\n#\n"""']
)


@st.composite
def any_toml(draw: st.DrawFn) -> str:
    """TOML of every style that the language has, valid or not: dotted keys, braces, arrays of tables, long strings."""
    lines: list[str] = []
    for _ in range(draw(st.integers(0, 6))):
        path = flat_path(tuple(draw(st.lists(KEYS, min_size=1, max_size=3))), draw(st.sampled_from("\"'")))
        value = draw(st.one_of(st.builds(literal, SCALARS), ODD_VALUES))
        line = [f"{path} = {value}{draw(COMMENTS)}", f"  [{path}] # [a]", f"[[{path}]]", f"[ {path} ]", "# [a]", ""]
        lines.append(draw(st.sampled_from(line)))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n"]))


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None, max_examples=200)
@given(any_toml(), st.lists(KEYS, min_size=1, max_size=3), st.sampled_from(["new", True, 7, ["x"]]))
def test_one_value_changes_and_all_other_lines_stay(text: str, keys: list[str], value: Any) -> None:
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    try:
        new = set_value(text, tuple(keys), value)
    except RefusedError:
        return
    node: dict[str, Any] = expected
    for key in keys[:-1]:
        node = node.setdefault(key, {})
    node[keys[-1]] = value
    assert tomllib.loads(new) == expected
    gone = [line for line in difflib.ndiff(lines_of(text), lines_of(new)) if line.startswith("- ") and line[2:].strip()]
    assert len(gone) <= 1 or "'''" in text or '"""' in text
    assert set_value(new, tuple(keys), value) == new


@given(configs(), st.sampled_from(["ab.c", "d"]))
def test_dotted_keys_get_a_dotted_line_beside_them(text: str, name: str) -> None:
    """A header for a table that exists by dotted keys alone would be no TOML."""
    first = f"x.{literal(name)}.y = 1 # mine\n"
    new = set_value(first + text, ("x", name, "z"), "w")
    assert new.startswith(first)
    assert tomllib.loads(new)["x"] == {name: {"y": 1, "z": "w"}}
    assert new.removeprefix(first) == f'x.{flat_path((name,))}.z = "w"\n{text}'


@pytest.mark.parametrize(
    "text",
    [
        'plugins = { "io.containerd.grpc.v1.cri" = { containerd = {} } }\n',
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes]\nrunc = { runtime_type = "x" }\nnvidia = {}\n',
    ],
)
def test_styles_that_tables_cannot_extend_are_refused(text: str) -> None:
    tomllib.loads(text)
    with pytest.raises(RefusedError, match="does not fit"):
        add_table(text, (*RUNTIMES, "nvidia"), NVIDIA)


@pytest.mark.parametrize(
    "sabotaged",
    [
        "version = 2\nroot = '/x'\nimports = ['a']\n",  # something vanished
        "version = 2\nroot = '/var'\nimports = ['a', 'b']\n",  # another value changed
        "version = true\nroot = '/x'\nimports = ['a', 'b']\n",  # true is not 1, and not 2
        "version = 2\nroot = '/x'\nimports = ['a', 'b']\nimports = ['a', 'b']\n",  # no TOML
        "version = 2\nroot = '/x'\n[t]\nimports = ['a', 'b']\n",  # fell into a table
    ],
)
def test_a_sabotaged_edit_is_refused(sabotaged: str) -> None:
    before = "version = 2\nroot = '/x'\nimports = ['a']\n"
    verify(before, before.replace("'a'", "'a', 'b'"), {("imports",): ["a", "b"]})
    with pytest.raises(RefusedError):
        verify(before, sabotaged, {("imports",): ["a", "b"]})


def test_broken_text_is_refused() -> None:
    with pytest.raises(RefusedError, match="not valid TOML"):
        add_import("version = \n", "x")
