"""What K3s and RKE2 will render: files as each release writes them, predicted from each other."""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.containerd import compare, effective
from gpuwizard.containerd.k3s_base import DETECTABLE, Detected, base_document, read_document
from gpuwizard.containerd.k3s_release import Applying, applying_template, release_of
from gpuwizard.containerd.k3s_render import NextStart, PredictionError, predict, toml_text
from gpuwizard.containerd.k3s_template import converted, with_handler, without_handlers
from gpuwizard.errors import RefusedError
from tests.rancher_files import DATA, FOLDER, RELEASES, V2_TEMPLATE, V3_TEMPLATE, rendered

NVIDIA = Detected("io.containerd.runc.v2", "/usr/bin/nvidia-container-runtime")
BASE = '{{ template "base" . }}\n'
KATA = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\n  runtime_type = \"io.containerd.kata.v2\"\n"
CRI_V2, RUNTIME_V3 = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
V2_DEFAULT = f'[plugins."{CRI_V2}".containerd]\n  default_runtime_name = "nvidia"\n'
OLD_NVIDIA = '[plugins.cri.containerd.runtimes.nvidia]\n  runtime_type = "io.containerd.runc.v2"\n'
NVIDIA_BLOCK = """[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
    BinaryName = "/usr/bin/nvidia-container-runtime"
    SystemdCgroup = {{ .SystemdCgroup }}
"""


def start(version: str, files: Mapping[str, str] | None = None, nvidia: bool = True, **more: Any) -> NextStart:
    """A node of that release whose file was rendered without the toolkit, before its next start."""
    texts = {f"{FOLDER}/config.toml": rendered(version), **(files or {})}
    raw = {path: text.encode() for path, text in texts.items()}
    return NextStart(release_of(version), "k3s", FOLDER, raw, {"nvidia": NVIDIA} if nvidia else {}, **more)


def what_it_makes(version: str, text: str) -> Any:
    path = f"{FOLDER}/config.toml"
    return effective({path: text.encode()}, path, RELEASES[version])


@pytest.mark.parametrize("version", RELEASES)
def test_nothing_new_renders_the_same_again(version: str) -> None:
    """Effective-equal: every value, handler and plugin setting of the real file comes out again."""
    found = predict(start(version, nvidia=False))
    assert tomllib.loads(found.text) == tomllib.loads(rendered(version))
    assert compare(what_it_makes(version, rendered(version)), what_it_makes(version, found.text)) == ()


@pytest.mark.parametrize("version", [v for v in RELEASES if release_of(v).detects_nvidia])
def test_the_toolkit_is_all_that_is_new(version: str) -> None:
    found = predict(start(version))
    before, after = (what_it_makes(version, text) for text in (rendered(version), found.text))
    assert after.usable
    assert {c.key for c in compare(before, after)} <= {
        "handler nvidia",
        "handler nvidia.BinaryName",
        "handler nvidia.SystemdCgroup",
    }
    assert after.runtimes["nvidia"].options["BinaryName"] == NVIDIA.path
    same = after.runtimes["nvidia"].options.get("SystemdCgroup") == after.runtimes["runc"].options.get("SystemdCgroup")
    assert same == (version not in ("v1.22.17+k3s1", "v1.25.16+k3s4", "v1.26.3+k3s1") or "runc" not in after.runtimes
                    or not after.runtimes["runc"].options.get("SystemdCgroup"))  # fmt: skip
    assert tomllib.loads(found.text) == tomllib.loads(rendered(version, nvidia=True))


@pytest.mark.parametrize("version", [v for v in RELEASES if release_of(v).has_default_runtime])
def test_the_default_runtime_option(version: str) -> None:
    after = what_it_makes(version, predict(start(version, default_runtime="nvidia")).text)
    assert (after.usable, after.default_runtime_name) == (True, "nvidia")
    with pytest.raises(PredictionError, match="default runtime runc was not found") as found:
        predict(start(version, default_runtime="runc"))
    assert found.value.kind == "crash-loop"
    with pytest.raises(PredictionError, match="default runtime nvidia was not found"):
        predict(start(version, nvidia=False, default_runtime="nvidia"))


