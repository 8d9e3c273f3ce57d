# SPDX-License-Identifier: Apache-2.0
"""
In which groups dpkg alone can install packages: what has to be configured before another is unpacked comes before it.

`dpkg --install` unpacks all its files and then configures them, so a pre-dependency within one call that the version
before doesn't meet can't be met (deb-control(5), Pre-Depends).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from copacetic.deb.deb822 import stanza_of
from copacetic.deb.relation import Package, Relation, RelationError, parse_relations, provides

__all__ = ["group_by_predependencies"]


_T = TypeVar("_T", bound=Package)


def group_by_predependencies(new: Sequence[_T], installed: Sequence[Package]) -> list[list[_T]]:
    """Return the packages in groups to be installed one after the other, each in the order given; mostly one."""
    strict = [_needs(package, "Pre-Depends", new, installed) for package in new]
    loose = [_needs(package, "Depends", new, installed) for package in new]
    rank = [0] * len(new)
    for _ in new:  # the longest chain has no more links; a circle that can't be had in any order ends here, too
        before = list(rank)
        for one, needed in enumerate(strict):
            rank[one] = max([rank[one], *(rank[other] + 1 for other in needed)])
        for one, needed in enumerate(loose):
            rank[one] = max([rank[one], *(rank[other] for other in needed)])
        if rank == before:
            break
    return [[p for p, at in zip(new, rank, strict=True) if at == number] for number in sorted(set(rank))]


def _needs(package: Package, field: str, new: Sequence[_T], installed: Sequence[Package]) -> set[int]:
    """Which of the new packages meet a relation that nothing installed meets."""
    found: set[int] = set()
    try:
        groups = parse_relations(stanza_of(package).fields.get(field, ""))
    except RelationError:
        return found
    for group in groups:
        if any(_meets(one, relation) for relation in group for one in installed):
            continue
        found.update(at for at, one in enumerate(new) if one is not package and any(_meets(one, r) for r in group))
    return found


def _meets(package: Package, relation: Relation) -> bool:
    if package.name == relation.name:
        return relation.accepts(package.version)
    return provides(package, relation)
