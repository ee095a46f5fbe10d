"""How root can be had on a host, from what sudo said; classic sudo and sudo-rs (`hosts.md §8.1, §8.2`)."""

from typing import Literal

from gpuwizard.facts.model import PrivilegeFacts
from gpuwizard.facts.text import value

__all__ = ["classify_sudo", "privilege_facts"]

_PASSWORD_WORDS = (
    "a password is required",
    "a terminal is required to read the password",
    "authentication is required",
    "no password was provided",
    "authentication required",
)
_NONE_WORDS = (
    "not in the sudoers file",
    "is not allowed to",
    "may not run sudo",
    "i'm afraid i can't do that",
    "must have a tty",
    "account management error",
    "account validation failure",
    "account or password is expired",
    "is sudo installed setuid root",
    "nosuid",
    "no valid sudoers sources",
    "parse error in",
    "no new privileges",
    "must be owned by uid 0",
    "not installed",
    "not found",
)


def classify_sudo(text: str | None) -> Literal["none", "password"] | None:
    """What ``sudo -n``'s refusal means; None when the words are not known."""
    said = (text or "").lower()
    if any(words in said for words in _NONE_WORDS):
        return "none"
    if any(words in said for words in _PASSWORD_WORDS):
        return "password"
    return None


def privilege_facts(text: str | None) -> PrivilegeFacts:
    """From the probe's ``how|user|reason``, `how` being root, nopasswd, password, refused or empty."""
    if text is None:
        return PrivilegeFacts()
    how, _, rest = text.partition("|")
    user, _, reason = rest.partition("|")
    shown_user, shown_reason = value(user), value(reason)
    match how.strip():
        case "root":
            return PrivilegeFacts("root", shown_user, None)
        case "nopasswd":
            return PrivilegeFacts("nopasswd", shown_user, None)
        case "password":
            return PrivilegeFacts("password", shown_user, None)
        case "refused":
            return PrivilegeFacts(classify_sudo(reason), shown_user, shown_reason)
        case _:
            return PrivilegeFacts(None, shown_user, shown_reason)
