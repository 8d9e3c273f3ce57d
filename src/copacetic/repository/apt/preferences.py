# SPDX-License-Identifier: Apache-2.0
"""
Pins: which of several versions apt would take, by apt_preferences(5).

A version has the priority of the first specific pin that fits it, else the highest of the indexes that offer it. An
index has that of the first general pin that fits it (APT::Default-Release is the first, with 990), else 500, or 1
when it is marked NotAutomatic, or 100 with ButAutomaticUpgrades too. The status file counts as one with 100.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct

from copacetic.deb.deb822 import Deb822Error, parse_stanzas
from copacetic.errors import RepositoryError, blame_input
from copacetic.glob import matches_glob
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.apt.release import Release

INSTALLED = 100
NORMAL = 500
DEFAULT_RELEASE = 990
DOWNGRADES = 1000
"""From here on an older version is taken, too."""

NEVER = -32768
FILE_LIMIT = 1024 * 1024
_MAX_QUANTIFIERS = 3
_MAX_PINS = 1_000
_MAX_PATTERN = 1_000
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_DEFAULT_RELEASE = re.compile(r"^[ \t]*APT::Default-Release\s+\"?([^\";]+)\"?\s*;", re.MULTILINE)
_UNCHECKED = re.compile(r"\bCheck-Valid-Until\s+\"?(?:no|false|without|off|disable|0)\"?\s*;", re.IGNORECASE)
_RELEASE_FIELDS = {"a": "Suite", "n": "Codename", "o": "Origin", "l": "Label", "v": "Version"}


class Described(Protocol):
    """An index as far as pins look at it, whether it was fetched or not."""

    @property
    def release(self) -> Release: ...
    @property
    def component(self) -> str: ...


Place: TypeAlias = Described | None
"""An index that has a version; None is the status file."""


class Subject(Struct, frozen=True, kw_only=True):
    """A version of a package, and all the places that have it."""

    name: str
    source: str
    version: str
    architecture: str
    """That of the package in the image; `all` counts as the native one."""
    places: Sequence[Place]


class Pin(Struct, frozen=True):
    """One stanza of the preferences, for one of the patterns in its Package."""

    package: str
    """Empty for all packages: it gives indexes their priority, specific pins give it to versions."""
    kind: str
    """release, origin or version."""
    value: str
    priority: int

    def fits(self, subject: Subject, native: str) -> bool:
        """Tell whether a specific pin is about this version."""
        return self._names(subject, native) and (
            _matches_version(self.value, subject.version)
            if self.kind == "version"
            else any(self.fits_place(place, subject.architecture) for place in subject.places)
        )

    def _names(self, subject: Subject, native: str) -> bool:
        from_source = self.package.startswith("src:")
        pattern, colon, architecture = self.package.removeprefix("src:").rpartition(":")
        if not colon:
            pattern, architecture = architecture, native
        if architecture not in {"any", native if subject.architecture == "all" else subject.architecture}:
            return False
        name = subject.source if from_source else subject.name
        return _matches(pattern, name) if _is_pattern(pattern) else pattern == name

    def fits_place(self, place: Place, architecture: str) -> bool:
        """Tell whether an index (or the status file) is what the pin describes."""
        if self.kind == "origin":
            site = self.value[1:-1] if len(self.value) > 1 and self.value[0] == self.value[-1] == '"' else self.value
            host = urlsplit(place.release.source.uri).hostname or "" if place is not None else ""
            return bool(site and host) and _matches(site, host)
        return self.kind == "release" and _fits_release(self.value, place, architecture)


def _fits_release(value: str, place: Place, architecture: str) -> bool:
    if value == "*":
        return True
    if "=" not in value:
        # A word is a version when it starts with a digit, otherwise a suite or a codename.
        fields = ("Version",) if value[:1].isdigit() else ("Suite", "Codename")
        return any(_fits_field(value, field, place) for field in fields)
    conditions = [part.strip() for part in value.split(",")]
    conditions = [part for part in conditions if len(part) > 2]
    return bool(conditions) and all(_fits_condition(part, place, architecture) for part in conditions)


def _fits_condition(condition: str, place: Place, architecture: str) -> bool:
    key, equals, wanted = condition[0].lower(), condition[1], condition[2:]
    if equals != "=" or key not in {*_RELEASE_FIELDS, "b", "c"}:
        return True  # apt takes no notice of what it doesn't know
    if key == "c":
        return place is not None and _matches(wanted, place.component)
    if key == "b":
        return place is not None and _matches(wanted, architecture)
    return _fits_field(wanted, _RELEASE_FIELDS[key], place)


def _fits_field(wanted: str, field: str, place: Place) -> bool:
    if place is None:
        return field == "Suite" and _matches(wanted, "now")
    actual = place.release.field(field)
    return _matches_version(wanted, actual) if field == "Version" else bool(actual) and _matches(wanted, actual)


def _matches_version(pattern: str, version: str) -> bool:
    if pattern.endswith("*"):
        # A last star makes a prefix of it, and is then forgotten: `*bpo*` is what ends in bpo.
        pattern = pattern[:-1]
        if version.lower().startswith(pattern.lower()):
            return True
    return pattern.lower() == version.lower() or _matches(pattern, version)


def _is_pattern(text: str) -> bool:
    return (len(text) > 2 and text[0] == text[-1] == "/") or any(char in text for char in "*[?")


def _matches(pattern: str, text: str) -> bool:
    """Match as apt does: a regular expression between slashes, else a glob; case doesn't count."""
    if len(pattern) > 1 and pattern[0] == pattern[-1] == "/":
        expression = _compile(pattern[1:-1])
        return expression is not None and expression.search(text) is not None
    return matches_glob(text.lower(), pattern.lower())


