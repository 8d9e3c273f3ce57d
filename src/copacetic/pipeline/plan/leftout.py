# SPDX-License-Identifier: Apache-2.0
"""The packages that a plan can't have, found one after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from copacetic.errors import ConflictError, CopaError, IntegrityError, PackageError
from copacetic.updates import PackageKey, PlannedUpdate, Section, Skipped, SkipReason

__all__ = ["LeftOut", "LeftOutByType", "add_faults", "nothing_left_out"]


@dataclass(slots=True, kw_only=True)
class LeftOut:
    """The packages that were taken out of a section, for as long as the rest is resolved anew."""

    tolerant: bool = False
    """Whether a file that isn't what the index promises may be left out; otherwise that ends everything."""
    frozen: dict[PackageKey, str] = field(default_factory=dict)
    """The reasons, as resolving wants them."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, update: PlannedUpdate, reason: SkipReason, detail: str, *, because: str) -> None:
        """Take one out; `because` is what is said of others that can't do without it."""
        self.frozen[update.key] = because
        installed = update.installed
        if installed is None:
            self.notes.append(f"{update.candidate.name} {update.candidate.version} is left out: {because}")
            return
        self.frozen[installed.key] = because
        self.skipped.append(Skipped(package=installed, reason=reason, detail=detail, findings=update.findings))

    def add_faults(self, error: CopaError, updates: Sequence[PlannedUpdate]) -> None:
        """Take out what something is wrong with. Raises the error again when that is no package of these."""
        known: dict[Hashable, PlannedUpdate] = {one.key: one for one in updates if one.key not in self.frozen}
        for one in (error, *error.also):
            if isinstance(one, IntegrityError) and not self.tolerant:
                raise type(one)(str(one), hint="--ignore-errors leaves this package as it is, by name") from error
            if one.package not in known:
                raise error
            detail = f"{one} ({one.hint})" if isinstance(one, PackageError) and one.hint else str(one)
            reason = SkipReason.CONFLICT if isinstance(one, ConflictError) else SkipReason.BROKEN
            self.add(known[one.package], reason, detail, because=detail)


LeftOutByType: TypeAlias = Mapping[str, LeftOut]
"""For each type of package, whether or not it was asked for before."""


def nothing_left_out(*, tolerant: bool) -> LeftOutByType:
    """Begin with nothing; see `LeftOut.tolerant`."""
    return defaultdict(partial(LeftOut, tolerant=tolerant))


def add_faults(left_out: LeftOutByType, error: CopaError, sections: Sequence[Section]) -> None:
    """Take out what something is wrong with in one of the sections; see `LeftOut.add_faults`."""
    for section in sections:
        if any(update.key == error.package for update in section.updates):
            left_out[section.package_type].add_faults(error, section.updates)
            return
    raise error
