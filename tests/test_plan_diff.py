"""Diffs as data, objects as text, plans on disk."""

from gpuwizard.actions import FileChange
from gpuwizard.plan.diff import diff_text, file_diff, text_diff
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.secret import SecretBytes


def change(before: bytes | None, after: bytes | None) -> str:
    return diff_text(
        file_diff(
            FileChange(
                "/f", None if before is None else SecretBytes(before), None if after is None else SecretBytes(after)
            )
        )
    )


def test_unified_diff_with_line_numbers() -> None:
    before = "".join(f"line {i}\n" for i in range(1, 12))
    lines = text_diff(before, before.replace("line 6\n", "line six\n"), "f")
    assert [line.text for line in lines] == [
        "--- f", "+++ f", "@@ -3,7 +3,7 @@", " line 3", " line 4", " line 5", "-line 6", "+line six",
        " line 7", " line 8", " line 9",
    ]  # fmt: skip
    removed = next(line for line in lines if line.kind == "removed")
    added = next(line for line in lines if line.kind == "added")
    assert (removed.old, removed.new, added.old, added.new) == (6, None, None, 6)


def test_new_removed_and_equal_files() -> None:
    assert change(None, b"a\n") == "--- /dev/null\n+++ /f\n@@ -0,0 +1 @@\n+a\n"
    assert change(b"a\n", None) == "--- /f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
    assert change(b"a\n", b"a\n") == ""


def test_line_ends_and_control_characters_are_visible() -> None:
    assert "␍" in change(b"a\r\n", b"a\n")
    assert "no newline at the end" in change(b"a\n", b"a")
    assert "\x1b" not in change(None, b"\x1b[2Jred\x07\n")
    assert "+�" not in change(None, b"plain\n")


def test_a_changed_secret_is_a_visible_change() -> None:
    text = change(b'password = "one"\n', b'password = "two"\n')
    assert "one" not in text
    assert "two" not in text
    assert len([line for line in text.splitlines() if "redacted" in line]) == 2
    assert change(b'password = "one"\n', b'password = "one"\nx = 1\n').count("redacted") == 1


def test_shown_yaml_hides_bookkeeping_and_secrets() -> None:
    shown = shown_yaml(
        {
            "kind": "Secret",
            "apiVersion": "v1",
            "status": {"x": 1},
            "data": {"key": "SECRET"},
            "metadata": {
                "name": "n",
                "uid": "u",
                "resourceVersion": "1",
                "managedFields": [],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
        }
    )
    assert shown.startswith("apiVersion: v1\nkind: Secret\nmetadata:\n  name: n\ndata:\n  key:")
    for hidden in ("SECRET", "uid", "resourceVersion", "managedFields", "annotations", "status"):
        assert hidden not in shown
