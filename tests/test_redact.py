"""Secrets never show, changed secrets still differ, and harmless text stays as it is."""

import pytest

from gpuwizard.redact import Redactor

ONE = Redactor(b"1" * 32)


@pytest.mark.parametrize(
    "text",
    [
        'password = "SECRET-1"',
        "    password = 'SECRET-1' # comment",
        '  auth = "SECRET-1"',
        'identitytoken = "SECRET-1"',
        "token: SECRET-1",
        "agent-token: 'SECRET-1'",
        "K3S_TOKEN=SECRET-1",
        '{"username": "u", "password": "SECRET-1", "email": "e"}',
        '{"auths": {"r": {"auth": "SECRET-1"}}}',
        "Authorization: Bearer SECRET-1",
        'X-Meta = ["Basic SECRET-1"]',
        "https_proxy=http://user:SECRET-1@proxy:3128",
        "token: K10" + "a" * 64 + "::server:SECRET-1",
        "node K10" + "a" * 64 + "::server:SECRET-1 joined",
        "client-key-data: SECRET-1",
        "-----BEGIN RSA PRIVATE KEY-----\nSECRET-1\n-----END RSA PRIVATE KEY-----",
        "password: a phrase with SECRET-1 in it",
        "password: |\n  line\n  SECRET-1\nuser: x",
        'password = """\nSECRET-1\n"""',
        "Serial: SECRET-1",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    shown = ONE.text(text)
    assert "SECRET-1" not in shown
    assert "‹redacted #" in shown
    assert ONE.text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        'sandbox_image = "registry.k8s.io/pause:3.8"',
        "automountServiceAccountToken: false",
        'config_path = "/etc/containerd/certs.d"',
        'BinaryName = "/usr/bin/nvidia-container-runtime"',
        "default-runtime: nvidia",
        '[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]',
        "token: null",
        "ssh://user@host/path",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert ONE.text(text) == text


def test_marks_tell_secrets_apart_and_depend_on_the_key() -> None:
    first, same, other = (ONE.text(f'password = "{word}"') for word in ("alpha", "alpha", "beta"))
    assert first == same != other
    assert Redactor(b"2" * 32).text('password = "alpha"') != first


def test_bytes_that_are_no_text() -> None:
    assert "SECRET" not in ONE.bytes(b'\xff password = "SECRET"')
