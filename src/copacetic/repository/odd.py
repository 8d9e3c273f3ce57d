# SPDX-License-Identifier: Apache-2.0
"""Rows of indexes that can't be used: each is left out, and what that keeps from being updated is named."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from copacetic.errors import InvalidVersionError
from copacetic.updates import InstalledPackage, PackageKey, Resolution, Skipped, SkipReason, Wanted
from copacetic.version import compare_versions

__all__ = ["OddRows"]

MAX_NOTES = 20


@dataclass(slots=True)
class OddRows:
    """What is wrong with the rows that were looked at so far."""

    rows: dict[tuple[str, str], str] = field(default_factory=dict)
    """Reasons by name and version."""

    def add(self, name: str, version: str, reason: str) -> None:
        """Note a row; `version` may be no version at all."""
        self.rows.setdefault((name, version), reason)

    @classmethod
    def of(cls, parts: Iterable[OddRows]) -> OddRows:
        """Take several together."""
        found: dict[tuple[str, str], str] = {}
        for part in parts:
            found = {**part.rows, **found}
        return cls(found)

    def account(
        self, resolution: Resolution, wanted: Sequence[Wanted], *, scheme: str, frozen: Collection[PackageKey]
    ) -> Resolution:
        """
        Name what stays because of such rows. One that is no newer than what is installed changes nothing; where that
        can't be told it counts.
        """
        if not self.rows:
            return resolution
        settled = {update.installed.key for update in resolution.updates if update.installed is not None}
        settled |= {s.package.key for s in resolution.skipped if s.reason is SkipReason.HELD}
        blamed: dict[PackageKey, Skipped] = {}
        for want in wanted:
            package = want.package
            reason = self._newer(package, scheme)
            if reason and package.key not in settled and package.key not in frozen:
                blamed[package.key] = Skipped(
                    package=package, reason=SkipReason.BROKEN, detail=reason, findings=want.findings
                )
        others = [s for s in resolution.skipped if s.package.key not in blamed]
        details = {skipped.detail for skipped in blamed.values()}
        notes = [f"left out: {reason}" for reason in self.rows.values() if reason not in details]
        return replace(
            resolution,
            skipped=tuple(sorted((*others, *blamed.values()), key=lambda s: s.package.key)),
            notes=(*resolution.notes, *notes[:MAX_NOTES]),
        )

    def _newer(self, package: InstalledPackage, scheme: str) -> str:
        for (name, version), reason in self.rows.items():
            if name != package.name or version == package.version:
                continue
            try:
                if compare_versions(scheme, version, package.version) > 0:
                    return reason
            except InvalidVersionError:
                return reason
        return ""
