# SPDX-License-Identifier: Apache-2.0
"""
Pins: which of several versions apt would take, by apt_preferences(5).

An installed version has priority 100, a normal suite 500, one marked NotAutomatic 1 (or 100 with
ButAutomaticUpgrades), the suite named by APT::Default-Release 990; a pin overrides all of these.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from copacetic.deb822 import Deb822Error, parse_stanzas
from copacetic.errors import RepositoryError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.apt.index import PackagesIndex
from copacetic.repository.apt.release import Release

INSTALLED = 100
NORMAL = 500
DEFAULT_RELEASE = 990
FILE_LIMIT = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_DEFAULT_RELEASE = re.compile(r"^\s*APT::Default-Release\s+\"?([^\";]+)\"?\s*;", re.MULTILINE)
_RELEASE_FIELDS = {"a": "Suite", "n": "Codename", "o": "Origin", "l": "Label", "v": "Version"}


@dataclass(frozen=True, slots=True)
class Pin:
    """One stanza of the preferences."""

    packages: tuple[str, ...]
    kind: str
    """release, origin or version."""
    value: str
    priority: int

    @property
    def general(self) -> bool:
        """Written for all packages; specific pins go first."""
        return self.packages == ("*",)

    def names(self, package: str, source: str) -> bool:
        for pattern in self.packages:
            name = pattern
            subject = package
            if pattern.startswith("src:"):
                name, subject = pattern[4:], source
            if name.startswith("/") and name.endswith("/") and len(name) > 2:
                if _searches(name[1:-1], subject):
                    return True
            elif fnmatch.fnmatchcase(subject, name):
                return True
        return False

    def fits(self, index: PackagesIndex, version: str) -> bool:
        if self.kind == "version":
            return fnmatch.fnmatchcase(version, self.value)
        if self.kind == "origin":
            host = urlsplit(index.release.source.uri).hostname or ""
            return fnmatch.fnmatchcase(host, self.value.strip('"'))
        return _release_fits(self.value, index)


def _searches(pattern: str, subject: str) -> bool:
    if len(pattern) > 200:
        return False
    try:
        return re.search(pattern, subject) is not None
    except re.error:
        return False


def _release_fits(value: str, index: PackagesIndex) -> bool:
    release = index.release
    for condition in value.split(","):
        key, equals, wanted = condition.strip().partition("=")
        if not equals:
            # A word without `=` is a version when it starts with a digit, otherwise a suite or codename.
            fields = ("Version",) if key[:1].isdigit() else ("Suite", "Codename")
            if not any(fnmatch.fnmatchcase(release.field(field), key) for field in fields):
                return False
        elif key == "c":
            if not fnmatch.fnmatchcase(index.component, wanted):
                return False
        elif key == "b":
            continue
        elif not fnmatch.fnmatchcase(release.field(_RELEASE_FIELDS.get(key, "")), wanted):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Preferences:
    """All pins of an image, and its default release."""

    pins: tuple[Pin, ...] = ()
    default_release: str = ""

    @classmethod
    def read(cls, fs: ImageFilesystem) -> Preferences:
        """Read the image's files. Raises `RepositoryError` for a stanza that can't be understood."""
        pins: list[Pin] = []
        for path in _files(fs, "etc/apt/preferences", "etc/apt/preferences.d", (".pref", "")):
            pins += _parse(_text(fs, path), path)
        default = ""
        for path in _files(fs, "etc/apt/apt.conf", "etc/apt/apt.conf.d", (".conf", "")):
            match = _DEFAULT_RELEASE.search(_text(fs, path))
            default = match[1] if match else default
        return cls(tuple(pins), default)

    def priority(self, package: str, source: str, version: str, index: PackagesIndex) -> int:
        """Return the priority of a version that an index offers."""
        for general in (False, True):
            for pin in self.pins:
                if pin.general == general and pin.names(package, source) and pin.fits(index, version):
                    return pin.priority
        return self._default(index.release)

    def installed_priority(self, package: str, source: str, version: str) -> int:
        """Return the priority of the installed version, which no repository needs to have."""
        for pin in self.pins:
            if pin.kind == "version" and pin.names(package, source) and fnmatch.fnmatchcase(version, pin.value):
                return max(pin.priority, INSTALLED)
        return INSTALLED

    def _default(self, release: Release) -> int:
        if self.default_release and self.default_release in {release.field("Suite"), release.field("Codename")}:
            return DEFAULT_RELEASE
        if release.not_automatic:
            return INSTALLED if release.but_automatic_upgrades else 1
        return NORMAL


def _files(fs: ImageFilesystem, single: str, folder: str, endings: tuple[str, ...]) -> Iterable[str]:
    names = [name for name in fs.iterdir(folder) if _NAME.fullmatch(name)]
    yield from (f"{folder}/{n}" for n in names if "." not in n or n.endswith(tuple(filter(None, endings))))
    yield single


def _text(fs: ImageFilesystem, path: str) -> str:
    try:
        return fs.read(path, limit=FILE_LIMIT).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _parse(text: str, where: str) -> list[Pin]:
    pins = []
    try:
        for stanza in parse_stanzas(text, comments=True):
            kind, _, value = stanza.find("Pin").strip().partition(" ")
            priority = stanza.find("Pin-Priority").strip()
            packages = tuple(stanza.find("Package").split())
            if not packages and not kind:
                continue
            if kind not in {"release", "origin", "version"} or not re.fullmatch(r"[+-]?\d{1,9}", priority):
                raise RepositoryError(f"{where}: not a pin: {kind[:40]!r} with the priority {priority[:40]!r}")
            pins.append(Pin(packages, kind, value.strip(), int(priority)))
    except Deb822Error as error:
        raise RepositoryError(f"{where}: {error}") from error
    return pins
