# SPDX-License-Identifier: Apache-2.0
"""
Repository definitions: `etc/apk/repositories` and `repositories.d`, as apk-repositories(5) has them.

    set [-default] key=value              for ${key} in what follows
    [v2|v3] [@tag] url [component ...]    a repository, or one for each component
    ndx [@tag] url                        an index file

They come from the image, from the user, or (for an image that has none) from this machine when it is of the same
distribution. Only http and https are used: a path in somebody's image must not read from this host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from copacetic.distro import Distro
from copacetic.errors import RepositoryError, blame_input
from copacetic.http.login import Login
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.address import Place, parse_address, select_mirror

__all__ = ["ApkSource", "branch_of", "builtin_variables", "parse_sources", "read_sources", "with_mirrors"]

SOURCE_LIMIT = 1024 * 1024
FOLDERS = ("etc/apk/repositories.d", "lib/apk/repositories.d")
MAIN = "etc/apk/repositories"
_MAX_SOURCES = 200
_MAX_ROWS = 1_000
"""With those that are not used."""
_MAX_VALUE = 2_000
_MAX_VARIABLES = 100
_LIST_NAME = re.compile(r"[A-Za-z0-9._-]+\.list")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/~+-]{0,200}")
_TAG = re.compile(r"@[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_BRANCH = re.compile(r"(\d+)\.(\d+)(?:[._].*)?")
_URL_BRANCH = re.compile(r"/(v\d+\.\d+|edge|latest-stable)(?=/|$)")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_TYPES = ("v2", "v3", "ndx")
_SUPPORTED = ("http", "https")


class ApkSource(Struct, frozen=True, kw_only=True):
    """One repository."""

    url: str
    """Of the repository without a final slash, or of the index file; without credentials."""
    kind: str
    """`v2`, `v3` or `ndx`."""
    tag: str = ""
    """Without @: only for packages that `world` asks for with it."""
    defined_in: str
    login: Login | None = None
    """What the address held besides."""
    named: bool = False
    """The user or this machine names the address, not the image: it may be anywhere."""

    @property
    def is_v3(self) -> bool:
        return self.kind == "v3" or (self.kind == "ndx" and self.url.endswith(".adb"))

    def index_url(self, architecture: str) -> str:
        if self.kind == "ndx":
            return self.url
        return f"{self.url}/{architecture}/{'Packages.adb' if self.is_v3 else 'APKINDEX.tar.gz'}"

    @property
    def branch(self) -> str:
        """The release that the address names (v3.19, edge, latest-stable), or ""."""
        found = _URL_BRANCH.findall(self.url)
        return found[-1] if found else ""

    @property
    def component(self) -> str:
        """The last part of the address, for people."""
        path = urlsplit(self.url).path.rstrip("/")
        return path.rpartition("/")[2] if self.kind != "ndx" else ""


def branch_of(distro: Distro) -> str:
    """
    Return the branch of the distribution's repositories: `v3.19` for VERSION_ID 3.19.1, `edge` for a development
    version, "" for one that rolls.
    """
    match = _BRANCH.fullmatch(distro.version_id)
    if distro.id != "alpine" or match is None:
        return "edge" if distro.version_id == "edge" else ""
    return "edge" if "_alpha" in distro.version_id else f"v{match[1]}.{match[2]}"


def builtin_variables(distro: Distro, architecture: str) -> dict[str, str]:
    """Return apk's own variable, and what a definition for many images needs to know of one."""
    return {
        "APK_ARCH": architecture,
        "OS_ID": distro.id,
        "OS_VERSION_ID": distro.version_id,
        "OS_BRANCH": branch_of(distro),
    }


