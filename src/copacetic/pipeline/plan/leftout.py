# SPDX-License-Identifier: Apache-2.0
"""The packages that a plan can't have, found one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from copacetic.errors import ConflictError, CopaError, IntegrityError, PackageError
from copacetic.updates import PlannedUpdate, Skipped, SkipReason

__all__ = ["LeftOut"]


@dataclass(slots=True, kw_only=True)
class LeftOut:
    """The packages that were taken out of a plan, for as long as the rest is resolved anew."""

    tolerant: bool = False
    """Whether a file that isn't what the index promises may be left out; otherwise that ends everything."""
    frozen: dict[str, str] = field(default_factory=dict)
    """The reasons by `name:architecture`, as resolving wants them."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, update: PlannedUpdate, reason: SkipReason, detail: str, *, because: str) -> None:
        """Take one out; `because` is what is said of others that can't do without it."""
        self.frozen[_key(update)] = because
        installed = update.installed
        if installed is None:
            self.notes.append(f"{update.candidate.name} {update.candidate.version} is left out: {because}")
            return
        self.frozen[f"{installed.name}:{installed.architecture}"] = because
        self.skipped.append(Skipped(package=installed, reason=reason, detail=detail, findings=update.findings))

    def add_faults(self, error: CopaError, updates: Sequence[PlannedUpdate]) -> None:
        """Take out what something is wrong with. Raises the error again when that is no package of these."""
        known = {_key(update): update for update in updates if _key(update) not in self.frozen}
        for one in (error, *error.also):
            if isinstance(one, IntegrityError) and not self.tolerant:
                raise type(one)(str(one), hint="--ignore-errors leaves this package as it is, by name") from error
            if one.package not in known:
                raise error
            detail = f"{one} ({one.hint})" if isinstance(one, PackageError) and one.hint else str(one)
            reason = SkipReason.CONFLICT if isinstance(one, ConflictError) else SkipReason.BROKEN
            self.add(known[one.package], reason, detail, because=detail)


def _key(update: PlannedUpdate) -> str:
    return f"{update.candidate.name}:{update.candidate.architecture}"
