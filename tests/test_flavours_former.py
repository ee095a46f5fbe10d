"""The default handler on and off again, in every way a file is written."""

import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwizard.errors import RefusedError
from gpuwizard.flavours.former import former_default, restore_default, set_default
from tests.test_containerd_edit import COMMENTS, CRI, configs

TABLE = (*CRI, "containerd")
HEADER = '[plugins."io.containerd.grpc.v1.cri".containerd]'


@pytest.mark.parametrize(
    ("before", "during"),
    [
        (
            f'{HEADER}\n  default_runtime_name = "runc"\n',
            f'{HEADER}\n  default_runtime_name = "nvidia" # gpuwizard: before "runc"\n',
        ),
        (
            f"{HEADER}\r\n\tdefault_runtime_name='kata'\t# since the audit\r\n",
            f"{HEADER}\r\n\tdefault_runtime_name=\"nvidia\"\t# since the audit # gpuwizard: before 'kata'\r\n",
        ),
        (
            f'{HEADER}\n  snapshotter = "native"\n\n[timeouts]\n',
            f'{HEADER}\n  snapshotter = "native"\n'
            '  default_runtime_name = "nvidia" # gpuwizard: before unset\n\n[timeouts]\n',
        ),
        (
            "version = 2\n",
            f"version = 2\n\n{HEADER} # gpuwizard: before unset\n"
            '  default_runtime_name = "nvidia" # gpuwizard: before unset\n',
        ),
        (
            "version = 2",
            f"version = 2\n\n{HEADER} # gpuwizard: before unset\n"
            '  default_runtime_name = "nvidia" # gpuwizard: before unset',
        ),
        (HEADER, f'{HEADER}\n  default_runtime_name = "nvidia" # gpuwizard: before unset'),
    ],
)
def test_the_line_says_what_was_there(before: str, during: str) -> None:
    assert set_default(before, TABLE, "nvidia") == during
    assert set_default(during, TABLE, "nvidia") == during
    assert restore_default(during, TABLE) == before


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(configs(), COMMENTS, st.sampled_from(["", "\ufeff"]))
def test_there_and_back_is_the_same_text(text: str, comment: str, mark: str) -> None:
    before = mark + text.replace(f"{comment}\n", "\n")
    during = set_default(before, TABLE, "nvidia")
    data = tomllib.loads(during.removeprefix("\ufeff"))
    assert data["plugins"][CRI[1]]["containerd"]["default_runtime_name"] == "nvidia"
    assert former_default(before, TABLE) is None
    assert former_default(during, TABLE) in ("", "runc")
    assert restore_default(during, TABLE) == before


def test_a_default_that_is_not_ours_stays() -> None:
    theirs = f'{HEADER}\ndefault_runtime_name = "nvidia" # by nvidia-ctk\n'
    assert restore_default(theirs, TABLE) == theirs
    assert set_default(theirs, TABLE, "nvidia") == theirs
    changed = f'{HEADER}\ndefault_runtime_name = "kata" # gpuwizard: before "runc"\n'
    assert restore_default(changed, TABLE) == changed
    broken = f'{HEADER}\ndefault_runtime_name = "nvidia" # gpuwizard: before runc\n'
    assert restore_default(broken, TABLE) == broken


def test_a_second_change_keeps_the_first_memory() -> None:
    during = set_default(f'{HEADER}\ndefault_runtime_name = "crun"\n', TABLE, "kata")
    again = set_default(during, TABLE, "nvidia")
    assert former_default(again, TABLE) == "crun"


def test_what_came_into_our_table_since_stays() -> None:
    during = set_default("version = 2\n", TABLE, "nvidia") + '  snapshotter = "native"\n'
    assert restore_default(during, TABLE) == f'version = 2\n\n{HEADER}\n  snapshotter = "native"\n'
    deeper = set_default("version = 2\n", TABLE, "nvidia") + f'{HEADER[:-1]}.runtimes.kata]\nruntime_type = "k"\n'
    assert restore_default(deeper, TABLE) == f'version = 2\n{HEADER[:-1]}.runtimes.kata]\nruntime_type = "k"\n'


@pytest.mark.parametrize(
    "text",
    [
        "version = \n",
        f'{HEADER}\ndefault_runtime_name = """\nrunc"""\n',
        '[plugins."io.containerd.grpc.v1.cri"]\ncontainerd = { default_runtime_name = "runc" }\n',
    ],
)
def test_a_text_that_cannot_take_it_is_refused(text: str) -> None:
    with pytest.raises(RefusedError):
        set_default(text, TABLE, "nvidia")
