# SPDX-License-Identifier: Apache-2.0
"""Which files of layers are kept, by rules that each family of packages has for itself."""

from __future__ import annotations

import pytest

from copacetic.keep import KeepRule, KeepRules

RULES = (
    KeepRule("var/lib/db/", 100),
    KeepRule("var/lib/db/old", 0),
    KeepRule("var/lib/db/big/", 1000),
    KeepRule("a/b"),
)


@pytest.mark.parametrize(
    ("path", "size", "kept"),
    [
        ("var/lib/db/x", 100, True),
        ("var/lib/db/x", 101, False),
        ("var/lib/db/deep/x", 100, True),
        ("var/lib/db", 1, False),
        ("var/lib/dbx", 1, False),
        ("lib/db/x", 1, False),
        ("a/b", 16 * 1024**2, True),
        ("a/b", 16 * 1024**2 + 1, False),
        ("a/b/c", 1, False),
        ("a/bc", 1, False),
    ],
)
def test_a_rule_is_about_one_file_or_all_that_is_below_a_folder(path: str, size: int, kept: bool) -> None:
    assert KeepRules(RULES).select(path, size) is kept


@pytest.mark.parametrize("order", [RULES, RULES[::-1]])
def test_the_narrowest_rule_counts_whatever_their_order(order: tuple[KeepRule, ...]) -> None:
    rules = KeepRules(order)

    assert rules.select("var/lib/db/big/x", 1000)
    assert not rules.select("var/lib/db/old", 1)
    assert rules.select("var/lib/db/older", 1)


def test_an_empty_file_needs_no_keeping() -> None:
    assert not KeepRules(RULES).select("a/b", 0)


def test_rules_go_by_a_fingerprint_that_is_another_one_for_other_rules() -> None:
    others = [RULES[1:], (*RULES, KeepRule("c")), (KeepRule("var/lib/db/", 101), *RULES[1:]), ()]

    assert KeepRules(RULES).fingerprint == KeepRules(RULES[::-1]).fingerprint
    assert len({KeepRules(rules).fingerprint for rules in (RULES, *others)}) == 5
