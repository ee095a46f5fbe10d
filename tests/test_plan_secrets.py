"""A secret planted anywhere in a host's files shows nowhere in a plan, and a changed one is still a visible change."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.actions import FileChange, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.containerd import compare, effective, losses
from gpuwizard.facts.cluster import ClusterView
from gpuwizard.flavours import plan_host
from gpuwizard.plan import store
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.diff import DiffLine, file_diff
from gpuwizard.plan.jsonable import plan_json
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.plan.words import effects
from gpuwizard.redact import redact_document, redact_text, redact_value
from gpuwizard.secret import SecretBytes
from gpuwizard.show import plan_lines
from tests.plan_probes import MAIN, containerd_host, k3s_host

CRI = 'plugins."io.containerd.grpc.v1.cri"'
TOML = {
    "auth table": f'[{CRI}.registry.configs."r.test".auth]\n  auth = "@"\n',
    "password": f'[{CRI}.registry.configs."r.test".auth]\n  username = "u"\n  password = "@"\n',
    "user name": f'[{CRI}.registry.configs."r.test".auth]\n  username = "@"\n  password = "p"\n',
    "identity token": f"[{CRI}.registry.configs.'r.test'.auth]\nidentitytoken='@'\n",
    "old auths": f'[{CRI}.registry.auths."https://r.test"]\nusername = "u"\npassword = "@"\n',
    "literal string": f"[{CRI}.registry.configs.r.auth]\npassword = '@'   # of the robot\n",
    "several lines": f'[{CRI}.registry.configs.r.auth]\npassword = """\n@"""\n',
    "several literal lines": f"[{CRI}.registry.configs.r.auth]\npassword = '''\n  x\n@\n  y'''\n",
    "quotes in it": f'[{CRI}.registry.configs.r.auth]\npassword = "a\\"b@\\"c"\n',
    "quotes at its end": f'[{CRI}.registry.configs.r.auth]\npassword = """a@"""""\n',
    "inline table": f'[{CRI}.registry.configs]\n"r.test" = {{ auth = {{ username = "u", password = "@" }} }}\n',
    "dotted keys": f'{CRI}.registry.configs."r.test".auth.password = "@"\n',
    "spaced dots": f'[{CRI}]\nregistry . configs . r . auth . "password" = "@"\n',
    "quoted key": f'[{CRI}.registry.configs.r.auth]\n"password" = "@"\n\'auth\' = "x"\n',
    "escaped key": f'[{CRI}.registry.configs.r]\n"\\u0061uth".pass = "@"\n',
    "escaped name": f'[{CRI}.registry.configs.r.x]\n"pass\\u0077ord" = "@"\n',
    "header": f'[{CRI}.registry.headers]\n  X-Own = ["@"]\n',
    "header lines": f'[{CRI}.registry.headers]\nAuthorization = [\n  "x", # one\n  "@",\n]\n',
    "host header": '[host."https://r.test".header]\nx-custom-1 = "@"\n',
    "mirror login": f'[{CRI}.registry.mirrors."r.test"]\nendpoint = ["https://user:@@r.test/v2"]\n',
    "mirror token": f'[{CRI}.registry.mirrors."r.test"]\nendpoint = ["https://@@r.test/v2"]\n',
    "environment": f'[{CRI}.x]\nenv = ["A=b", "REGISTRY_PASSWORD=@", "C=d"]\n',
    "argument": f'[{CRI}.x]\nargs = ["--token=@"]\nmore = "--registry-token @"\nx = "token: @"\n',
    "argument behind its flag": f'[{CRI}.x]\nargs = ["-v", "--password", "@"]\n',
    "comment": f'[{CRI}.registry]\n#[{CRI}.registry.configs.r.auth]\n#  username = "@"\n# password = "@"\n',
    "key in a comment": f'[{CRI}.registry]\n#password="@"\n',
    "JSON in a string": f'[{CRI}.x]\nlogin = \'{{"auths": {{"r": {{"auth": "@"}}}}}}\'\n',
    "JSON in a string, escaped": f'[{CRI}.x]\nlogin = "{{\\"auth\\": \\"@\\"}}"\n',
    "private key": f'[{CRI}.x]\nkey = """-----BEGIN RSA PRIVATE KEY-----\n@\n-----END RSA PRIVATE KEY-----"""\n',
    "bearer": f'[{CRI}.x]\nsend = "Bearer abcd@"\n',
    "proxy": '[proxy]\nhttp_proxy = "user:@@proxy.test:3128"\n',
    "unclosed": f'[{CRI}.registry.configs.r.auth]\npassword = "@\n',
    "no TOML": '{{ if .X }}\n[[[ broken\npassword = "@"\n{{ end }}\n',
}
JSON = {
    "proxy": '{"proxies": {"http-proxy": "http://user:@@proxy.test:3128"}}',
    "proxy of lines": '{\n  "proxies": {\n    "x": {\n      "httpProxy":\n        "http://u:@@p.test"\n    }\n  }\n}\n',
    "password": '{"x": {"password": "@"}}',
    "over lines": '{"x":\n {"password"\n  :\n  "@"}}\n',
    "auths": '{"auths": {"r.test": {"username": "@", "x": 1}}}',
    "log option": '{"log-opts": {"splunk-token": "@", "max-size": "10m"}}',
    "header": '{"HttpHeaders": {"X-Meta": "@"}}',
    "label": '{"labels": ["TOKEN=@", "a=b"]}',
    "argument": '{"runtimes": {"x": {"path": "x", "runtimeArgs": ["--password=@"]}}}',
    "escaped key": '{"pass\\u0077ord": "@"}',
    "broken": '{"password": "@", \n',
}
YAML = {
    "token": "token: @\n",
    "quoted": "agent-token: '@'\n",
    "double quoted": 'agent-token: "@"\n',
    "with a comment": "token: @ # of the cluster\n",
    "next line": "token:\n  @\n",
    "folded": "token: a\n  @\n",
    "block": "password: |\n  a\n  @\nuser: x\n",
    "folded block": "x:\n  password: >-\n    @\n  user: x\n",
    "registry": "configs:\n  r.test:\n    auth:\n      username: @\n      password: x\n",
    "registry password": "configs:\n  r.test:\n    auth:\n      username: u\n      password: '@'\n",
    "flow": "configs: {r: {auth: {username: u, password: '@'}}}\n",
    "list": "tokens:\n- a\n- '@'\n",
    "anchor": "a: &x '@'\npassword: *x\n",
    "tag": "password: !!str '@'\n",
    "mirror": "mirrors:\n  r:\n    endpoint:\n    - https://u:@@r.test\n",
    "database": "datastore-endpoint: postgres://k3s:@@db.test:5432/k3s\n",
    "argument": "kubelet-arg:\n- --token=@\n",
    "argument behind its flag": "args:\n- --password\n- '@'\n- -v\n",
    "environment": "env:\n- name: DB_PASSWORD\n  value: '@'\n",
    "S3": "etcd-s3-secret-key: @\netcd-s3-access-key: a\n",
    "header": "headers:\n  X-Own: '@'\n",
    "comment": "#token: @\n# agent-token: @\n",
    "broken": "x: [\ntoken: @\n",
}
CASES = [
    (path, kind, text)
    for path, cases in (("/etc/x.toml", TOML), ("/etc/x.toml.tmpl", TOML), ("/x.json", JSON), ("/x.yaml", YAML))
    for kind, text in cases.items()
]
WORD = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGH23456789+/=_-.%~!", min_size=7, max_size=30).map(
    lambda word: f"q7{word}Z9"
)
"""What a generated secret is made of: the letters of base64 and of passwords; it begins and ends with a letter."""
PLAIN = st.text("abcdefghijkmnopqrstuvwxyz23456789+=_-.%~!", min_size=7, max_size=30).map(lambda word: f"q7{word}Z9")
"""A secret that may stand in a URL."""


def secret_for(text: str) -> st.SearchStrategy[str]:
    return PLAIN if "@@" in text else WORD


def planted(text: str, secret: str) -> str:
    return text.replace("@@", f"{secret}\0").replace("@", secret).replace("\0", "@")


def seen(lines: tuple[DiffLine, ...]) -> str:
    return "\n".join(line.text for line in lines)


def diff(path: str, before: str, after: str) -> tuple[DiffLine, ...]:
    return file_diff(FileChange(path, SecretBytes(before.encode()), SecretBytes(after.encode())))


@pytest.mark.parametrize(("path", "kind", "text"), CASES, ids=[f"{p}: {k}" for p, k, _ in CASES])
def test_a_planted_secret_shows_in_no_diff(path: str, kind: str, text: str) -> None:
    @settings(max_examples=12, deadline=None, database=None)
    @given(secret_for(text), secret_for(text))
    def holds(secret: str, other: str) -> None:
        content = planted(text, secret)
        for after in (content + "z = 1\n", f"\n{content}", ""):
            assert secret not in seen(diff(path, content, after))
        if secret == other:
            return
        lines = diff(path, content, planted(text, other))
        assert secret not in seen(lines)
        assert other not in seen(lines)
        assert {line.kind for line in lines} >= {"added", "removed"}, "a changed secret is a visible change"
        assert "‹redacted #" in seen(lines)

    holds()


@given(
    st.text("ab\"'\\\n#=[]{},:@. \tpasswordauth|>-", max_size=60), st.sampled_from(["/a.toml", "/a.json", "/a.yaml"])
)
@settings(max_examples=150, deadline=None)
def test_any_text_keeps_its_number_of_lines_and_breaks_nothing(text: str, path: str) -> None:
    shown = redact_document(text, path)
    assert shown.count("\n") == text.count("\n")


def test_line_numbers_are_those_of_the_file() -> None:
    text = 'password = """\na\nb"""\nx = 1\n'
    lines = diff("/x.toml", text, text.replace("x = 1", "x = 2"))
    assert [(line.old, line.text) for line in lines if line.kind == "removed"] == [(4, "-x = 1")]


def test_all_but_the_secret_stays_readable() -> None:
    text = planted(TOML["inline table"] + TOML["mirror login"] + TOML["environment"], "hunter22")
    shown = redact_document(text, "/x.toml")
    for kept in (
        '"r.test" = { auth = { username = ',
        ", password = ",
        "https://user:",
        "@r.test/v2",
        '"A=b", ',
        '"C=d"',
    ):
        assert kept in shown
    assert (
        redact_document((Path(__file__).parent / "data/containerd_defaults/2.1.9.toml").read_text(), "/c.toml")
        == (Path(__file__).parent / "data/containerd_defaults/2.1.9.toml").read_text()
    )


# The whole plan


def outputs(content: str) -> list[str]:
    """Everything that shows a plan of hosts that have this file; containerd in place and by drop-in, K3s, refused."""
    probes = {
        "n1": containerd_host("1.7.24", {MAIN: f"version = 2\n{content}"}),
        "n2": containerd_host("2.1.9", {MAIN: f"version = 2\n{content}"}),
        "n3": containerd_host("1.7.24", {MAIN: f'{content}disabled_plugins = ["cri"]\nx = x\n'}),
        "n4": k3s_host(f"version = 2\n{content}"),
    }
    plan = build_plan(probes, Answers(), ClusterView(error="down"))
    return ["\n".join(plan_lines(plan)), json.dumps(plan_json(plan), ensure_ascii=False), repr(plan)]


@pytest.mark.parametrize("kind", TOML)
def test_no_plan_of_any_host_shows_it(kind: str) -> None:
    for shown in outputs(planted(TOML[kind], "q7hunterZ9")):
        assert "q7hunterZ9" not in shown


def test_a_saved_plan_that_is_shown_again_hides_it(tmp_path: Path) -> None:
    content = planted(TOML["password"], "q7hunterZ9")
    made = build_plan({"n1": containerd_host("1.7.24", {MAIN: f"version = 2\n{content}"})}, Answers(), None)
    assert made.hosts[0].changes
    store.save_plan(made, Answers(), tmp_path / "site.plan")
    loaded, _ = store.load_plan(tmp_path / "site.plan")
    shown = "\n".join(plan_lines(loaded)) + json.dumps(plan_json(loaded))
    assert "q7hunterZ9" not in shown
    assert "nvidia" in shown


@pytest.mark.parametrize(
    "text",
    [
        f'[{CRI}.registry.configs."r".auth]\npassword = "@"\n',
        f'[{CRI}.registry.headers]\nX-Own = ["@"]\n',
        f'[{CRI}.registry.mirrors.r]\nendpoint = ["http://u:@@r"]\n',
    ],
)
def test_the_effective_words_hide_it_and_tell_that_it_changes(text: str) -> None:
    before, after = planted(text, "q7oneZ9"), planted(text, "q7twoZ9")
    states = [effective({MAIN: f"version = 2\n{each}".encode()}, MAIN, "1.7.24") for each in (before, after)]
    changes = compare(*states)
    assert changes
    told = " · ".join(str(effect) for effect in effects(changes))
    told += " · ".join(f"{redact_value(c.key, c.before or '')} {redact_value(c.key, c.after or '')}" for c in changes)
    assert "Z9" not in told
    assert "‹redacted #" in told
    assert losses(*states)


@pytest.mark.parametrize(
    ("key", "value", "hidden"),
    [
        ('io.containerd.grpc.v1.cri.registry.configs."r.test".auth.password', "q7Z9", True),
        ('io.containerd.grpc.v1.cri.registry.headers.X-Own', "q7Z9, other", True),
        ("io.containerd.grpc.v1.cri.registry.configs.r.identitytoken", "q7Z9", True),
        ("runtimes.x.env", "A=b, MY_TOKEN=q7Z9", True),
        ("sandbox image", "registry.k8s.io/pause@sha256:0011", False),
        ("handler nvidia.BinaryName", "/usr/bin/nvidia-container-runtime", False),
        ("CNI bin_dir", "/opt/cni/bin", False),
    ],
)  # fmt: skip
def test_values_by_their_dotted_keys(key: str, value: str, hidden: bool) -> None:
    shown = redact_value(key, value)
    assert (shown != value) == hidden
    assert not hidden or "q7Z9" not in shown


def test_a_refusal_that_repeats_a_line_of_the_file_hides_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    content = f"version = 2\n{planted(TOML['password'], 'q7 hunter Z9')}"
    host = containerd_host("1.7.24", {MAIN: content})
    planned = plan_host("n1", host, Answers())

    class Repeats:
        def __init__(self, answers: Answers) -> None: ...

        def planned(self, name: str, probe: object) -> object:
            words = "line 4 says q7 hunter Z9, as the user u wants"
            return type(planned)("in-place", words, refusals=(Refusal("x", words, "see q7 hunter Z9"),))

    monkeypatch.setattr("gpuwizard.plan.build.AlikeHosts", Repeats)
    made = build_plan({"n1": host}, Answers(), None)
    (refusal,) = made.hosts[0].refusals
    assert "hunter" not in refusal.why + refusal.remedy + made.hosts[0].reason
    assert "as the user u wants" in refusal.why


def test_objects_of_the_cluster_hide_it() -> None:
    shown = shown_yaml(
        {
            "kind": "DaemonSet",
            "apiVersion": "apps/v1",
            "metadata": {"name": "n"},
            "spec": {
                "env": [
                    {"name": "DB_PASSWORD", "value": "q7 a b Z9"},
                    {"name": "HTTPS_PROXY", "value": "http://u:q7Z9@p"},
                ],
                "args": ["--token=q7 x Z9", "--plain"],
                "probe": {"httpHeaders": [{"name": "X-Own", "value": "q7Z9"}]},
            },
        }
    )
    assert "Z9" not in shown
    for kept in ("DB_PASSWORD", "HTTPS_PROXY", "http://u:", "--plain"):
        assert kept in shown


def test_words_in_prose_stay() -> None:
    for text in ("the token is not known", "password and login", "see https://example.test/a@b for more"):
        assert redact_text(text) == text


def test_redacting_is_quick_on_long_lines() -> None:
    import time

    began = time.process_time()
    for text in (
        "a-" * 20_000,
        "x" * 100_000,
        "https://" + "a:" * 20_000,
        '"' * 5000,
        "-----BEGIN PRIVATE KEY-----\n" * 500,
    ):
        redact_text(text)
        redact_document(text, "/x.toml")
    assert time.process_time() - began < 10
