"""A whole probe, whole and in pieces: never an exception, and what is missing is said to be missing."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpuwizard.facts.frames import read_frames
from gpuwizard.facts.jsonable import facts_json
from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import find

DATA = Path(__file__).parent.parent / "data" / "facts"
CAPTURE = (DATA / "kubeadm_h200.probe").read_bytes()


def frame(name: str, text: str | bytes, status: int = 0) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return f"@@ {name} {status} {len(data)}\n".encode() + data + b"\n"


def holds(probe: Probe) -> None:
    """What must be true of every probe."""
    json.dumps(facts_json(probe.facts), allow_nan=False)
    find(probe)
    repr(probe)


def test_a_whole_probe() -> None:
    probe = parse_probe(CAPTURE, seconds=1.5)
    assert probe.seconds == 1.5
    assert probe.facts.unseen == ()
    assert probe.facts.hostname == "gpu-a"
    assert probe.facts.driver.loaded == "580.159.04"
    document = facts_json(probe.facts)
    assert next(iter(document)) == "schema"
    assert document["gpus"][0]["memory_bytes"] == 143771 * 1024**2
    assert document["runtimes"][0]["handlers"]["runc"]["options"] == {"SystemdCgroup": True}
    assert document["privilege"]["sudo"] == "root"


def test_the_probe_of_a_real_h200() -> None:
    """Taken on a machine with the GPU, in a container without systemd; UUID and names replaced."""
    probe = parse_probe((DATA / "h200_real.probe").read_bytes())
    facts = probe.facts
    (gpu,) = facts.gpus
    assert (gpu.name, gpu.pci, gpu.pci_id, gpu.index) == ("NVIDIA H200", "0000:00:06.0", "10de:2335", 0)
    assert (gpu.memory_bytes, gpu.compute_capability, gpu.bound_driver) == (150754820096, "9.0", "nvidia")
    driver = facts.driver
    assert (driver.loaded, driver.userspace, driver.flavour) == ("580.159.04", "580.159.04", "open")
    assert (driver.on_disk, driver.problem) == (None, None)  # modinfo was not there: unknown
    assert [u.what for u in facts.unseen] == ["NVIDIA module on disk", "services"]
    assert (facts.os.kind, facts.kubernetes.flavour, facts.runtimes) == ("container", "none", ())
    assert [f.id for f in find(probe)] == ["GW-HOST-005", "GW-KUBE-002"]


def test_nothing_at_all() -> None:
    probe = parse_probe(b"")
    assert not probe.readable
    assert probe.facts.kubernetes.flavour == "unknown"
    assert [u.what for u in probe.facts.unseen] == ["everything"]
    assert facts_json(probe.facts)["os"]["immutable"] is None


@pytest.mark.parametrize("cut", range(0, len(CAPTURE), 97))
def test_cut_anywhere(cut: int) -> None:
    probe = parse_probe(CAPTURE[:cut])
    holds(probe)
    assert any(u.what in ("everything", "the rest of the host") for u in probe.facts.unseen)
    for path, file in probe.files.items():  # never half a file
        whole = parse_probe(CAPTURE).files[path]
        assert (file.content is None) == (whole.content is None)
        assert file.sha256 == whole.sha256


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000))
@example(b"@@ smi-core 0 999999999\n0, x")
@example(b"@@ file:/etc/x 0 4\n!!!!\n@@ file-stats 0 1\n1\n")
@example(b"@@ containerd-dump:1 0 9\n\xff\xfe[[[[[[[\n@@ containerd:1 0 8\nconfig=/\n")
def test_garbage(raw: bytes) -> None:
    holds(parse_probe(raw))


NAMES = sorted(
    {s.name for s in read_frames(CAPTURE).sections} | {"smi-more", "smi-list", "gpu-information", "dgx-release"}
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(["", ":1", ":/etc/containerd/config.toml", ":0000:00:06.0", ":x"]),
            st.integers(0, 255),
            st.one_of(st.text(max_size=200), st.sampled_from([s.text for s in read_frames(CAPTURE).sections])),
        ),
        max_size=12,
    )
)
def test_right_names_with_wrong_contents(sections: list[tuple[str, str, int, str]]) -> None:
    raw = b"".join(frame(name + key, text.encode("utf-8", "replace"), status) for name, key, status, text in sections)
    holds(parse_probe(raw))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(CAPTURE) - 1), st.binary(min_size=1, max_size=20))
def test_overwritten_anywhere(position: int, noise: bytes) -> None:
    holds(parse_probe(CAPTURE[:position] + noise + CAPTURE[position + len(noise) :]))


def test_noise_before_between_and_after() -> None:
    noisy = b"Welcome to Ubuntu!\n" + CAPTURE.replace(b"\n@@ marks", b"\nBroadcast message from root\n@@ marks")
    probe = parse_probe(noisy + b"logout\n")
    assert probe.facts.driver.loaded == "580.159.04"
    assert len(probe.facts.runtimes) == 1


def test_content_cannot_pose_as_a_section() -> None:
    evil = "ID=debian\n@@ end 0 0\n\n@@ privilege 1 10\nroot|root|\n"
    frames = read_frames(frame("begin", "x") + frame("os-release", evil) + frame("uname", "a b c"))
    assert [s.name for s in frames.sections] == ["begin", "os-release", "uname"]


def test_the_first_of_two_wins() -> None:
    """When the run as root dies half-way, the second run without root only adds what is missing."""
    raw = frame("privilege", "nopasswd|ops|", 1) + frame("privilege", "refused|ops|no", 0)
    assert parse_probe(raw).facts.privilege.sudo == "nopasswd"


def test_a_file_of_the_wrong_length_is_not_taken() -> None:
    body = base64.b64encode(b"whole").decode()
    raw = frame("begin", "x") + frame("file-stats", "644 0 0 1700000000 6 /etc/x") + frame("file:/etc/x", body)
    probe = parse_probe(raw)
    assert "/etc/x" not in probe.files
    assert any(u.what == "/etc/x" for u in probe.facts.unseen)


def test_hexadecimal_files() -> None:
    raw = frame("file-stats", "600 0 0 1700000000 3 /etc/x") + frame("file-hex:/etc/x", " 61 0a\n ff\n")
    file = parse_probe(raw).files["/etc/x"]
    assert file.content is not None
    assert (file.content.raw, file.mode, file.mtime) == (b"a\n\xff", 0o600, 1700000000)


def test_text_from_the_host_is_cleaned() -> None:
    raw = frame("os-release", 'ID=x\nPRETTY_NAME="\x1b[31mred\u202e"\n') + frame("unseen", "a\x1b]0;t\x07|b\n")
    facts = parse_probe(raw).facts
    assert facts.os.pretty_name == "red\ufffd"
    assert facts.unseen[0].what == "a"


def test_an_nvidia_smi_that_never_answers() -> None:
    raw = CAPTURE[: CAPTURE.index(b"@@ smi-core")]
    driver = parse_probe(raw).facts.driver
    assert (driver.problem, driver.problem_code) == ("nvidia-smi gave no answer in time", 124)
