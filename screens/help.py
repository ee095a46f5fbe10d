"""The help text: the keys, the marks, and what each page is for."""

from textual.content import Content

from screens.widgets.lines import Line, heading, text
from screens.words import MARKS, STYLES

__all__ = ["help_lines"]

_PAGES = {
    "hosts": (
        "Write one host a line: [user@]name[:port], a name of your SSH configuration, @FILE, or local. "
        "F3 logs in and looks: one read-only script per host, nothing is changed and nothing is installed.",
        "F5 tries hosts again that failed, or looks at all of them again.",
    ),
    "findings": (
        "What is right and wrong with each host, with the very lines that prove it, the cause, and what to do.",
        "F6 or Enter: every fact of the host. F5 looks again, over the open connections.",
    ),
    "choices": (
        "What the GPUs shall be to Kubernetes. ★ marks what the facts recommend, with the reason; what cannot work "
        "is shown with the reason why not.",
        "Enter goes to the options, the space bar chooses, Esc goes back to the list. F5 takes the recommended "
        "options. Hosts at the end of the list can differ from the rest.",
    ),
    "review": (
        "Every change before it is made: the text of each file, and what the container runtime will see of it. "
        "Lines with + come, lines with - go.",
        "F8 applies exactly this plan, after a question that names the hosts that restart. Enter reads the diff, "
        "Esc goes back to the list. F9 saves the answers that reproduce it.",
    ),
    "apply": (
        "One host first, then the others. A host that is not well afterwards puts itself back, also when this "
        "machine dies. Then a pod on each GPU host proves it.",
        "Choose a host to read its log. Leaving the page stops nothing; F10 asks.",
    ),
    "monitor": (
        "Every GPU, live, over the connections that are open. N/A means that the GPU does not say; it is never 0. "
        "Old numbers are marked as old.",
        "F7 goes back to where you came from.",
    ),
}
_KEYS = (
    ("F1, ?", "this help"),
    ("F2, Alt+←", "back; nothing is lost"),
    ("F3, Alt+→", "next"),
    ("1 to 6", "to a page, when no text is being typed"),
    ("Tab, Shift+Tab", "to the next or previous field"),
    ("↑ ↓ PgUp PgDn", "move; j and k do too"),
    ("Enter", "open, choose"),
    ("Esc", "close; the answer that is safe"),
    ("F5", "again"),
    ("F6", "every fact of a host (Findings)"),
    ("F7", "the monitor, and back"),
    ("F8", "apply (Review)"),
    ("F9", "save the answers file"),
    ("F10, Ctrl+Q", "quit; asks while changes are being made"),
    ("Ctrl+P", "all commands by name; other colours"),
)
_MARKS = (("ok", "good"), ("error", "wrong, refused or failed"), ("warning", "look at it"), ("running", "going on"))


def help_lines(page: str) -> list[Line]:
    """Help for one page, then the keys and marks of all."""
    lines = [text(paragraph) for paragraph in _PAGES[page]]
    lines += [text(), heading("Keys")]
    lines += [Line(Content.assemble((f"{key:<16}", "$text-accent"), words), 16) for key, words in _KEYS]
    lines += [text(), heading("Marks")]
    lines += [Line(Content.assemble((f"{MARKS[kind]:<16}", STYLES[kind]), words), 16) for kind, words in _MARKS]
    return lines
