"""The catalogue answers for every failure that shows on a host: rows of the facts, by chapter and number."""

import re

import pytest

from gpuwizard.findings import RULES
from gpuwizard.findings.rule import Rule

ELSEWHERE = {
    3: "the toolkit pod's log",
    11: "a release of the operator",
    12: "a release of the operator",
    17: "the name of an image",
    23: "the device plugin's log and pod",
    28: "the validator's log",
    32: "labels and pods of the cluster",
    33: "the cluster's objects",
    38: "the reason of a pod",
    39: "the message of a pod",
    40: "a ConfigMap and a DaemonSet",
    41: "the device plugin's log",
    43: "a node label and the MIG manager's log",
    44: "node labels",
    45: "an old CRD",
    46: "dcgm-exporter's log",
    47: "the operator's memory limit",
    49: "runtimes of several nodes",
    50: "the operator's NRI mode",
    51: "pods that end slowly",
    52: "distributions of several nodes",
    54: "flags of the device plugin",
    55: "Argo CD's view of a ClusterPolicy",
    57: "two objects of the operator",
}
"""Rows of `kubernetes.md §1.14` that no host can show, and where they show."""

REQUIRED = [
    *(f"hosts.md §3.2 #{row}" for row in range(1, 13)),
    *(f"runtimes.md §11 #{row}" for row in range(1, 21)),
    *(f"kubernetes.md §1.14 #{row}" for row in range(1, 58) if row not in ELSEWHERE),
]
COVERED = {row for rule in RULES for row in rule.covers}


@pytest.mark.parametrize("row", REQUIRED)
def test_a_rule_answers_for_it(row: str) -> None:
    assert row in COVERED


def test_no_rule_claims_what_no_host_shows() -> None:
    claimed = {int(match[1]) for row in COVERED if (match := re.fullmatch(r"kubernetes\.md §1\.14 #(\d+)", row))}
    assert claimed <= set(range(1, 58)) - ELSEWHERE.keys()


def test_the_catalogue_has_at_least_sixty_rules_with_ids_of_their_own() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids)) >= 60
    assert all(re.fullmatch(r"GW-[A-Z0-9]+-\d{3}", rule_id) for rule_id in ids)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_tells_its_whole_story(rule: Rule) -> None:
    assert rule.title
    assert rule.title[0] not in " ."
    assert not rule.title.endswith(".")
    for text in (rule.cause, rule.remedy, rule.effect, rule.detected):
        assert text.strip().endswith((".", "?", "`"))
    assert rule.covers
    assert rule.sources
    assert all(message.strip() == message for message in rule.messages)