def read_sources(fs: ImageFilesystem, variables: Mapping[str, str]) -> tuple[list[ApkSource], list[str]]:
    """
    Return an image's sources and notes about those that can't be used.

    Raises `RepositoryError` for a broken line, naming file and line.
    """
    known = dict(variables)
    sources: list[ApkSource] = []
    notes: list[str] = []
    for path in (MAIN, *_list_files(fs)):
        try:
            text = fs.read(path, limit=SOURCE_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        found, skipped = parse_sources(text, path, known)
        sources += found
        notes += skipped
    if len(sources) > _MAX_SOURCES:
        raise RepositoryError(f"{MAIN} defines {len(sources)} repositories, the limit is {_MAX_SOURCES}")
    return sources, notes


def _list_files(fs: ImageFilesystem) -> Iterator[str]:
    """Of two files with one name, only that in the first folder counts."""
    seen: set[str] = set()
    for folder in FOLDERS:
        for name in fs.iterdir(folder):
            if _LIST_NAME.fullmatch(name) and name not in seen:
                seen.add(name)
                yield f"{folder}/{name}"


def parse_sources(text: str, where: str, variables: dict[str, str]) -> tuple[list[ApkSource], list[str]]:
    """Read one file or one definition of the user's; `set` adds to the variables."""
    sources: list[ApkSource] = []
    notes: list[str] = []
    with blame_input(RepositoryError, where):
        for number, raw in enumerate(split_lines(text), start=1):
            words = raw.partition(" #")[0].split()
            if not words or words[0].startswith("#"):
                continue
            place = f"{where}:{number}" if "\n" in text.rstrip("\n") or where.startswith(("etc/", "lib/")) else where
            if words[0] == "set":
                _set(words[1:], place, variables)
                continue
            for source in _sources(words, place, variables):
                scheme, colon, _ = source.url.partition(":")
                if scheme in _SUPPORTED and colon:
                    sources.append(source)
                else:
                    what = f"{scheme}:" if colon and "/" not in scheme else "local"
                    notes.append(f"{place}: {what} repositories are not used")
                if len(sources) + len(notes) > _MAX_ROWS:
                    raise RepositoryError(f"{where} defines more than {_MAX_ROWS} repositories")
    return sources, notes


def _set(words: Sequence[str], place: str, variables: dict[str, str]) -> None:
    default = words[:1] == ["-default"]
    key, equals, value = " ".join(words[1:] if default else words).partition("=")
    if not equals or not _KEY.fullmatch(key) or key.startswith("APK_"):
        raise RepositoryError(f"{place}: not a variable: {key[:80]!r}")
    if not default or key not in variables:
        variables[key] = _expand(value, place, variables)


def _expand(text: str, place: str, variables: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise RepositoryError(f"{place}: the variable {match[1][:80]!r} is not set")
        return variables[match[1]]

    # A variable may be made of others, and each step may double it.
    expanded = _VARIABLE.sub(value, text) if text.count("$") <= _MAX_VARIABLES else text
    if len(expanded) > _MAX_VALUE:
        raise RepositoryError(f"{place}: a value of more than {_MAX_VALUE} characters")
    return expanded


def _sources(words: list[str], place: str, variables: Mapping[str, str]) -> Iterator[ApkSource]:
    rest = list(words)
    kind = rest.pop(0) if rest[0] in _TYPES else ""
    tag = ""
    if rest and rest[0].startswith("@"):
        tag = rest.pop(0)
        if not _TAG.fullmatch(tag):
            raise RepositoryError(f"{place}: not a tag: {tag[:80]!r}")
    if not rest:
        raise RepositoryError(f"{place}: not a repository definition: {' '.join(words)[:120]!r}")
    url, login = parse_address(_expand(rest.pop(0), place, variables), place)
    if not url or _CONTROL.search(url):
        raise RepositoryError(f"{place}: not an address: {url[:120]!r}")
    kind = kind or ("ndx" if url.endswith((".adb", ".tar.gz")) else "v2")
    if rest and kind == "ndx":
        raise RepositoryError(f"{place}: an index file has no components")
    for component in rest or [""]:
        name = _expand(component, place, variables)
        if name and (not _COMPONENT.fullmatch(name) or ".." in name.split("/")):
            raise RepositoryError(f"{place}: not a component: {name[:80]!r}")
        yield ApkSource(url=f"{url}/{name}" if name else url, kind=kind, tag=tag[1:], defined_in=place, login=login)


def with_mirrors(sources: Sequence[ApkSource], mirrors: Sequence[tuple[str, str]]) -> list[ApkSource]:
    """Put mirrors in the place of what they mirror."""
    result = []
    for source in sources:
        place, mirrored = select_mirror(Place(source.url, source.login), mirrors)
        result.append(replace(source, url=place.url, login=place.login, named=source.named or mirrored))
    return result
