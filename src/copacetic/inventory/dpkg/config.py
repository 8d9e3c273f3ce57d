# SPDX-License-Identifier: Apache-2.0
"""What the administrator and other packages have told dpkg about paths: conffiles, diversions, overrides, filters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from copacetic.errors import InventoryError
from copacetic.glob import matches_glob
from copacetic.lines import split_lines

_MD5 = re.compile(r"[0-9a-f]{32}|newconffile|nonexistent|-")
_OPTION = re.compile(r"(path-(?:include|exclude))\s*[=\s](.*)")
_MAX_RULES = 1_000
_MAX_GLOB = 4_096


class Conffile(Struct, frozen=True):
    """A configuration file as the package shipped it last."""

    path: str
    md5: str
    """Of the shipped content, or dpkg's word for why there is none (`newconffile`, `nonexistent`, `-`)."""
    obsolete: bool = False
    remove_on_upgrade: bool = False

    def format(self) -> str:
        """As a line of the status file's `Conffiles`."""
        flags = " obsolete" * self.obsolete + " remove-on-upgrade" * self.remove_on_upgrade
        return f"/{self.path} {self.md5}{flags}"


def parse_conffiles(value: str, where: str) -> tuple[Conffile, ...]:
    """Read the `Conffiles` field. Raises `InventoryError`."""
    conffiles = []
    for line in filter(None, (line.strip() for line in value.split("\n"))):
        words = line.split(" ")
        flags = set()
        while words and words[-1] in {"obsolete", "remove-on-upgrade"}:
            flags.add(words.pop())
        path, md5 = " ".join(words[:-1]), words[-1] if words else ""
        if not path.startswith("/") or not _MD5.fullmatch(md5) or ".." in path.split("/"):
            raise InventoryError(f"{where}: not a configuration file: {line[:200]!r}")
        conffiles.append(Conffile(path.lstrip("/"), md5, "obsolete" in flags, "remove-on-upgrade" in flags))
    return tuple(conffiles)


class Diversion(Struct, frozen=True):
    """A path that goes under another name, except for the package that wants it so (empty: for nobody)."""

    path: str
    to: str
    package: str


def parse_diversions(text: str) -> Mapping[str, Diversion]:
    """Read `var/lib/dpkg/diversions`, by contested path. Raises `InventoryError`."""
    lines = split_lines(text)
    if len(lines) % 3:
        raise InventoryError("var/lib/dpkg/diversions is truncated")
    diversions = {}
    for path, to, package in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        if not path.startswith("/") or not to.startswith("/"):
            raise InventoryError(f"var/lib/dpkg/diversions: not a path: {path[:200]!r}")
        diversions[path[1:]] = Diversion(path[1:], to[1:], "" if package == ":" else package)
    return diversions


class StatOverride(Struct, frozen=True):
    """The owner and mode that a path has whatever its package says; `#123` is a number."""

    path: str
    user: str
    group: str
    mode: int


def parse_statoverrides(text: str) -> Mapping[str, StatOverride]:
    """Read `var/lib/dpkg/statoverride`, by path. Raises `InventoryError`."""
    overrides = {}
    for line in split_lines(text):
        if not line:
            continue
        words = line.split(" ", 3)
        if len(words) != 4 or not re.fullmatch(r"[0-7]{1,5}", words[2]) or not words[3].startswith("/"):
            raise InventoryError(f"var/lib/dpkg/statoverride: not an override: {line[:200]!r}")
        path = words[3].lstrip("/")
        overrides[path] = StatOverride(path, words[0], words[1], int(words[2], 8))
    return overrides


class PathFilters(Struct, frozen=True):
    """`path-exclude` and `path-include` of dpkg.cfg, in dpkg's order; the last that matches decides."""

    rules: tuple[tuple[bool, str], ...] = ()
    """Whether it includes, and the glob, in which `*` matches slashes too."""

    @classmethod
    def parse(cls, texts: Iterable[str]) -> PathFilters:
        """Read configuration files in dpkg's order: dpkg.cfg.d sorted, then dpkg.cfg."""
        rules = []
        for text in texts:
            for line in split_lines(text):
                match = _OPTION.fullmatch(line.partition("#")[0].strip())
                if match is not None:
                    rules.append((match[1] == "path-include", match[2].strip().strip("\"'")))
        if len(rules) > _MAX_RULES or any(len(glob) > _MAX_GLOB for _, glob in rules):
            raise InventoryError("etc/dpkg/dpkg.cfg: too many path-exclude and path-include, or too long ones")
        return cls(tuple(rules))

    def excludes(self, path: str, *, directory_or_link: bool) -> bool:
        """
        Tell whether dpkg would leave out a path of a package.

        A directory (or link) that is excluded stays when an include rule might bring back something in it.
        """
        name = f"/{path}"
        excluded = False
        for include, glob in self.rules:
            if excluded == include and matches_glob(name, glob):
                excluded = not include
        if not excluded or not directory_or_link:
            return excluded
        return not any(include and name.startswith(_fixed_part(glob)) for include, glob in self.rules)


def _fixed_part(glob: str) -> str:
    match = re.search(r"[*?\[\\]", glob)
    return (glob[: match.start()] if match else glob).rstrip("/")
