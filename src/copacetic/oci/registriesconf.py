# SPDX-License-Identifier: Apache-2.0
"""
registries.conf, as in containers-registries.conf(5): which registries are mirrored, moved, insecure or blocked.

Version 2, with drop-in directories (containers-registries.conf.d(5)); of version 1 the lists that forbid and
permit are understood. Of several rules the longest prefix counts, alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from copacetic.errors import UsageError
from copacetic.oci.reference import Reference

FILE_LIMIT = 1 << 20
_HINT = "correct the file; see containers-registries.conf(5)"
_LOCATION = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9.:\[\]_/-]*")
_logger = logging.getLogger(__name__)


class Mirror(Struct, frozen=True, kw_only=True):
    """Another place for the images of a rule's prefix."""

    location: str
    insecure: bool = False
    plain: bool = False
    """Plain HTTP and nothing else."""
    digests: bool = True
    """Used for references with a digest."""
    tags: bool = True
    """Used for references with no more than a tag."""


class Rule(Struct, frozen=True, kw_only=True):
    """What holds for the images whose names begin with a prefix."""

    prefix: str
    location: str = ""
    """Where the images really are; empty for where their name says."""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    origin: str = ""
    """The file, for messages."""

    def match(self, reference: Reference) -> int:
        """Return how many characters of the reference's name the prefix covers; 0 when it isn't concerned."""
        if self.prefix.startswith("*."):
            host = reference.registry.partition(":")[0]
            return len(reference.registry) if host.endswith(self.prefix[1:]) else 0
        for name in (reference.name, f"{reference.name}:{reference.tag}", f"{reference.name}@{reference.digest}"):
            if name == self.prefix or name.startswith(f"{self.prefix}/"):
                return min(len(self.prefix), len(reference.name))
        return 0


def select_rule(rules: Sequence[Rule], reference: Reference) -> Rule | None:
    """Return the rule with the longest match, or None."""
    best = max(rules, key=lambda rule: rule.match(reference), default=None)
    return best if best is not None and best.match(reference) else None


def load_rules(paths: Sequence[Path]) -> tuple[Rule, ...]:
    """
    Read files, and directories of `*.conf` files, in their order; a later rule replaces one with the same prefix.

    What is not there is passed over. Raises `UsageError` for a file that makes no sense.
    """
    rules: dict[str, Rule] = {}
    for path in paths:
        for file in _expand(path):
            rules.update({rule.prefix: rule for rule in _load(file)})
    return tuple(rules.values())


def _expand(path: Path) -> Sequence[Path]:
    try:
        if path.is_dir():
            return sorted(file for file in path.iterdir() if file.suffix == ".conf")
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}", hint=_HINT) from error
    return [path]


def _load(path: Path) -> Iterator[Rule]:
    import tomllib

    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}", hint=_HINT) from error
    try:
        if len(data) > FILE_LIMIT:
            raise UsageError(f"{path}: has more than {FILE_LIMIT} bytes", hint=_HINT)
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", hint=_HINT) from error
    _logger.debug("registries: reading %s", path)
    yield from _read_version_1(document, path)
    for number, table in enumerate(_tables(document, "registry", f"{path}")):
        yield _read_rule(table, f"{path}: registry[{number}]", str(path))


def _read_rule(table: Mapping[str, Any], where: str, origin: str) -> Rule:
    prefix, location = _string(table, "prefix", where), _string(table, "location", where)
    prefix = (prefix or location).rstrip("/")
    if not _LOCATION.fullmatch(prefix.removeprefix("*.")):
        raise UsageError(f"{where} needs a usable prefix or location", hint=_HINT)
    digests_only = _flag(table, "mirror-by-digest-only", where)
    return Rule(
        prefix=prefix,
        location=_check_location(location, where) if location else "",
        insecure=_flag(table, "insecure", where),
        blocked=_flag(table, "blocked", where),
        mirrors=tuple(
            _read_mirror(mirror, f"{where}.mirror[{number}]", digests_only=digests_only)
            for number, mirror in enumerate(_tables(table, "mirror", where))
        ),
        origin=origin,
    )


def _read_mirror(table: Mapping[str, Any], where: str, *, digests_only: bool) -> Mirror:
    use = _string(table, "pull-from-mirror", where) or "all"
    if use not in {"all", "digest-only", "tag-only"}:
        raise UsageError(f"{where}: pull-from-mirror is none of all, digest-only and tag-only", hint=_HINT)
    return Mirror(
        location=_check_location(_string(table, "location", where), where),
        insecure=_flag(table, "insecure", where),
        digests=use != "tag-only",
        tags=use != "digest-only" and not digests_only,
    )


def _read_version_1(document: Mapping[str, Any], path: Path) -> Iterator[Rule]:
    lists = document.get("registries")
    if not isinstance(lists, dict):
        return
    insecure, blocked = (
        {host for host in names if isinstance(host, str) and _LOCATION.fullmatch(host)}
        for key in ("insecure", "block")
        if isinstance(names := (lists.get(key) or {}).get("registries") or [], list)
    )
    for host in sorted(insecure | blocked):
        yield Rule(prefix=host, insecure=host in insecure, blocked=host in blocked, origin=str(path))


def _check_location(location: str, where: str) -> str:
    location = location.rstrip("/")
    if not _LOCATION.fullmatch(location):
        raise UsageError(f"{where}: {location[:80]!r} is not a location: host[:port][/path]", hint=_HINT)
    return location


def _tables(table: Mapping[str, Any], key: str, where: str) -> Sequence[Mapping[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{where}: expected [[{key}]] tables", hint=_HINT)
    return value


def _string(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} is not a string", hint=_HINT)
    return value


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {key} is neither true nor false", hint=_HINT)
    return value
