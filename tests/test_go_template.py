"""Go templates as K3s fills them: what people write, what Go refuses, and what cannot be told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.containerd.go_template import BadTemplateError, TemplateProblemError, UnpredictableError, fill
from gpuwizard.containerd.go_values import UNKNOWN, GoMap, Struct

RUNTIME = Struct("Runtime", {"RuntimeType": "", "BinaryName": ""})
NODE = Struct(
    "Config",
    {
        "SystemdCgroup": True,
        "Off": False,
        "Name": 'a"b',
        "Empty": "",
        "Nothing": None,
        "Hidden": UNKNOWN,
        "Address": "unix:///run/k3s/containerd/containerd.sock",
        "List": ("x", "y"),
        "Extra": GoMap({"nvidia": Struct("Runtime", {"RuntimeType": "io", "BinaryName": "/usr/bin/n"})}, RUNTIME),
        "Auth": GoMap({"b": "2", "a": "1"}),
        "Inner": Struct("Node", {"SELinux": True}, complete=False),
    },
)
FUNCTIONS = ("deschemify", "toJson", "filepathjoin")

GOOD = [
    ("plain", "plain"),
    ('{{ template "base" . }}\nx = {{ .SystemdCgroup }}\n', "BASE\nx = true\n"),
    ("{{template `base` .}}", "BASE"),
    ('a\n{{- template "base" . -}}\n  b', "aBASEb"),
    ("a {{/* said */}} b", "a  b"),
    ("a {{- /* said */ -}} b", "ab"),
    ('{{ if .Off }}1{{ else if eq .Name "x" }}2{{ else }}3{{ end }}', "3"),
    ("{{ if not .Off }}1{{ end }}", "1"),
    ("{{ if and .SystemdCgroup .Off }}1{{ else }}2{{ end }}", "2"),
    ('{{ or .Empty "z" }}', "z"),
    ("{{ if .Extra }}y{{ end }}{{ if .Nothing }}n{{ end }}", "y"),
    ("{{ with .Name }}{{ . | printf `%q` }}{{ else }}-{{ end }}", '"a\\"b"'),
    ("{{ with .Empty }}{{ . }}{{ else }}-{{ end }}", "-"),
    ("{{ range $k, $v := .Extra }}[{{ $k }}]={{ $v.BinaryName }}{{ end }}", "[nvidia]=/usr/bin/n"),
    ("{{ range $k, $v := .Auth }}{{ $k }}{{ $v }}{{ end }}", "a1b2"),
    ("{{ range .List }}{{ . }}{{ else }}none{{ end }}", "xy"),
    ("{{ range $i, $v := .List }}{{ if $i }}, {{ end }}{{ $v }}{{ end }}", "x, y"),
    ("{{ range .List }}{{ break }}{{ end }}-{{ range .List }}{{ continue }}{{ . }}{{ end }}", "-"),
    ("{{ range .Nothing }}a{{ else }}none{{ end }}", "none"),
    ('{{ (index .Extra "nvidia").BinaryName }}', "/usr/bin/n"),
    ('{{ if not (index .Extra "kata").BinaryName }}absent{{ end }}', "absent"),
    ("{{ $x := 1 }}{{ if .SystemdCgroup }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
    ("{{ $.Name }}{{ with .List }}{{ $.Empty }}{{ end }}", 'a"b'),
    ('{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" .Empty }}{{ template "t" "q" }}', "<><q>"),
    ('{{ block "t" .List }}{{ len . }}{{ end }}', "2"),
    ("{{ deschemify .Address }}", "/run/k3s/containerd/containerd.sock"),
    ("{{ deschemify .Address | printf `%q` }}", '"/run/k3s/containerd/containerd.sock"'),
    ('{{ filepathjoin "/a" "b" "../c" }}', "/a/c"),
    ("{{ toJson .List }}{{ toJson .Name }}", '["x","y"]"a\\"b"'),
    ("{{ .Inner.SELinux }}", "true"),
    ('{{ eq .Name "q" `a"b` }}{{ ne 1 2 }}{{ lt 1 2 }}', "truetruetrue"),
    ("{{ len .List }}{{ index .List 1 }}", "2y"),
    ("{{ println `a` }}{{ print 1 2 }}", "a\n1 2"),
    ("{{\n .Name\n}}", 'a"b'),
    ("{{ .List }}{{ .Auth }}{{ .Nothing }}", "[x y]map[a:1 b:2]<no value>"),
    ("{{ if or .SystemdCgroup .Hidden }}told{{ end }}", "told"),
]


@pytest.mark.parametrize(("source", "text"), GOOD)
def test_fills(source: str, text: str) -> None:
    assert fill(source, NODE, FUNCTIONS, {"base": "BASE"}).text == text


BAD = [
    ("{{ .Missing }}", 1, "can't evaluate field Missing"),
    ("\n\n{{ if .Off }}", 3, "{{end}} is missing"),
    ("a\n{{ end }}", 2, "unexpected {{end}}"),
    ("{{ else }}", 1, "unexpected {{else}}"),
    ("{{ if .Off }}{{ else }}{{ else }}{{ end }}", 1, "expected end"),
    ("{{ nosuch .Name }}", 1, 'function "nosuch" not defined'),
    ("{{ $x }}", 1, 'undefined variable "$x"'),
    ("{{ with $x := 1 }}{{ end }}{{ $x }}", 1, "undefined variable"),
    ("{{ }}", 1, "missing value"),
    ("{{ .Name", 1, "without an end"),
    ("{{ /* x", 1, "comment without an end"),
    ('{{ template "other" . }}', 1, "not defined"),
    ('{{ "a" "b" }}', 1, "can't give argument"),
    ("{{ nil }}", 1, "nil is not a command"),
    ("{{ .Name.Length }}", 1, "can't evaluate field Length in type string"),
    ("{{ .Nothing.X }}", 1, "nil pointer"),
    ("{{ eq .Name 1 }}", 1, "incompatible types"),
    ("{{ index .List 5 }}", 1, "out of range"),
    ("{{ len 3 }}", 1, "len of type int"),
    ("{{ range 'a }}", 1, "without an end"),
    ("{{ (.Name }}", 1, "unclosed left parenthesis"),
    ("{{ .Name ) }}", 1, "unexpected"),
    ("{{ break }}", 1, "outside {{range}}"),
    ('{{ if .Off }}{{ define "x" }}{{ end }}{{ end }}', 1, "define"),
    ("{{ ? }}", 1, "unexpected '?'"),
    ("{{ .Name | 3 }}", 1, "later part"),
    ("{{ not }}", 1, "wrong number of args"),
    ("{{ deschemify 3 }}", 1, "expected string"),
    ('{{ "a\\q" }}', 1, "bad escape"),
]


@pytest.mark.parametrize(("source", "line", "what"), BAD)
def test_what_go_refuses(source: str, line: int, what: str) -> None:
    with pytest.raises(BadTemplateError) as found:
        fill(source, NODE, FUNCTIONS, {"base": "BASE"})
    assert (found.value.line, what in found.value.what) == (line, True), found.value.what


UNTOLD = [
    "{{ .Hidden }}",
    "{{ if .Hidden }}x{{ end }}",
    "{{ range .Hidden }}x{{ end }}",
    "{{ .Inner.Other }}",
    '{{ eq .Hidden "x" }}',
    "{{ printf `%5s` .Name }}",
    "{{ html .Name }}",
    "{{ call .Name }}",
    "{{ 1.5 }}",
    "{{ .Inner }}",
    "{{ range 3 }}x{{ end }}",
    '{{ template "base" .Inner }}',
    '{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}',
    "{{ if 1 }}" * 80 + "{{ end }}" * 80,
    "{{ range $.List }}" * 20 + "{{ end }}" * 20,
]


@pytest.mark.parametrize("source", UNTOLD)
def test_what_cannot_be_told_is_said(source: str) -> None:
    with pytest.raises(UnpredictableError):
        fill(source, NODE, FUNCTIONS, {"base": "BASE"})


def test_functions_of_which_it_is_not_known() -> None:
    with pytest.raises(UnpredictableError, match="toJson"):
        fill("{{ toJson .Name }}", NODE, (), {}, ("toJson",))
    with pytest.raises(BadTemplateError, match="toJson"):
        fill("{{ toJson .Name }}", NODE)


_WORDS = st.sampled_from(
    ["{{", "}}", "{{-", "-}}", " ", "\n", ".", ".Name", ".Extra", ".Hidden", "$", "$x", ":=", "=", "|", "(", ")", ",",
     "if", "else", "end", "range", "with", "define", "block", "template", '"base"', '"t"', "`", '"', "'", "1", "-1",
     "eq", "index", "printf", '"%q"', "len", "nil", "true", "break", "/*", "*/", "and", "not", "{{ end }}", "{{ . }}",
     "{{ range .List }}", "{{ if .SystemdCgroup }}", "{{ else }}", "{{ $x := 1 }}", "\\", "0x", "é", "\udc80"]
)  # fmt: skip


@given(st.one_of(st.lists(_WORDS, max_size=40).map("".join), st.text(max_size=60).map(lambda t: "{{" + t + "}}")))
def test_any_text_is_filled_or_refused_in_words(source: str) -> None:
    line = problem_line(source, NODE)
    assert line is None or 1 <= line <= source.count("\n") + 1


def problem_line(source: str, value: Any) -> int | None:
    """The line of what is the matter; None where the template could be filled."""
    try:
        text = fill(source, value, FUNCTIONS, {"base": "BASE"}).text
    except TemplateProblemError as problem:
        return problem.line
    assert isinstance(text, str)
    return None


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=4), st.just(UNKNOWN)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(max_size=3), inner, max_size=3).map(GoMap)
    ),
    max_leaves=6,
)
_CALLS = st.sampled_from(
    ["{{ . }}", "{{ eq . . }}", "{{ lt . 1 }}", "{{ len . }}", "{{ index . 0 }}", '{{ index . "a" }}', "{{ toJson . }}",
     "{{ printf `%q %v` . . }}", "{{ range $k, $v := . }}{{ $v }}{{ end }}", "{{ .a }}", "{{ deschemify . }}",
     "{{ if . }}y{{ end }}", "{{ and . . }}", "{{ print . 1 }}", "{{ filepathjoin . }}", "{{ ne . 1 }}"]
)  # fmt: skip


@given(_CALLS, _VALUES)
def test_any_value_is_taken_or_refused_in_words(source: str, value: Any) -> None:
    assert problem_line(source, value) in (None, 1)
