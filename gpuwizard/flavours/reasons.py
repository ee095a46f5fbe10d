"""Refusals in the words of Docker, CRI-O, MicroK8s and k0s, which keep their files in other ways than containerd."""

from gpuwizard.actions import Refusal
from gpuwizard.clean import clean_line

__all__ = ["broken_now", "default_undefined", "former_unknown"]


def broken_now(path: str, why: str) -> Refusal:
    """A file with which the runtime would not start, or whose meaning is not known, is not built upon."""
    return Refusal(
        "broken-now", f"{path}: {clean_line(why)}", "repair it first: any restart would activate this mistake"
    )


def default_undefined(name: str, runtime: str) -> Refusal:
    """Docker and CRI-O do not even start with a default that nothing defines."""
    return Refusal(
        "default-undefined",
        f"the default handler {clean_line(name)} would not be defined: {runtime} does not start with such a file",
        "define that handler, or choose another default, then plan again",
    )


def former_unknown(path: str) -> Refusal:
    """The default before is asked for, and it was not gpuwizard that made nvidia the default."""
    return Refusal(
        "former-unknown",
        f"nvidia is the default handler, and not by gpuwizard: nothing remembers what {path} said before",
        "set the default there yourself, or take runtime.default_runtime = leave",
    )