@pytest.mark.parametrize(
    ("version", "present", "applies", "dialect"),
    [
        ("v1.33.5+k3s1", (), None, 3),
        ("v1.33.5+k3s1", (V2_TEMPLATE,), V2_TEMPLATE, 2),
        ("v1.33.5+k3s1", (V3_TEMPLATE, V2_TEMPLATE), V3_TEMPLATE, 3),
        ("v1.32.2+k3s1", (V3_TEMPLATE,), V3_TEMPLATE, 3),
        ("v1.32.1+k3s1", (V3_TEMPLATE,), None, 2),
        ("v1.31.6+k3s1", (V3_TEMPLATE,), V3_TEMPLATE, 3),
        ("v1.31.5+k3s1", (V3_TEMPLATE, V2_TEMPLATE), V2_TEMPLATE, 2),
        ("v1.25.4+k3s1", (), None, 2),
        ("v1.25.3+k3s1", (), None, 1),
        ("v1.17.17+k3s1", (V2_TEMPLATE,), V2_TEMPLATE, 1),
    ],
)
def test_which_template_applies(version: str, present: tuple[str, ...], applies: str | None, dialect: int) -> None:
    found = applying_template(dict.fromkeys(present, b"x"), FOLDER, release_of(version))
    assert (found.path, found.dialect) == (applies, dialect)


TEMPLATES = [
    ("v1.33.5+k3s1", V3_TEMPLATE, BASE + KATA, None),
    ("v1.33.5+k3s1", V3_TEMPLATE, BASE + NVIDIA_BLOCK, "twice"),
    ("v1.28.5+k3s1", V2_TEMPLATE, BASE + V2_DEFAULT, "twice"),
    ("v1.33.5+k3s1", V3_TEMPLATE, BASE + V2_DEFAULT.replace(CRI_V2, RUNTIME_V3), None),
    ("v1.28.5+k3s1", V2_TEMPLATE, BASE + OLD_NVIDIA, "old tables"),
    ("v1.33.5+k3s1", V3_TEMPLATE, BASE + "{{ range $n, $r := .ExtraRuntimes }}# {{ $n }}\n{{ end }}", None),
    ("v1.33.5+k3s1", V2_TEMPLATE, BASE, None),
    ("v1.28.5+k3s1", V2_TEMPLATE, "{{- /* mine */ -}}\n" + BASE, None),
]


@pytest.mark.parametrize(("version", "path", "text", "breaks"), TEMPLATES)
def test_templates_with_base(version: str, path: str, text: str, breaks: str | None) -> None:
    found = predict(start(version, {path: text}))
    after = what_it_makes(version, found.text)
    assert found.base
    assert after.usable == (breaks is None)
    if breaks is None:
        assert {"runc", "nvidia"} <= set(after.runtimes)
        assert ("kata" in after.runtimes) == ("kata" in text)
        assert after.sandbox_image == what_it_makes(version, rendered(version)).sandbox_image


def foreign(version: str, name: str = "kata") -> str:
    """The rendered file of that release with a handler in it that its built-in template never writes."""
    cri = {1: "plugins.cri", 2: f'plugins."{CRI_V2}"', 3: f"plugins.'{RUNTIME_V3}'"}
    text = rendered(version)
    dialect = read_document(tomllib.loads(text)).dialect
    return f'{text}[{cri[dialect]}.containerd.runtimes.{name}]\n  runtime_type = "io.containerd.{name}.v2"\n'


@pytest.mark.parametrize("version", RELEASES)
def test_a_handler_that_nothing_explains_is_not_rendered_again(version: str) -> None:
    """By hand, or by a template that is gone: the file is written from scratch. What detection finds stays."""
    here = {f"{FOLDER}/config.toml": foreign(version)}
    found = predict(start(version, here, nvidia=False))
    assert tomllib.loads(found.text) == tomllib.loads(rendered(version))
    before, after = (what_it_makes(version, text) for text in (foreign(version), found.text))
    assert {c.key for c in compare(before, after) if c.after is None} >= {"handler kata"}


