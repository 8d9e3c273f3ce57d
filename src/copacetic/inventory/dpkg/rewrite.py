# SPDX-License-Identifier: Apache-2.0
"""
dpkg's database after an installation, as dpkg itself would write it.

Stanzas that don't change stay byte for byte. A changed one has dpkg's order of fields, which is not the package's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from copacetic.deb.deb822 import Stanza, format_stanza, stanza_of
from copacetic.inventory.dpkg.config import Conffile
from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry
from copacetic.updates import InstalledPackage, PackageKey

# The order of fieldinfos[] in dpkg's lib/dpkg/parse.c; fields it doesn't know follow in the package's order.
_ORDER = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Filename",
    "Size",
    "MD5sum",
    "MSDOS-Filename",
    "Description",
    "Triggers-Pending",
    "Triggers-Awaited",
]
_RANK = {name.lower(): rank for rank, name in enumerate(_ORDER)}
_STATUS = "install ok installed"


class DebRecord(Struct, frozen=True, kw_only=True):
    """One installed .deb, as the database has to know it."""

    control: Stanza
    """The package's own `control` file."""
    control_files: Mapping[str, bytes]
    """Everything else of its control part: md5sums, conffiles, scripts, triggers, shlibs, templates, …"""
    files: tuple[str, ...]
    """The payload's paths in its order, without a leading slash; the root is ""."""
    conffiles: tuple[Conffile, ...] = ()
    """With the checksums to record, obsolete ones of the old version last."""
    replaces: InstalledPackage | None = None
    sha256: str = ""
    """Of the package file."""
    placed: Mapping[str, Entry] = {}
    """What of a package that is there only in part has come to the paths that the database knows of it."""

    @property
    def name(self) -> str:
        return self.control.find("Package")

    @property
    def architecture(self) -> str:
        return self.control.find("Architecture")

    @property
    def key(self) -> PackageKey:
        return PackageKey(self.name, self.architecture)

    @property
    def info_name(self) -> str:
        """The stem of its files in `info/`: with the architecture where several may be installed together."""
        same = self.control.find("Multi-Arch").strip() == "same"
        return f"{self.name}:{self.architecture}" if same else self.name


def installed_stanza(record: DebRecord) -> str:
    """Return the record's stanza of the status file."""
    fields = {name: value for name, value in record.control.fields.items() if name.lower() != "status"}
    fields["Status"] = _STATUS
    if record.conffiles:
        fields["Conffiles"] = "\n".join(["", *(conffile.format() for conffile in record.conffiles)])
    ranked = sorted(fields.items(), key=lambda item: _RANK.get(item[0].lower(), len(_ORDER)))
    return format_stanza(ranked)


def bare_stanza(record: DebRecord) -> str:
    """Return the stanza in a status file that dpkg didn't write, or lost its lists: as much as it had before."""
    old = stanza_of(record.replaces).fields if record.replaces is not None else {}
    return installed_stanza(record if "Conffiles" in old else replace(record, conffiles=()))


def sliced_stanza(record: DebRecord) -> str:
    """Return the stanza of a file that is control files one after the other."""
    return record.control.text


def file_list(record: DebRecord) -> bytes:
    """Return the record's `info/*.list`: every path once, the root as `/.`."""
    lines = dict.fromkeys(f"/{path}" if path else "/." for path in record.files)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def rewrite_status(
    stanzas: Sequence[tuple[PackageKey, str]],
    records: Sequence[DebRecord],
    write: Callable[[DebRecord], str] = installed_stanza,
) -> bytes:
    """
    Return the new status file. `stanzas` are the old ones, as (key, text), in their order.

    A new package goes where dpkg, which sorts by name, has it.
    """
    replaced = {record.replaces.key: write(record) for record in records if record.replaces is not None}
    rows = [(key, replaced.pop(key, text)) for key, text in stanzas]
    for record in sorted((r for r in records if r.replaces is None), key=lambda r: r.key):
        key = record.key
        text = write(record)
        same = next((n for n, (other, _) in enumerate(rows) if other == key), None)
        if same is not None:  # known, but not installed: its configuration files are still there
            rows[same] = (key, text)
            continue
        at = next((n for n, (other, _) in enumerate(rows) if other > key), len(rows))
        rows.insert(at, (key, text))
    return "".join(f"{text}\n\n" for _, text in rows).encode("utf-8", "surrogateescape")


def rewrite_distroless(record: DebRecord, path: str, *, had_sums: bool) -> Mapping[str, bytes | None]:
    """Return the files of a record of its own in `status.d`: the control file and, beside it, the checksums."""
    changes: dict[str, bytes | None] = {path: record.control.text.encode("utf-8", "surrogateescape") + b"\n"}
    sums = record.control_files.get("md5sums")
    if sums is not None or had_sums:
        changes[f"{path}.md5sums"] = sums
    return changes


def rewrite_info(record: DebRecord, old_names: Sequence[str], folder: str) -> Mapping[str, bytes | None]:
    """Return the changes in `info/`: `old_names` are the files that the old version has there."""
    changes: dict[str, bytes | None] = {f"{folder}/{name}": None for name in old_names}
    changes[f"{folder}/{record.info_name}.list"] = file_list(record)
    for name, data in record.control_files.items():
        changes[f"{folder}/{record.info_name}.{name}"] = data
    return changes


def rewrite_triggers(record: DebRecord, file_triggers: str, named: Mapping[str, str]) -> Mapping[str, str]:
    """
    Return the changed files of `triggers/`, by name: `File` and one for each named trigger.

    `file_triggers` and `named` are their present texts. A record whose interests stay changes nothing.
    """
    interests = _interests(record)
    package = record.info_name
    lines = [line for line in split_lines(file_triggers) if line.rpartition(" ")[2].removesuffix("/noawait") != package]
    paths = [f"{trigger} {package}{suffix}" for trigger, suffix in interests if trigger.startswith("/")]
    changes: dict[str, str] = {}
    if set(lines + paths) != set(split_lines(file_triggers)):
        changes["File"] = "".join(f"{line}\n" for line in (*lines, *paths))
    wanted = {trigger: suffix for trigger, suffix in interests if not trigger.startswith("/")}
    for name in sorted({*named, *wanted}):
        text = named.get(name, "")
        others = [line for line in split_lines(text) if line.removesuffix("/noawait") != package]
        mine = [f"{package}{wanted[name]}"] if name in wanted else []
        if set(others + mine) != set(split_lines(text)):
            changes[name] = "".join(f"{line}\n" for line in (*others, *mine))
    return changes


def _interests(record: DebRecord) -> list[tuple[str, str]]:
    interests = []
    for line in split_lines(record.control_files.get("triggers", b"").decode("utf-8", "replace")):
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[0].startswith("interest"):
            interests.append((words[1], "/noawait" if words[0] == "interest-noawait" else ""))
    return interests
