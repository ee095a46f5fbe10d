"""How a kubeconfig is found and read, and what is said when it does not work."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuwizard.errors import GpuwizardError, LoginError, RefusedError, UnreachableError, UsageError
from gpuwizard.kube.access import open_access
from gpuwizard.kube.cluster import open_cluster
from gpuwizard.kube.problems import AbsentError, ExpiredError, OutdatedError, connection_problem, refusal
from gpuwizard.kube.views import node_view, parse_time
from tests.kube_servers import simulated

DATA = Path(__file__).parent / "data" / "kubernetes"


def write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


async def test_a_kubeconfig_file_is_read_and_its_context_chosen(tmp_path: Path) -> None:
    async with simulated() as (server, _, _):
        config = server.kubeconfig()
        config["contexts"].append({"name": "gone", "context": {"cluster": "nowhere", "user": "admin"}})
        config["clusters"].append({"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}})
        path = write(tmp_path / "config", config)
        cluster = await open_cluster(kubeconfig=path)
        assert await cluster.ready()
        await cluster.close()
        with pytest.raises(UnreachableError, match="connection refused"):
            await open_cluster(kubeconfig=path, context="gone")
        with pytest.raises(UsageError) as caught:
            await open_cluster(kubeconfig=path, context="typo")
        assert "typo" in caught.value.what
        assert "--context" in caught.value.remedy


async def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with simulated() as (server, _, _):
        path = write(tmp_path / "config", server.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}{os.pathsep}{path}")
        cluster = await open_cluster()
        assert cluster.server == server.kubeconfig()["clusters"][0]["cluster"]["server"]
        await cluster.close()


async def test_no_kubeconfig_at_all_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UnreachableError) as caught:
        await open_cluster()
    assert "no kubeconfig" in caught.value.what
    assert "/etc/rancher/k3s/k3s.yaml" in caught.value.remedy


@pytest.mark.parametrize("text", ["][", "just words", "clusters: 1\ncurrent-context: x\n", "{}"])
async def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        await open_cluster(kubeconfig=path)
    assert caught.value.where == str(path)


async def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the kubeconfig"):
        await open_cluster(kubeconfig=tmp_path / "nothing")


async def test_a_credential_plugin_is_run(tmp_path: Path) -> None:
    async with simulated() as (server, _, _):
        config = server.kubeconfig()
        token = config["users"][0]["user"]["token"]
        plugin = tmp_path / "plugin"
        answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
        plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
        plugin.chmod(stat.S_IRWXU)
        command = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
        config["users"][0]["user"] = {"exec": command}
        cluster = await open_cluster(kubeconfig=write(tmp_path / "config", config))
        assert await cluster.ready()
        await cluster.close()
        plugin.write_text("#!/bin/sh\necho 'please log in' >&2; exit 1\n")
        with pytest.raises(LoginError) as caught:
            await open_cluster(kubeconfig=tmp_path / "config")
        assert "please log in" in caught.value.what
        config["users"][0]["user"]["exec"]["command"] = str(tmp_path / "not-there")
        with pytest.raises(LoginError):
            await open_cluster(kubeconfig=write(tmp_path / "config", config))


async def test_no_key_stays_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"client-certificate-data": "bm90IGE=", "client-key-data": "Y2VydA=="}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    for _ in range(2):
        with pytest.raises(GpuwizardError, match="credentials of the kubeconfig cannot be loaded"):
            await open_access(config=config)
    assert list(tmp_path.iterdir()) == []


async def test_a_certificate_of_another_authority_is_explained(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the certificate")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
    address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    with pytest.raises(UnreachableError) as caught:
        await open_cluster(config=config)
    assert "TLS with the API server failed: self-signed certificate" in caught.value.what
    assert "certificate-authority" in caught.value.remedy
    server.close()
    await server.wait_closed()


def test_refusals_of_a_real_server_say_what_to_do() -> None:
    real = json.loads((DATA / "refusals.json").read_text())

    def error(code: int) -> GpuwizardError:
        return refusal(code, json.dumps(real[str(code)]).encode(), what="apply ConfigMap n/c", server="https://s")

    assert isinstance(error(401), LoginError)
    assert isinstance(error(403), RefusedError)
    assert 'User "viewer" cannot list resource "nodes"' in error(403).what
    assert error(409).what == 'apply ConfigMap n/c: .data.any belongs to "other"'
    assert all(error(c).remedy and error(c).where == "https://s" for c in (401, 403, 409))


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (404, b"404 page not found\n", RefusedError),
        (404, b'{"kind":"Status","reason":"NotFound","message":"x","details":{"name":"n"}}', AbsentError),
        (410, b'{"kind":"Status","message":"too old resource version"}', ExpiredError),
        (409, b'{"kind":"Status","reason":"AlreadyExists","message":"x exists"}', OutdatedError),
        (400, b'{"kind":"Status","message":"unknown field \\"spec.x\\""}', RefusedError),
        (500, b"etcdserver: request timed out", UnreachableError),
        (503, b"", UnreachableError),
        (418, b"\xff\xfe\x1b[31mred", RefusedError),
    ],
)
def test_every_other_answer_is_an_error_of_its_kind(code: int, body: bytes, kind: type[GpuwizardError]) -> None:
    error = refusal(code, body, what="look", server="s")
    assert type(error) is kind
    assert "\x1b" not in error.what


def test_text_of_the_server_cannot_drive_the_terminal() -> None:
    body = json.dumps({"kind": "Status", "message": "\x1b]0;title\x07\x1b[2Jno"}).encode()
    assert refusal(403, body, what="look", server="s").what == "look: no"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ConnectionRefusedError(111, "x"), "connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "cannot be resolved"),
        (TimeoutError(), "did not answer in time"),
        (OSError(113, "No route to host"), "No route to host"),
        (ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate"), "TLS"),
    ],
)
def test_every_lost_connection_has_a_remedy(cause: BaseException, words: str) -> None:
    error = connection_problem(cause, "https://s")
    assert words in error.what
    assert error.remedy


def test_a_node_without_status_is_unknown_not_false() -> None:
    view = node_view({"metadata": {"name": "n"}})
    assert (view.ready, view.heartbeat, view.runtime_version, view.runtime_handlers) == (None, None, None, ())


def test_times_with_and_without_fractions_are_read() -> None:
    whole, micro = parse_time("2026-11-21T01:14:32Z"), parse_time("2026-11-21T01:14:32.500000Z")
    assert whole is not None
    assert micro is not None
    assert (micro - whole).total_seconds() == 0.5
    assert parse_time("yesterday") is None
