"""The colours of the wizard: calm, dark, few; every meaning is also a character."""

from textual.theme import Theme

__all__ = ["DEFAULTS", "THEME"]

DEFAULTS = {
    "quiet": "#8b98a5",
    "step-done": "#8fbf6a",
    "step-current": "#8fc7e8",
    "step-ahead": "#5d6b78",
    "step-trouble": "#e0b35c",
}
"""Our own variables, for themes that are not ours."""

THEME = Theme(
    name="gpuwizard",
    primary="#5fa8d3",
    secondary="#3d5a73",
    accent="#8fc7e8",
    success="#8fbf6a",
    warning="#e0b35c",
    error="#e07a70",
    foreground="#d6dde4",
    background="#12171c",
    surface="#181f26",
    panel="#212b34",
    dark=True,
    variables={
        "block-cursor-background": "#2b4257",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#202b35",
        "block-cursor-blurred-foreground": "#d6dde4",
        "border": "#5fa8d3",
        "border-blurred": "#2a3641",
        "footer-background": "#1b232b",
        "footer-key-foreground": "#8fc7e8",
        "footer-description-foreground": "#9aa7b3",
        "input-selection-background": "#35566f",
        **DEFAULTS,
    },
)
