"""PAGES: what is asked and shown, in order; the wizard walks it and the unattended run checks it all at once."""

from collections.abc import Callable
from dataclasses import dataclass

from gpuwizard.session import Session

__all__ = ["PAGES", "Page", "Problem", "page"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a page cannot be left yet: the field to mend and what to do about it."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `applies` says whether it is shown at all; `check` what keeps the operator from going on."""

    id: str
    title: str
    hint: str
    applies: Callable[[Session], bool]
    check: Callable[[Session], tuple[Problem, ...]]


def _always(_: Session) -> bool:
    return True


def _nothing(_: Session) -> tuple[Problem, ...]:
    return ()


def _check_hosts(session: Session) -> tuple[Problem, ...]:
    if not session.answers.hosts:
        return (Problem("hosts", "name at least one host, e.g. admin@gpu1 or @hosts.txt"),)
    if not session.hosts:
        return (Problem("hosts", f"there is no host in {', '.join(session.answers.hosts)}"),)
    return ()


def _check_findings(session: Session) -> tuple[Problem, ...]:
    if not session.probes:
        reasons = "; ".join(f"{host}: {why}" for host, why in sorted(session.unreachable.items()))
        return (Problem("hosts", f"no host could be looked at: {reasons or 'none was probed yet'}"),)
    return ()


def _check_choices(session: Session) -> tuple[Problem, ...]:
    unknown = sorted(set(session.answers.host) - set(session.hosts))
    if unknown:
        return (Problem(f"host.{unknown[0]}", f"there are choices for a host that is not listed: {unknown[0]}"),)
    return ()


def _check_review(session: Session) -> tuple[Problem, ...]:
    if session.plan is None:
        return (Problem("plan", "there is no plan yet"),)
    return ()


PAGES: tuple[Page, ...] = (
    Page("hosts", "Hosts", "which machines, and how to log in", _always, _check_hosts),
    Page("findings", "Findings", "what is right and wrong with them", _always, _check_findings),
    Page("choices", "Choices", "what the GPUs shall be to Kubernetes", _always, _check_choices),
    Page("review", "Review", "every change, before it is made", _always, _check_review),
    Page("apply", "Apply", "one host first, then the others", _always, _nothing),
    Page("monitor", "Monitor", "GPUs and pods, live", _always, _nothing),
)


def page(page_id: str) -> Page:
    """The page of that id. Raises KeyError."""
    for candidate in PAGES:
        if candidate.id == page_id:
            return candidate
    raise KeyError(page_id)