def test_a_handler_that_the_template_of_today_writes_stays() -> None:
    here = {f"{FOLDER}/config.toml": foreign("v1.33.5+k3s1"), V3_TEMPLATE: BASE + KATA}
    assert "kata" in what_it_makes("v1.33.5+k3s1", predict(start("v1.33.5+k3s1", here)).text).runtimes


def test_registries_stay_without_a_row_of_their_own() -> None:
    text = f"{rendered('v1.33.5+k3s1')}[plugins.'{CRI_V2}'.registry.configs.'r'.tls]\n  ca_file = '/ca'\n"
    found = predict(start("v1.33.5+k3s1", {f"{FOLDER}/config.toml": text}, nvidia=False))
    assert tomllib.loads(found.text) == tomllib.loads(text)


def test_what_a_later_release_detects_is_not_known() -> None:
    later = replace(start("v1.36.0+k3s1", {f"{FOLDER}/config.toml": foreign("v1.36.0+k3s1", "wamr")}, nvidia=False))
    assert "wamr" not in predict(later).text
    assert "wamr" in predict(replace(later, release=release_of("v1.99.0+k3s1"))).text


def test_a_template_written_from_source() -> None:
    """A whole template with actions: its own text is all that comes out."""
    source = (
        'version = 3\nroot = {{ printf "%q" .NodeConfig.Containerd.Root }}\n'
        'state = {{ printf "%q" .NodeConfig.Containerd.State }}\n[grpc]\n'
        '  address = {{ deschemify .NodeConfig.Containerd.Address | printf "%q" }}\n'
        "{{ with .NodeConfig.AgentConfig.PauseImage }}\n"
        "[plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = \"{{ . }}\"\n{{ end }}\n"
        "{{ if .PrivateRegistryConfig }}{{ range $k, $v := .PrivateRegistryConfig.Configs }}# {{ $k }}{{ end }}"
        "{{ end }}\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n"
        '  runtime_type = "io.containerd.runc.v2"\n'
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n"
        "  SystemdCgroup = {{ .SystemdCgroup }}\n"
        "{{ range $k, $v := .ExtraRuntimes }}\n"
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.\"{{ $k }}\"]\n"
        '  runtime_type = "{{ $v.RuntimeType }}"\n'
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.\"{{ $k }}\".options]\n"
        '  BinaryName = "{{ $v.BinaryName }}"\n  SystemdCgroup = {{ $.SystemdCgroup }}\n{{ end }}'
    )
    found = predict(start("v1.33.5+k3s1", {V3_TEMPLATE: source}))
    assert (found.base, found.renders) == (False, True)
    document = tomllib.loads(found.text)
    assert document["root"] == f"{DATA}/agent/containerd"
    assert document["grpc"]["address"] == "/run/k3s/containerd/containerd.sock"
    after = what_it_makes("v1.33.5+k3s1", found.text)
    assert after.runtimes["nvidia"].options == {"BinaryName": NVIDIA.path, "SystemdCgroup": True}


WOULD_NOT_START = [
    ("v1.33.5+k3s1", "{{ .SELinuxEnabled }}\n", "SELinuxEnabled"),
    ("v1.33.5+k3s1", BASE + "{{ if .SystemdCgroup }}\n", "line 2: unexpected end of the template"),
    ("v1.33.5+k3s1", BASE + '{{ filepathjoin "a" "b" }}', 'function "filepathjoin" not defined'),
    ("v1.33.5+k3s1", "version = 3\n" + KATA, "does not set root, state, [grpc] address"),
    ("v1.34.6+k3s1", KATA + "\n" + BASE, "does not set root, state"),
    ("v1.22.17+k3s1", BASE, 'template "base" not defined'),
    ("v1.17.17+k3s1", "{{ range .ExtraRuntimes }}{{ end }}", "ExtraRuntimes"),
]


