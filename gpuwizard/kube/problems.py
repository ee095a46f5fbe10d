"""What the API server or the way to it said, turned into errors that say what to do next."""

import json
import re
import socket
import ssl
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, LoginError, RefusedError, UnreachableError
from gpuwizard.kube.budgets import is_refused_by_budget, named_budget, two_budgets

__all__ = [
    "AbsentError",
    "BudgetError",
    "ExpiredError",
    "OutdatedError",
    "connection_problem",
    "refusal",
    "status_message",
]


class AbsentError(RefusedError):
    """The object is not there (404)."""


class OutdatedError(RefusedError):
    """The object is no longer what the request took it for (409)."""


class BudgetError(RefusedError):
    """A disruption budget refuses an eviction: for now (429), or for good because the pod has more than one (500).

    `budget` is its name, empty where the server names none.
    """

    def __init__(self, what: str, *, where: str, budget: str, for_good: bool = False) -> None:
        super().__init__(what, where=where)
        self.budget = budget
        self.for_good = for_good


class ExpiredError(GpuwizardError):
    """The server no longer knows the resource version that a watch wanted to go on from (410)."""


def status_message(body: bytes) -> tuple[str, dict[str, Any]]:
    """The server's own words, cleaned, and the parsed Status object (empty when the body is none)."""
    text = body.decode("utf-8", "replace")
    try:
        status = json.loads(text)
    except ValueError:
        return clean_line(text), {}
    if not isinstance(status, dict):
        return clean_line(text), {}
    return clean_line(str(status.get("message") or status.get("reason") or text)), status


def refusal(code: int, body: bytes, *, what: str, server: str) -> GpuwizardError:
    """The error for an answer that is no success. `what` names what was tried: ``apply RuntimeClass nvidia``."""
    message, status = status_message(body)
    said = f"{what}: {message}" if message else f"{what}: HTTP status {code}"
    match code:
        case 401:
            return LoginError(
                f"the API server does not accept these credentials ({message or 'Unauthorized'})",
                where=server,
                remedy="check the user of this context in the kubeconfig; tokens and client certificates expire",
            )
        case 403:
            return RefusedError(said, where=server, remedy=_remedy_403(message))
        case 404 if status.get("reason") == "NotFound" and status.get("details", {}).get("name"):
            return AbsentError(said, where=server)
        case 404:
            return RefusedError(
                f"{what}: the API server does not know this kind of object",
                where=server,
                remedy="check the version of the cluster, and that the server in the kubeconfig is an API server",
            )
        case 409:
            return _conflict(status, what, said, server)
        case 410:
            return ExpiredError(said, where=server)
        case 422:
            return RefusedError(said, where=server, remedy=_remedy_422(message))
        case 429 if is_refused_by_budget(status):
            budget, words = named_budget(status)
            return BudgetError(words or said, where=server, budget=budget)
        case 500 if two_budgets(message):
            return BudgetError(said, where=server, budget="", for_good=True)
        case _ if code == 429 or code >= 500:
            return UnreachableError(
                f"the API server could not answer: {said}",
                where=server,
                remedy="look at the API server's own log and at etcd, then try again",
            )
        case _:
            return RefusedError(said, where=server, remedy="check that the server in the kubeconfig is an API server")


def _remedy_403(message: str) -> str:
    if re.search(r"RuntimeClass \S+ not found", message):
        return "create the runtime class first: install.runtime_class = true"
    if "violates PodSecurity" in message:
        return "label the namespace pod-security.kubernetes.io/enforce=privileged"
    return "use a context whose user may do this (kubectl auth can-i …)"


def _remedy_422(message: str) -> str:
    if "immutable" in message:
        return "this field cannot be changed: delete the object once nothing uses it, then apply again"
    return "correct the value that the server names"


def _conflict(status: dict[str, Any], what: str, said: str, server: str) -> RefusedError:
    """409: name the field and its owner, as server-side apply reports them."""
    causes = [c for c in status.get("details", {}).get("causes") or () if c.get("reason") == "FieldManagerConflict"]
    if not causes:
        remedy = "someone else changed it at the same time: make a new plan"
        return OutdatedError(said, where=server, remedy=remedy)
    owned = []
    for cause in causes:
        manager = re.search(r'"([^"]+)"', str(cause.get("message", "")))
        owned.append(f'{cause.get("field", "")} belongs to "{manager.group(1) if manager else "another manager"}"')
    return RefusedError(
        clean_line(f"{what}: {'; '.join(owned)}"),
        where=server,
        remedy="let that manager set the value, or make it give up the field; gpuwizard never takes fields by force",
    )


def connection_problem(error: BaseException, server: str) -> UnreachableError:
    """The error for a request that got no answer at all."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, ssl.SSLError):
        return _tls_problem(cause, server)
    if isinstance(cause, TimeoutError):
        return UnreachableError(
            "the API server did not answer in time", where=server, remedy="check the network, VPN and proxy settings"
        )
    if isinstance(cause, ConnectionRefusedError):
        return UnreachableError(
            "nothing listens at the API server's address (connection refused)",
            where=server,
            remedy="check that the API server runs and that the kubeconfig names the right address",
        )
    if isinstance(cause, socket.gaierror):
        return UnreachableError(
            "the API server's name cannot be resolved", where=server, remedy="check the name in the kubeconfig and DNS"
        )
    words = clean_line(str(cause)) or type(cause).__name__
    return UnreachableError(
        f"the connection to the API server failed: {words}", where=server, remedy="check the network and the kubeconfig"
    )


def _tls_problem(cause: ssl.SSLError, server: str) -> UnreachableError:
    words = clean_line(str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or cause))
    if "mismatch" in words or "not valid for" in words:
        remedy = "use a name that the certificate holds, or set tls-server-name in the kubeconfig"
    elif "expired" in words:
        remedy = "renew the API server's certificate, or correct this machine's clock"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "the kubeconfig's certificate-authority is not the one that signed this server's certificate"
    else:
        remedy = "check that the server in the kubeconfig speaks TLS at this port"
    return UnreachableError(f"TLS with the API server failed: {words}", where=server, remedy=remedy)
