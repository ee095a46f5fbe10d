"""containerd's files as people and tools leave them: marks, line ends, imports, CDI, the default there and back."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd import Effective, effective
from gpuwizard.facts.model import Probe
from gpuwizard.flavours import plan_host
from tests.plan_probes import DROP_IN, MAIN, RUNTIME_PATH, applied, containerd_host

CRI = '[plugins."io.containerd.grpc.v1.cri"'
RUNC = (
    f'{CRI}.containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n'
    f"{CRI}.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n"
)
NVIDIA = (
    f'{CRI}.containerd.runtimes.nvidia]\n  runtime_type = "io.containerd.runc.v2"\n'
    f'{CRI}.containerd.runtimes.nvidia.options]\n  BinaryName = "{RUNTIME_PATH}"\n  SystemdCgroup = true\n'
)
V2 = "version = 2\n"
ON = Answers(runtime=Runtime(default_runtime="nvidia", cdi="leave"))
OFF = Answers(runtime=Runtime(default_runtime="former", cdi="leave"))
LEAVE = Answers(runtime=Runtime(cdi="leave"))


def after(probe: Probe, planned: HostPlanned) -> dict[str, bytes]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    return {p: c.encode() if isinstance(c, str) else c for p, c in applied(probe, changes).items() if c is not None}


def state(probe: Probe, files: dict[str, bytes]) -> Effective:
    return effective(files, MAIN, probe.facts.runtimes[0].version or "")


def planned_files(version: str, files: dict[str, Any], answers: Answers) -> dict[str, bytes]:
    probe = containerd_host(version, files)
    planned = plan_host("n1", probe, answers)
    assert planned.refusals == ()
    return after(probe, planned)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"# caf\xe9\n", b""])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("version", ["1.6.20", "1.7.24"])
def test_byte_order_mark_line_ends_and_odd_bytes_stay(version: str, newline: str, mark: bytes) -> None:
    mark = mark.replace(b"\n", newline.encode())
    text = mark + (V2 + "# mine\n" + RUNC).replace("\n", newline).encode()
    new = planned_files(version, {MAIN: text}, ON)[MAIN]
    assert new.startswith(text[: len(mark) + 5])
    lines = new.split(b"\n")
    assert all(line in lines for line in text.split(b"\n"))
    assert {line.endswith(b"\r") for line in lines[:-1]} == {newline == "\r\n"}


def test_a_byte_order_mark_stops_containerd_2() -> None:
    (refusal,) = plan_host("n1", containerd_host("2.1.9", {MAIN: b"\xef\xbb\xbfversion = 2\n"}), Answers()).refusals
    assert refusal.id == "broken-now"
    assert "byte order mark" in refusal.why


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ("", ["/etc/containerd/conf.d/*.toml"]),
        ('imports = ["/etc/containerd/conf.d/*.toml"]\n', None),
        ('imports = ["conf.d/*.toml"]\n', None),
        ('imports = ["/etc/containerd/*/*.toml"]\n', None),
        ('imports = ["/etc/x/*.toml"]\n', ["/etc/x/*.toml", "/etc/containerd/conf.d/*.toml"]),
        ('imports = [\n  "/etc/x/*.toml", # theirs\n]\n', ["/etc/x/*.toml", "/etc/containerd/conf.d/*.toml"]),
        ('imports = ["/etc/containerd/conf.d/*.conf"]\n', None),
    ],
)
@pytest.mark.parametrize("root", ["version = 2\n", "version = 3\n"])
def test_imports(root: str, imports: str, expected: list[str] | None) -> None:
    probe = containerd_host("2.1.9", {MAIN: root + imports})
    planned = plan_host("n1", probe, Answers())
    assert planned.refusals == ()
    files = after(probe, planned)
    if imports.endswith('.conf"]\n'):
        expected = ["/etc/containerd/conf.d/*.conf", "/etc/containerd/conf.d/*.toml"]
    assert [c.path for c in planned.change.files] == ([DROP_IN] if expected is None else [DROP_IN, MAIN])
    if expected is not None:
        assert tomllib.loads(files[MAIN].decode())["imports"] == expected
    assert "# theirs" not in imports or b"# theirs" in files[MAIN]
    assert "nvidia" in state(probe, files).runtimes


def test_a_folder_that_the_probe_did_not_see_is_not_imported_as_a_whole() -> None:
    main = "/opt/x/config.toml"
    probe = containerd_host("2.1.9", {main: "version = 3\n"}, main=main)
    root = after(probe, plan_host("n1", probe, Answers()))[main].decode()
    assert tomllib.loads(root)["imports"] == ["/opt/x/conf.d/99-gpuwizard-nvidia*.toml"]


ONE_LINE = [
    (f"{V2}[plugins.'io.containerd.grpc.v1.cri']\ncontainerd.runtimes.runc = {{ runtime_type = 'x' }}\n", ()),
    (
        f"{V2}{CRI}]\n  containerd.runtimes.runc.runtime_type = 'x'\n",
        ("  containerd.default_runtime_name", "  enable_cdi"),
    ),
    (f"{V2}plugins.'io.containerd.grpc.v1.cri'.sandbox_image = 'x'\n", ('plugins."io.containerd.grpc.v1.cri".enable',)),
    (f"{V2}{CRI}]\n  containerd = {{ snapshotter = 'native' }}\n", None),
    (f"{V2}plugins = {{ 'io.containerd.grpc.v1.cri' = {{}} }}\n", None),
]


@pytest.mark.parametrize(("text", "lines"), ONE_LINE)
def test_tables_in_one_line_are_extended_or_refused_with_a_remedy(text: str, lines: tuple[str, ...] | None) -> None:
    """`lines` begin the lines that dotted keys get beside them; None: a table in braces cannot take a header."""
    probe = containerd_host("1.7.24", {MAIN: text})
    planned = plan_host("n1", probe, Answers(runtime=Runtime(default_runtime="nvidia")))
    if lines is None:
        assert [r.id for r in planned.refusals] == ["not-editable"]
        assert "[plugins…] headers" in planned.refusals[0].remedy
        return
    assert planned.refusals == ()
    new = after(probe, planned)
    assert state(probe, new).default_runtime_name == "nvidia"
    assert all(any(got.startswith(line) for got in new[MAIN].decode().splitlines()) for line in lines)
    back = planned_files("1.7.24", new, Answers(runtime=Runtime(default_runtime="former")))
    assert back == planned_files("1.7.24", {MAIN: text}, Answers())


def test_a_setting_that_would_come_alive_with_the_first_handler_is_refused() -> None:
    """2.x takes the snapshotter of a version-2 file only when that file has handlers as well."""
    text = f'{V2}{CRI}.containerd]\n  snapshotter = "native"\n'
    for strategy in ("drop-in", "in-place"):
        answers = Answers(runtime=Runtime(strategy=strategy))  # type: ignore[arg-type]
        (refusal,) = plan_host("n1", containerd_host("2.1.9", {MAIN: text}), answers).refusals
        assert refusal.id == "snapshotter-changes"
        assert "overlayfs → native" in refusal.why


CDI = [
    ("1.6.20", V2 + RUNC, None),
    ("1.7.24", V2 + RUNC, True),
    ("1.7.24", f"{V2}{CRI}]\n  enable_cdi = false # not yet\n{RUNC}", True),
    ("1.7.24", "[plugins.cri]\n  sandbox_image = 'x'\n", True),
    ("2.1.9", V2 + RUNC, True),
    ("2.1.9", f"{V2}{CRI}]\n  enable_cdi = false\n{RUNC}", True),
    ("2.3.4", "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n  enable_cdi = false\n", True),
]


@pytest.mark.parametrize("strategy", ["auto", "in-place"])
@pytest.mark.parametrize(("version", "text", "expected"), CDI)
def test_cdi_where_the_release_needs_a_switch(version: str, text: str, expected: bool | None, strategy: Any) -> None:
    probe = containerd_host(version, {MAIN: text})
    planned = plan_host("n1", probe, Answers(runtime=Runtime(strategy=strategy)))
    files = after(probe, planned)
    before = state(probe, {MAIN: text.encode()}).enable_cdi
    assert state(probe, files).enable_cdi is expected
    assert ("CDI", "false", "true") in {(c.key, c.before, c.after) for c in planned.change.effective} or before is not (
        False
    )
    assert ("CDI is switched on" in planned.reason) == (before is False)
    assert ("has no CDI" in planned.reason) == (expected is None)
    written = b"".join(files.values())
    assert (b"enable_cdi = true" in written) == (before is False)
    assert b"# not yet" not in text.encode() or b"enable_cdi = true # not yet" in written
    left = plan_host("n1", probe, Answers(runtime=Runtime(strategy=strategy, cdi="leave")))
    assert b"enable_cdi = true" not in b"".join(after(probe, left).values())
    assert state(probe, after(probe, left)).enable_cdi is before


@pytest.mark.parametrize("former", ["runc", "crun", "kata", None])
@pytest.mark.parametrize("strategy", ["auto", "in-place"])
@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9", "2.3.4"])
def test_the_former_default_comes_back(version: str, strategy: Any, former: str | None) -> None:
    handlers = "".join(
        f'{CRI}.containerd.runtimes.{n}]\nruntime_type = "io.containerd.{n}.v2"\n' for n in ("crun", "kata")
    )
    line = f"{CRI}.containerd]\n  default_runtime_name = '{former}' # chosen in spring\n" if former else ""
    text = V2 + line + RUNC + handlers

    def with_strategy(answers: Answers) -> Answers:
        return Answers(runtime=answers.runtime.model_copy(update={"strategy": strategy}))

    first = planned_files(version, {MAIN: text}, with_strategy(LEAVE))
    during = planned_files(version, {MAIN: text}, with_strategy(ON))
    assert effective(during, MAIN, version).default_runtime_name == "nvidia"
    if strategy == "in-place" or version < "2":
        memory = f"'{former}'" if former else "unset"
        assert f"# gpuwizard: before {memory}\n" in during[MAIN].decode()
        assert former is None or "# chosen in spring # gpuwizard" in during[MAIN].decode()
    back = planned_files(version, during, with_strategy(OFF))
    assert back == first
    assert effective(back, MAIN, version).default_runtime_name == (former or "runc")
    other = Answers(runtime=OFF.runtime.model_copy(update={"strategy": "in-place"}))
    assert effective(planned_files(version, during, other), MAIN, version).default_runtime_name == (former or "runc")


def test_a_default_in_a_file_that_is_read_after_ours_is_changed_there() -> None:
    """nvidia-ctk copies the whole CRI table into its drop-in, the default with it."""
    ctk = "/etc/containerd/conf.d/99-nvidia.toml"
    theirs = f'{V2}{CRI}.containerd]\n  default_runtime_name = "runc"\n{RUNC}{NVIDIA}'
    files: dict[str, Any] = {MAIN: f'{V2}imports = ["/etc/containerd/conf.d/*.toml"]\n{RUNC}', ctk: theirs}
    during = planned_files("2.1.9", files, ON)
    assert during == {
        MAIN: files[MAIN].encode(),
        ctk: theirs.replace('"runc"\n', '"nvidia" # gpuwizard: before "runc"\n', 1).encode(),
    }
    assert planned_files("2.1.9", during, OFF)[ctk].decode() == theirs


def test_a_default_that_somebody_else_set_is_not_taken_back() -> None:
    text = f'{V2}{CRI}.containerd]\n  default_runtime_name = "nvidia"\n{RUNC}{NVIDIA}'
    (refusal,) = plan_host("n1", containerd_host("1.7.24", {MAIN: text}), OFF).refusals
    assert refusal.id == "former-unknown"
    assert f"set default_runtime_name in {MAIN}" in refusal.remedy


def test_the_former_default_must_still_exist() -> None:
    handler = f'{CRI}.containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
    text = f'{V2}{CRI}.containerd]\n  default_runtime_name = "kata"\n{RUNC}'
    during = planned_files("1.7.24", {MAIN: text + handler}, ON)
    gone = during[MAIN].replace(handler.encode(), b"")
    (refusal,) = plan_host("n1", containerd_host("1.7.24", {MAIN: gone}), OFF).refusals
    assert refusal.id == "default-undefined"
    assert "kata" in refusal.why


def test_former_where_nvidia_is_not_the_default_says_so() -> None:
    planned = plan_host("n1", containerd_host("1.7.24", {MAIN: V2 + RUNC + NVIDIA}), OFF)
    assert planned.change.empty
    assert "the default handler is runc, not nvidia" in planned.reason


def test_a_handler_with_another_binary_is_pointed_to_the_one_that_exists() -> None:
    text = V2 + RUNC + NVIDIA.replace(RUNTIME_PATH, "/opt/old/nvidia-container-runtime")
    assert planned_files("1.7.24", {MAIN: text}, LEAVE)[MAIN].decode() == V2 + RUNC + NVIDIA


def test_only_a_vanished_bare_name_is_replaced() -> None:
    text = V2 + RUNC + NVIDIA.replace(RUNTIME_PATH, "nvidia-container-runtime")
    probe = containerd_host("1.7.24", {MAIN: text})
    assert plan_host("n1", probe, LEAVE).change.empty
    runtime = replace(probe.facts.runtimes[0], missing_binaries={"nvidia": "nvidia-container-runtime"})
    probe = replace(probe, facts=replace(probe.facts, runtimes=(runtime,)))
    assert after(probe, plan_host("n1", probe, LEAVE))[MAIN].decode() == V2 + RUNC + NVIDIA


def test_the_model_is_any_handler_of_runcs_type_when_there_is_no_runc() -> None:
    crun = f'{CRI}.containerd.runtimes.crun]\n  runtime_type = "io.containerd.runc.v2"\n'
    text = (
        f'{V2}{CRI}.containerd]\n  default_runtime_name = "kata"\n{crun}'
        f'{CRI}.containerd.runtimes.crun.options]\n  BinaryName = "crun"\n  SystemdCgroup = true\n'
        f'{CRI}.containerd.runtimes.kata]\n  runtime_type = "io.containerd.kata.v2"\n'
    )
    probe = containerd_host("1.7.24", {MAIN: text})
    seen = state(probe, after(probe, plan_host("n1", probe, LEAVE)))
    assert seen.runtimes["nvidia"].options == {"BinaryName": RUNTIME_PATH, "SystemdCgroup": True}
    assert set(seen.runtimes) == {"crun", "kata", "nvidia"}