@pytest.mark.parametrize(("version", "text", "why"), WOULD_NOT_START)
def test_templates_with_which_k3s_would_not_start(version: str, text: str, why: str) -> None:
    path = V3_TEMPLATE if release_of(version).has_v3_template else V2_TEMPLATE
    with pytest.raises(PredictionError) as found:
        predict(start(version, {path: text}))
    assert found.value.kind == "crash-loop"
    assert why in found.value.what
    assert path in found.value.what


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("v1.33.5+k3s1", BASE + "{{ .NodeConfig.AgentConfig.NodeName }}"),
        ("v1.28.5+k3s1", BASE + "{{ toJson .SystemdCgroup }}"),
        ("v1.99.0+k3s1", BASE + "{{ shiny .SystemdCgroup }}"),
        ("v1.99.0+k3s1", BASE + "{{ .Shiny }}"),
        ("v1.24.17+k3s1", "x = {{ .SystemdCgroup }}"),
    ],
)
def test_what_cannot_be_told(version: str, text: str) -> None:
    known = version if version in RELEASES else "v1.36.2+k3s1" if "99" in version else "v1.28.5+k3s1"
    path = V3_TEMPLATE if release_of(version).has_v3_template else V2_TEMPLATE
    coming = replace(start(known, {path: text}), release=release_of(version))
    with pytest.raises(PredictionError) as found:
        predict(coming)
    assert (found.value.kind, path in found.value.what) == ("unpredictable", True)


def test_without_a_rendered_file_nothing_is_guessed() -> None:
    coming = replace(start("v1.33.5+k3s1"), files={})
    with pytest.raises(PredictionError, match="not there or broken"):
        predict(coming)


# Edits of templates


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BASE + NVIDIA_BLOCK, BASE),
        (BASE + "\n" + NVIDIA_BLOCK + "\n# mine\n" + KATA, BASE + "\n# mine\n" + KATA),
        (BASE + KATA + NVIDIA_BLOCK, BASE + KATA),
        (NVIDIA_BLOCK + BASE, BASE),
        (BASE.replace("\n", "\r\n") + NVIDIA_BLOCK.replace("\n", "\r\n"), BASE.replace("\n", "\r\n")),
        (BASE + "{{ if true }}\n" + NVIDIA_BLOCK + "{{ end }}\n", BASE + "{{ if true }}\n{{ end }}\n"),
        (BASE + '[plugins.cri.containerd.runtimes.nvidia]\n  runtime_type = "x"\n', BASE),
        (BASE + KATA, BASE + KATA),
    ],
)
def test_only_the_block_is_taken_out(before: str, after: str) -> None:
    assert without_handlers(before, ("nvidia",)) == after


def test_a_handler_of_ours_steps_back() -> None:
    """The block names a runtime that K3s does not look for; found later, the base's own table is the only one."""
    text = with_handler(BASE, 3, "nvidia", "/opt/x/nvidia-container-runtime", "nvidia")
    alone = what_it_makes("v1.33.5+k3s1", predict(start("v1.33.5+k3s1", {V3_TEMPLATE: text}, nvidia=False)).text)
    assert alone.runtimes["nvidia"].options == {"BinaryName": "/opt/x/nvidia-container-runtime", "SystemdCgroup": True}
    assert (alone.usable, alone.default_runtime_name) == (True, "nvidia")
    both = what_it_makes("v1.33.5+k3s1", predict(start("v1.33.5+k3s1", {V3_TEMPLATE: text})).text)
    assert both.usable
    assert both.runtimes["nvidia"].options["BinaryName"] == NVIDIA.path
    asked = start("v1.33.5+k3s1", {V3_TEMPLATE: text}, default_runtime="nvidia")
    assert what_it_makes("v1.33.5+k3s1", predict(asked).text).usable


def stale(version: str, path: str, text: str, files: Mapping[str, str] | None = None) -> dict[str, bytes | None]:
    coming = start(version, {path: text, **(files or {})}, fresh={"systemd_cgroup": True, "root": "/r"})
    return converted(coming, path, text)


def test_a_stale_copy_leaves_nothing_behind() -> None:
    assert stale("v1.33.5+k3s1", V3_TEMPLATE, rendered("v1.33.5+k3s1", nvidia=True)) == {V3_TEMPLATE: None}
    assert stale("v1.33.5+k3s1", V2_TEMPLATE, rendered("v1.17.17+k3s1")) == {V2_TEMPLATE: None}
    other = stale("v1.33.5+k3s1", V3_TEMPLATE, rendered("v1.33.5+k3s1"), {V2_TEMPLATE: "version = 2\n"})
    assert other == {V3_TEMPLATE: BASE.encode()}, "the other template must not come to life"


