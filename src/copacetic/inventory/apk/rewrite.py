# SPDX-License-Identifier: Apache-2.0
"""
apk's database after an upgrade, as the apk that commits last would write it.

Records that don't change stay byte for byte, and where they are. Where the image has apk-tools, the order of records,
scripts and triggers is that of its version; where it has none, what changed is replaced in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from copacetic.apk.stanza import checksum_of
from copacetic.apk.tools import PACKAGE, ApkTools
from copacetic.inventory.apk.installed import ApkRecord
from copacetic.inventory.apk.scripts import (
    ScriptFile,
    ScriptRow,
    display_key,
    format_row,
    format_scripts,
    splice_rows,
)
from copacetic.strict import read_digits
from copacetic.updates import InstalledPackage

__all__ = ["ApkChange", "Rewrite"]


class ApkChange(Struct, frozen=True, kw_only=True):
    """One installed package, as the database has to know it."""

    record: ApkRecord
    scripts: Mapping[str, bytes] = {}
    """By their names: post-install, trigger, …"""
    triggers: tuple[str, ...] = ()
    """The patterns of directories for which `trigger` is called."""
    replaces: InstalledPackage | None = None


class _Old(Struct, frozen=True):
    """What the database was before."""

    records: tuple[ApkRecord, ...]
    scripts: ScriptFile
    triggers: Sequence[tuple[bytes | None, str]]


class Rewrite:
    """The files of a database after changes, given in the order in which apk would commit them."""

    def __init__(
        self,
        records: Sequence[ApkRecord],
        scripts: ScriptFile,
        triggers: Sequence[tuple[bytes | None, str]],
        changes: Sequence[ApkChange],
        *,
        altered: Mapping[str, ApkRecord],
        now: int,
    ) -> None:
        """`altered` are packages that stay, by name, of which others took over files."""
        rows = tuple(replace(altered[r.name], text="") if r.name in altered else r for r in records)
        self._old = _Old(rows, scripts, triggers)
        self._changes = tuple(changes)
        self._now = now
        self._by_name = {change.record.name: change for change in changes}
        present = {record.name: record for record in rows} | {name: c.record for name, c in self._by_name.items()}
        self._tools = ApkTools.of(present.values())
        """The apk that writes last."""
        self._order = self._ordered()

    def installed(self) -> bytes:
        rows = list(self._order)
        if self._tools.writes_by_name:
            rows.sort(key=lambda record: display_key(record.name))
        return "".join(f"{record.format()}\n" for record in rows).encode("utf-8", "surrogateescape")

    def scripts(self) -> bytes:
        """Return the plain `scripts.tar`."""
        if not self._tools.installed:
            return self._spliced_scripts()
        rows = list(self._order)
        if self._tools.is_apk3:
            rows.sort(key=lambda record: display_key(record.name))
        return format_scripts(
            [row for record in rows if (row := self._script_row(record)) is not None], self._tools, now=self._now
        )

    def triggers(self) -> bytes:
        if not self._tools.installed:
            return self._in_place_triggers()
        installed = {record.identity_bytes: record for record in self._order}
        new = {c.record.identity_bytes: _trigger_line(c) for c in self._changes if c.triggers}
        changed = {change.record.identity_bytes for change in self._changes}
        lines = {i: line for i, line in self._old.triggers if i is not None and i in installed and i not in changed}
        lines |= new
        if self._tools.is_apk3:
            lines = dict(sorted(lines.items(), key=lambda item: display_key(installed[item[0]].name)))
        return _join(lines.values())

    def _ordered(self) -> tuple[ApkRecord, ...]:
        """An apk keeps a list to which upgraded packages are appended, and reads it again between its two commits."""
        if not self._tools.installed:
            return self._in_place()
        rows = list(self._old.records)
        first_writer = ApkTools.of(self._old.records)
        for number, commit in enumerate(_commits(self._changes)):
            if number and first_writer.writes_by_name:
                rows.sort(key=lambda record: display_key(record.name))
            for change in commit:
                rows = [record for record in rows if record.name != change.record.name]
                rows.append(change.record)
        return tuple(rows)

    def _in_place(self) -> tuple[ApkRecord, ...]:
        rows = [self._by_name[r.name].record if r.name in self._by_name else r for r in self._old.records]
        known = {record.name for record in rows}
        return (*rows, *(change.record for change in self._changes if change.record.name not in known))

    def _script_row(self, record: ApkRecord) -> ScriptRow | None:
        change = self._by_name.get(record.name)
        identity = record.identity_bytes
        scripts = self._old.scripts.scripts.get(identity, {}) if change is None else change.scripts
        if not scripts:
            return None
        return ScriptRow(
            name=record.name,
            version=record.version,
            identity=identity,
            built=read_digits(record.fields.get("t", ""), most=11) or 0,
            scripts=scripts,
        )

    def _spliced_scripts(self) -> bytes:
        replaced: dict[bytes, bytes] = {}
        added: list[bytes] = []
        before = {record.name: record.identity_bytes for record in self._old.records}
        for change in self._changes:
            row = self._script_row(change.record)
            entries = format_row(row, self._tools, now=self._now) if row is not None else b""
            old = before.get(change.record.name)
            if old is not None and old in self._old.scripts.raw:
                replaced[old] = entries
            else:
                added.append(entries)
        return splice_rows(self._old.scripts, replaced, added)

    def _in_place_triggers(self) -> bytes:
        before = {record.name: record.identity_bytes for record in self._old.records}
        new = {before.get(name): c for name, c in self._by_name.items() if name in before}
        lines: list[str] = []
        for identity, line in self._old.triggers:
            change = new.pop(identity, None)
            if change is None:
                lines.append(line)
            elif change.triggers:
                lines.append(_trigger_line(change))
        there = set(lines)
        lines += [line for c in self._changes if c.triggers and (line := _trigger_line(c)) not in there]
        return _join(lines)


def _commits(changes: tuple[ApkChange, ...]) -> list[tuple[ApkChange, ...]]:
    """An apk first upgrades itself and what it needs for that, then starts anew for all the rest."""
    names = [change.record.name for change in changes]
    if PACKAGE not in names or changes[names.index(PACKAGE)].replaces is None:
        return [changes]
    at = names.index(PACKAGE) + 1
    return [part for part in (changes[:at], changes[at:]) if part]


def _trigger_line(change: ApkChange) -> str:
    return f"{checksum_of(change.record.identity_bytes)} {' '.join(change.triggers)}"


def _join(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
