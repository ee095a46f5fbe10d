"""The help text: the keys, the marks, and what each page is for."""

from textual.content import Content

from screens.widgets.lines import Line, heading, text
from screens.words import MARKS, STYLES

__all__ = ["help_lines", "help_page"]

_FILTER = (
    "/ filters as you type: every word must be there, one with ! before it must not; Enter goes to the list, Esc shows "
    "all again. n and N go to the next match and the one before, s and S show errors, trouble, … alone."
)
_PAGES = {
    "hosts": (
        "Write one host a line: [user@]name[:port], a name of your SSH configuration, @FILE, or local. "
        "F3 logs in and looks: one read-only script per host, nothing is changed and nothing is installed.",
        "Hosts fill in as they answer, trouble on top; a host that takes long says what it waits for. The cursor stays "
        "on its host when others come in above it; Home goes back to the top and stays there.",
        "Enter opens a host: its findings, then every fact. F4 opens the list of hosts and folds it away again. F5 "
        "tries hosts again that failed, or looks at all of them again.",
        _FILTER,
    ),
    "findings": (
        "What is right and wrong, each finding once, with the very lines that prove it, on which hosts, the cause, and "
        "what to do. Enter reads it, Esc goes back to the list, h shows its hosts one by one.",
        "F4 changes between findings and hosts. Of a host Enter and F6 show every fact. F5 looks again, over the open "
        "connections.",
        _FILTER,
    ),
    "choices": (
        "What the GPUs shall be to Kubernetes. ★ marks what the facts recommend, with the reason; what cannot work "
        "is shown with the reason why not.",
        "Enter goes to the options, the space bar chooses, Esc goes back to the list. F5 takes the recommended "
        "options. Hosts at the end of the list can differ from the rest.",
    ),
    "review": (
        "Every change before it is made: the text of each file, and in words what the container runtime will see of "
        "it. + comes, - goes, ~ changes, = stays, ! is what becomes of the pods. A secret shows as ‹redacted #…›, "
        "and as another one where it changes.",
        "Hosts that get the very same change, or the same refusal, are one line; F4 or the space bar shows them one "
        "by one.",
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
_ABOUT = """\
`gpuwizard HOST…` opens the wizard: six pages, each with what it needs and nothing else. Every button has a key, every
key works by mouse too, and 80 columns by 24 lines are enough; a larger terminal shows more. F1 shows this help.
"""
_KEYS = (
    ("F1, ?", "this help"),
    ("F2, Alt+←", "back; nothing is lost"),
    ("F3, Alt+→", "next"),
    ("1 to 6", "to a page, when no text is being typed"),
    ("Tab, Shift+Tab", "to the next or previous field"),
    ("↑ ↓ PgUp PgDn", "move; j and k do too"),
    ("Enter", "open, choose"),
    ("Esc", "close; the answer that is safe"),
    ("/", "filter a list, find words in a text"),
    ("n, N", "next match, the one before"),
    ("s, S", "show errors, trouble, … alone (Hosts, Findings)"),
    ("F4", "edit the hosts (Hosts); by finding or by host (Findings); host by host (Review)"),
    ("F5", "again"),
    ("F6, f", "facts and findings of a host"),
    ("← →, [ ]", "host before, next host (in a host)"),
    ("h", "the hosts of a finding (Findings)"),
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


def help_page() -> str:
    """The same as a page of the documentation."""
    from gpuwizard.pages import PAGES

    parts = ["# Screens\n", _ABOUT]
    for page in PAGES:
        parts.append(f"## {page.title}: {page.hint}\n")
        parts += [f"{paragraph}\n" for paragraph in _PAGES[page.id]]
    parts += ["## Keys\n", "| key | what it does |\n|---|---|"]
    parts += [f"| {key} | {words} |" for key, words in _KEYS]
    parts += ["\n## Marks\n", "| mark | meaning |\n|---|---|"]
    parts += [f"| {MARKS[kind]} | {words} |" for kind, words in _MARKS]
    return "\n".join(parts) + "\n"