def test_what_is_ones_own_survives() -> None:
    new = stale("v1.33.5+k3s1", V2_TEMPLATE, rendered("v1.33.5+k3s1") + KATA)
    assert list(new) == [V3_TEMPLATE, V2_TEMPLATE]
    text = new[V3_TEMPLATE]
    assert text is not None
    assert text.decode() == BASE + KATA
    assert new[V2_TEMPLATE] is None
    hybrid = rendered("v1.28.5+k3s1") + (
        '[plugins.cri.containerd.runtimes.nvidia]\n  runtime_type = "io.containerd.runc.v2"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]\n  runtime_type = "io.containerd.runsc.v1"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc.options]\n  SystemdCgroup = true\n'
    )
    kept = stale("v1.28.5+k3s1", V2_TEMPLATE, hybrid)[V2_TEMPLATE]
    assert kept is not None
    assert "runsc" in kept.decode()
    assert "nvidia" not in kept.decode()
    assert "SystemdCgroup = {{ .SystemdCgroup }}" in kept.decode()


def test_version_1_becomes_version_2() -> None:
    old = rendered("v1.17.17+k3s1") + (
        '[plugins.linux]\n  runtime = "nvidia-container-runtime"\n'
        '[plugins.cri.containerd.runtimes.kata]\n  runtime_type = "io.containerd.kata.v2"\n'
    )
    kept = stale("v1.28.5+k3s1", V2_TEMPLATE, old)[V2_TEMPLATE]
    assert kept is not None
    assert kept.decode() == BASE + (
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\n  runtime_type = "io.containerd.kata.v2"\n'
    )


@pytest.mark.parametrize(
    ("version", "path", "more", "why"),
    [
        ("v1.28.5+k3s1", V2_TEMPLATE, "max_concurrent_downloads = 5\n", "which the base writes, too"),
        ("v1.28.5+k3s1", V2_TEMPLATE, "x = = 1\n", "gives no TOML"),
        ("v1.28.5+k3s1", V2_TEMPLATE, "x = '{{ .Nope }}'\n", "Nope"),
    ],
)
def test_what_a_person_has_to_convert(version: str, path: str, more: str, why: str) -> None:
    head, mark, tail = rendered(version).partition('[plugins."io.containerd.grpc.v1.cri"]\n')
    with pytest.raises(RefusedError, match=why):
        stale(version, path, head + mark + more + tail)


# Properties

_DETECTED = st.dictionaries(
    st.sampled_from(sorted(DETECTABLE)), st.sampled_from(["/usr/bin/a", "/opt/b"]), max_size=4
).map(lambda found: {name: Detected(DETECTABLE[name][0], path) for name, path in found.items()})


@given(st.sampled_from(sorted(RELEASES)), _DETECTED)
def test_a_rendered_file_tells_what_it_was_made_of(version: str, detected: dict[str, Detected]) -> None:
    release = release_of(version)
    node = read_document(tomllib.loads(rendered(version)))
    document = base_document(node, release, node.dialect, detected, FOLDER)
    again = read_document(tomllib.loads(toml_text(document, "k3s")))
    assert (again.values, again.rest, dict(again.detected)) == (node.values, node.rest, detected)


@given(st.sampled_from([v for v in RELEASES if release_of(v).has_base]), st.text(max_size=80))
def test_any_template_is_predicted_or_refused(version: str, text: str) -> None:
    path = V3_TEMPLATE if release_of(version).has_v3_template else V2_TEMPLATE
    coming = start(version)
    coming = replace(coming, files={**coming.files, path: text.encode("utf-8", "surrogatepass")})
    with suppress(PredictionError):
        predict(coming)


@given(st.text(max_size=120))
def test_any_text_is_converted_or_refused(text: str) -> None:
    with suppress(RefusedError):
        stale("v1.33.5+k3s1", V3_TEMPLATE, text)


def test_applying_says_its_text() -> None:
    found = applying_template({V3_TEMPLATE: BASE.encode()}, FOLDER, release_of("v1.33.5"))
    assert found == Applying(V3_TEMPLATE, BASE, 3)
