"""The choices page as data: topics, their fields, and how a field reads and writes the session's answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from gpuwizard.answers.model import Answers, HostOverride
from gpuwizard.answers.toml import reason
from gpuwizard.facts.model import Probe
from gpuwizard.recommend import ChoiceField, Option, choices, host_strategy
from gpuwizard.session import Session

__all__ = ["TextField", "Topic", "put", "read", "topics"]

SAME = ""
SKIP = "skip"


@dataclass(frozen=True, slots=True)
class TextField:
    """A field that is typed: a number, a path, an image."""

    path: str
    title: str
    help: str


@dataclass(frozen=True, slots=True)
class Topic:
    """One line of the list: its fields are what the pane shows."""

    id: str
    title: str
    fields: tuple[ChoiceField | TextField, ...] = field(default=())
    host: bool = False

    def answer(self, answers: Answers) -> str:
        """What is chosen, in a word."""
        return _SHORT.get(self.id, _first)(self, answers)

    def as_recommended(self, answers: Answers) -> bool:
        """True when every choice of the topic is the recommended one."""
        return all(read(answers, f.path) == f.recommended for f in self.fields if isinstance(f, ChoiceField))


_TOPICS = (
    ("strategy", "Strategy", ("runtime.strategy",), ()),
    ("default", "Default runtime", ("runtime.default_runtime",), ()),
    ("sharing", "GPU sharing", ("sharing.mode",), (("sharing.replicas", "Pods per GPU"),)),
    ("files", "Runtime files", ("runtime.cdi", "runtime.convert", "runtime.take_latent"), ()),
    (
        "cluster",
        "Cluster",
        ("kubernetes.manage",),
        (
            ("kubernetes.kubeconfig", "Kubeconfig"),
            ("kubernetes.context", "Context"),
            ("kubernetes.namespace", "Namespace"),
        ),
    ),
    (
        "install",
        "Install",
        ("install.runtime_class", "install.device_plugin"),
        (("install.device_plugin_image", "Plugin image"),),
    ),
    (
        "rollout",
        "Rollout",
        ("rollout.canary",),
        (
            ("rollout.max_unavailable", "Batch size"),
            ("rollout.confirm_timeout", "Revert after"),
            ("rollout.unit_hold", "Service holds"),
            ("rollout.node_hold", "Node holds"),
        ),
    ),
    (
        "drain",
        "Nodes",
        ("rollout.drain", "rollout.drain_delete_emptydir", "rollout.drain_force"),
        (("rollout.drain_timeout", "Drain limit"),),
    ),
    (
        "validation",
        "Validation",
        ("validation.enabled",),
        (("validation.image", "Image"), ("validation.timeout", "Time limit")),
    ),
)


def topics(probes: Mapping[str, Probe], answers: Answers) -> tuple[Topic, ...]:
    """All topics: those for the whole fleet, then one per host. Reads every probe: call it in a thread."""
    fields = {f.path: f for f in choices(probes, answers)}
    made = []
    for topic, title, chosen, typed in _TOPICS:
        parts: list[ChoiceField | TextField] = [fields[path] for path in chosen if path in fields]
        parts += [TextField(path, label, _description(path)) for path, label in typed]
        made.append(Topic(topic, title, tuple(parts)))
    hosts = [Topic(f"host:{name}", name, _host_fields(name, probes[name], answers), True) for name in sorted(probes)]
    return (*made, *hosts)


def _host_fields(name: str, probe: Probe, answers: Answers) -> tuple[ChoiceField, ...]:
    offered = host_strategy(name, probe, answers)
    same = Option(SAME, "as for all hosts", True, f"strategy {answers.runtime.strategy}")
    skip = Option(SKIP, "change nothing here", True, "the host is looked at, and left as it is")
    options = (same, *(o for o in offered.options if o.value != "auto"), skip)
    strategy = ChoiceField(
        f"host.{name}.strategy", offered.title, offered.help, options, SAME, offered.reason, offered.current
    )
    default = ChoiceField(
        f"host.{name}.default_runtime",
        "Default runtime",
        "which handler a pod gets that names none, on this host",
        (
            Option(SAME, "as for all hosts", True, f"{answers.runtime.default_runtime}"),
            Option("leave", "leave it as it is"),
            Option("nvidia", "nvidia for every pod"),
            Option("former", "what it was before gpuwizard"),
        ),
        SAME,
        "one rule for all nodes is easier to live with",
        "",
    )
    return strategy, default


def _description(path: str) -> str:
    section, name = path.split(".")
    model = type(getattr(Answers(), section))
    return str(model.model_fields[name].description or "")


def read(answers: Answers, path: str) -> str:
    """The value at `path` as the text that options and inputs use."""
    if path.startswith("host."):
        host, name = path.removeprefix("host.").rsplit(".", 1)
        override = answers.host.get(host, HostOverride())
        if name == "strategy" and override.skip:
            return SKIP
        return getattr(override, name) or SAME
    section, name = path.split(".")
    value: Any = getattr(getattr(answers, section), name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def put(session: Session, path: str, value: str) -> str | None:
    """Write `value` to the answers at once; returns what is wrong with it, in which case nothing is written."""
    if path.startswith("host."):
        return _put_host(session, path, value)
    section, name = path.split(".")
    old = getattr(session.answers, section)
    wanted: Any = {"true": True, "false": False}.get(value, value.strip())
    if wanted == "" and type(old).model_fields[name].default is None:
        wanted = None
    try:
        new = type(old).model_validate({**old.model_dump(), name: wanted})
    except ValidationError as error:
        return _words(error)
    session.update(**{section: new})
    return None


def _put_host(session: Session, path: str, value: str) -> str | None:
    host, name = path.removeprefix("host.").rsplit(".", 1)
    old = session.answers.host.get(host, HostOverride()).model_dump()
    if name == "strategy":
        old |= {"skip": value == SKIP, "strategy": None if value in (SKIP, SAME) else value}
    else:
        old[name] = value or None
    try:
        new = HostOverride.model_validate(old)
    except ValidationError as error:
        return _words(error)
    others = {key: kept for key, kept in session.answers.host.items() if key != host}
    session.update(host=others if new == HostOverride() else {**others, host: new})
    return None


def _words(error: ValidationError) -> str:
    return reason(error.errors()[0], name_it=False)


def _first(topic: Topic, answers: Answers) -> str:
    return read(answers, topic.fields[0].path) or "as all"


def _sharing(_: Topic, answers: Answers) -> str:
    return f"× {answers.sharing.replicas}" if answers.sharing.mode != "none" else "none"


def _cluster(_: Topic, answers: Answers) -> str:
    return "managed" if answers.kubernetes.manage else "hands off"


def _install(_: Topic, answers: Answers) -> str:
    chosen = [answers.install.runtime_class, answers.install.device_plugin]
    return f"{sum(chosen)} of {len(chosen)}"


def _rollout(_: Topic, answers: Answers) -> str:
    size = answers.rollout.max_unavailable
    return f"1, then {size}" if answers.rollout.canary else f"{size} at once"


def _drain(_: Topic, answers: Answers) -> str:
    return {"no": "as is"}.get(answers.rollout.drain, answers.rollout.drain)


def _validation(_: Topic, answers: Answers) -> str:
    return "on" if answers.validation.enabled else "off"


def _files(_: Topic, answers: Answers) -> str:
    cdi = "CDI on" if answers.runtime.cdi == "enable" else "CDI left"
    words = [cdi, *(["convert"] if answers.runtime.convert else [])]
    return ", ".join([*words, *(["take waiting changes"] if answers.runtime.take_latent else [])])


_SHORT = {
    "files": _files,
    "sharing": _sharing,
    "cluster": _cluster,
    "install": _install,
    "rollout": _rollout,
    "drain": _drain,
    "validation": _validation,
}


def problems(answers: Answers, fields: tuple[ChoiceField | TextField, ...]) -> Iterator[str]:
    """Choices of these fields that cannot work, with the reason of the option."""
    for chosen in fields:
        if isinstance(chosen, ChoiceField):
            value = read(answers, chosen.path)
            yield from (o.reason for o in chosen.options if o.value == value and not o.enabled)