@lru_cache(maxsize=256)
def _compile(text: str) -> re.Pattern[str] | None:
    """
    Return an extended regular expression of somebody's preferences, or None for one that is broken.

    Raises `RepositoryError` for one that could take for ever: repeated groups, or many repetitions.
    """
    quantifiers = re.findall(r"(?<!\\)[*+?{]", text)
    if len(text) > 200 or len(quantifiers) > _MAX_QUANTIFIERS or re.search(r"\)[*+{]|\(\?|\\\d", text):
        raise RepositoryError(f"etc/apt/preferences: the pattern /{text[:80]}/ is too complex")
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError):
        return None


class Preferences(Struct, frozen=True):
    """All pins of an image, in the order in which they count."""

    pins: tuple[Pin, ...] = ()
    native: str = ""

    @classmethod
    def read(cls, fs: ImageFilesystem, native: str) -> Preferences:
        """Read the image's files. Raises `RepositoryError` for a stanza that can't be understood."""
        pins: list[Pin] = []
        default = ""
        for text in _configuration(fs):
            match = _DEFAULT_RELEASE.search(text)
            default = match[1] if match else default
        if default:
            pins.append(Pin("", "release", default, DEFAULT_RELEASE))
        for path in ("etc/apt/preferences", *_files(fs, "etc/apt/preferences.d", ".pref")):
            with blame_input(RepositoryError, path):
                pins += _parse(_text(fs, path), path)
            # Each is asked about each version that is offered.
            if len(pins) > _MAX_PINS or any(len(pin.package) + len(pin.value) > _MAX_PATTERN for pin in pins):
                raise RepositoryError(
                    f"{path}: more than {_MAX_PINS} pins, or one of more than {_MAX_PATTERN} characters"
                )
        return cls(tuple(pins), native)

    def priority(self, subject: Subject) -> int:
        """Return the priority of a version; at most 0 is never taken."""
        places = [self._place_priority(place, subject.architecture) for place in subject.places]
        if all(priority == NEVER for priority in places):
            return NEVER
        for pin in self.pins:
            if pin.package and pin.fits(subject, self.native):
                return pin.priority
        return max(places)

    def is_pinned(self, subject: Subject) -> bool:
        """Tell whether any pin is about a version: somebody has thought of where it comes from."""
        return any(
            pin.fits(subject, self.native)
            if pin.package
            else any(pin.fits_place(place, subject.architecture) for place in subject.places if place is not None)
            for pin in self.pins
        )

    def is_never(self, place: Described, architecture: str) -> bool:
        """
        Tell whether nothing of an index is ever taken, so that it needn't be fetched: a pin of some packages that fits
        it speaks for their versions wherever else they are.
        """
        speaks = any(pin.package and pin.fits_place(place, architecture) for pin in self.pins)
        return self._place_priority(place, architecture) == NEVER and not speaks

    def disturbs(self, places: Iterable[Described], architecture: str) -> bool:
        """Tell whether a pin orders any of these indexes otherwise than apt does by itself, or single versions."""
        described = list(places)
        return any(
            pin.kind == "version" or any(pin.fits_place(place, architecture) for place in described)
            for pin in self.pins
        )

    def _place_priority(self, place: Place, architecture: str) -> int:
        general = [p.priority for p in self.pins if not p.package and p.fits_place(place, architecture)]
        if general:
            return NEVER if NEVER in general else general[0]
        if place is None:
            return INSTALLED
        if place.release.not_automatic:
            return INSTALLED if place.release.but_automatic_upgrades else 1
        return NORMAL


def checks_valid_until(fs: ImageFilesystem) -> bool:
    """Tell whether apt.conf leaves it at that: Release files past their date are refused."""
    return not any(_UNCHECKED.search(text) for text in _configuration(fs))


def _configuration(fs: ImageFilesystem) -> list[str]:
    """The files of apt.conf(5) in apt's order."""
    return [_text(fs, path) for path in (*_files(fs, "etc/apt/apt.conf.d", ".conf"), "etc/apt/apt.conf")]


def _files(fs: ImageFilesystem, folder: str, ending: str) -> list[str]:
    names = [name for name in fs.iterdir(folder) if _NAME.fullmatch(name)]
    return [f"{folder}/{name}" for name in names if "." not in name or name.endswith(ending)]


def _text(fs: ImageFilesystem, path: str) -> str:
    try:
        return fs.read(path, limit=FILE_LIMIT).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _parse(text: str, where: str) -> list[Pin]:
    pins: list[Pin] = []
    try:
        for stanza in parse_stanzas(text, comments=True):
            kind, _, value = stanza.find("Pin").strip().partition(" ")
            packages = stanza.find("Package").split()
            if not kind:
                continue
            priority = _priority(stanza.find("Pin-Priority").strip())
            if not packages or kind.lower() not in {"release", "origin", "version"} or priority is None:
                raise RepositoryError(
                    f"{where}: not a pin: {kind[:40]!r} with the priority {stanza.find('Pin-Priority')[:40]!r}"
                )
            general = packages == ["*"]
            if general and kind.lower() == "version":
                continue  # apt takes no notice of it: versions are not what all packages have in common
            names = [""] if general else packages
            pins += [Pin(name, kind.lower(), value.strip(), priority) for name in names]
    except Deb822Error as error:
        raise RepositoryError(f"{where}: {error}") from error
    return pins


def _priority(text: str) -> int | None:
    if text == "never":
        return NEVER
    if not re.fullmatch(r"[+-]?\d{1,9}", text):
        return None
    return int(text) if 0 < abs(int(text)) < -NEVER else None
