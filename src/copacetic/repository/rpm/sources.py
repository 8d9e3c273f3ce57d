# SPDX-License-Identifier: Apache-2.0
"""
Repository definitions: `.repo` files of yum, dnf, tdnf and zypper.

They come from the image, from the user, or (for an image that has none) from this machine when it is of the same
distribution. Only http and https are used: a `file:` in somebody's image must not read from this host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import RepositoryError, blame_input
from copacetic.http.login import Login
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.printable import printable
from copacetic.repository.address import Place, parse_address, select_mirror
from copacetic.repository.rpm.config import RpmConfig
from copacetic.repository.rpm.inifile import FILE_LIMIT, expand, parse_ini, split_list, to_bool
from copacetic.strict import read_digits

__all__ = [
    "RpmSource",
    "find_lenient",
    "mirror_addresses",
    "parse_sources",
    "read_credentials",
    "read_sources",
    "with_mirrors",
]

FOLDERS = ("etc/yum.repos.d", "etc/distro.repos.d", "usr/share/dnf5/repos.d", "etc/zypp/repos.d")
_ZYPP = "etc/zypp/"
_CREDENTIALS = "etc/zypp/credentials.d"
_CREDENTIALS_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SUBSCRIBED = ("cdn.redhat.com", "linux-update.oracle.com", "updates.suse.com")
"""Hosts that serve subscribers only, but for a few paths."""
_MAX_SOURCES = 200
_MAX_ROWS = 1_000
_MAX_ADDRESSES = 50
_FILE_NAME = re.compile(r"[A-Za-z0-9._ @:+-]{1,200}\.repo")
_ID = re.compile(r"[!-~][ -~]{0,199}")
_WEB = re.compile(r"https?:", re.IGNORECASE)
_BLANKS = re.compile(r"[\x00-\x20\x7f]")


class RpmSource(Struct, frozen=True, kw_only=True):
    """One repository."""

    id: str
    urls: tuple[str, ...] = ()
    """Its addresses without final slashes and without credentials; the first that answers is used."""
    mirrorlist: str = ""
    """Where a list of addresses is, or a metalink."""
    logins: tuple[Login, ...] = ()
    credentials: str = ""
    """The name of a file in etc/zypp/credentials.d with a login."""
    checks_packages: bool = True
    checks_metadata: bool = False
    metadata_suffices: bool = False
    """Whether packages of signed metadata need no signature of their own, as for zypper."""
    keys: tuple[str, ...] = ()
    """Addresses of files with keys; empty: those that the image has anyway."""
    priority: int = 99
    cost: int = 1000
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    module_hotfixes: bool = False
    optional: bool = False
    """It may be left out when it can't be had."""
    for_subscribers: bool = False
    """The definition names a client certificate or a login."""
    defined_in: str
    by_user: bool = False
    """Whether the user names it: an image's word about how it is to be verified doesn't count, the user's does."""
    named: bool = False
    """The user or this machine names the address, not the image: it may be anywhere."""

    @property
    def shown(self) -> str:
        """What to call it in messages."""
        return f"{self.urls[0] if self.urls else self.mirrorlist.partition('?')[0]} ({self.defined_in} [{self.id}])"


def read_sources(
    fs: ImageFilesystem, config: RpmConfig, variables: Mapping[str, str]
) -> tuple[list[RpmSource], list[str]]:
    """
    Return an image's sources that are enabled, and notes about those that can't be used.

    Raises `RepositoryError` for a broken line, naming file and line.
    """
    sources: dict[str, RpmSource] = {}
    notes: list[str] = []
    for path, text in _definitions(fs):
        found, skipped = parse_sources(text, path, config, variables)
        notes += skipped
        for source in found:
            if source.id in sources:
                notes.append(f"{path} defines [{source.id}] once more: {sources[source.id].defined_in} counts")
            sources.setdefault(source.id, source)
        if len(sources) > _MAX_SOURCES or len(notes) > _MAX_ROWS:
            raise RepositoryError(f"{path}: the image defines more than {_MAX_SOURCES} repositories")
    return list(sources.values()), notes


def find_lenient(fs: ImageFilesystem, config: RpmConfig) -> str:
    """
    Return the first definition by which packages need no signature, whatever address it has; empty where there is none.
    """
    own = [(config.path, _text(fs, config.path))] if config.path else []
    for path, text in (*own, *_definitions(fs)):
        with blame_input(RepositoryError, path):
            for identity, values in parse_ini(text or "", path).items():
                checks = to_bool(values.get("gpgcheck"), config.checks_packages)
                signed = path.startswith(_ZYPP) and to_bool(values.get("repo_gpgcheck"), config.checks_metadata)
                is_used = identity != "main" and to_bool(values.get("enabled"), True)
                if is_used and not signed and not to_bool(values.get("pkg_gpgcheck"), checks):
                    return f"{path} [{printable(identity)}]"
    return ""


def _definitions(fs: ImageFilesystem) -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for name in sorted(fs.iterdir(folder)):
            text = _text(fs, f"{folder}/{name}") if _FILE_NAME.fullmatch(name) else None
            if text is not None:
                yield f"{folder}/{name}", text


def _text(fs: ImageFilesystem, path: str) -> str | None:
    try:
        return fs.read(path, limit=FILE_LIMIT).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def parse_sources(
    text: str, where: str, config: RpmConfig, variables: Mapping[str, str]
) -> tuple[list[RpmSource], list[str]]:
    """Read one file, or one definition of the user's; an address alone will do for one."""
    sources: list[RpmSource] = []
    notes: list[str] = []
    with blame_input(RepositoryError, where):
        if _WEB.match(text.strip()):
            sections = {text.strip().rpartition("/")[2] or "repository": {"baseurl": text.strip()}}
        else:
            sections = parse_ini(text, where)
        for identity, values in sections.items():
            if identity == "main" or not to_bool(values.get("enabled"), True):
                continue
            shown = identity.encode("ascii", "backslashreplace").decode()[:200]
            if not _ID.fullmatch(shown):
                raise RepositoryError(f"{where}: not a repository's name: {identity[:80]!r}")
            place = f"{where} [{shown}]"
            source = _source(shown, values, where, place, config, variables)
            if source.urls or source.mirrorlist:
                sources.append(source)
            else:
                notes.append(f"{place} has no address of http or https: it is not used")
    return sources, notes


def _source(
    identity: str,
    values: Mapping[str, str],
    where: str,
    place: str,
    config: RpmConfig,
    variables: Mapping[str, str],
) -> RpmSource:
    zypp = where.startswith(_ZYPP)

    def words(key: str) -> tuple[str, ...]:
        return split_list(expand(values.get(key, ""), variables, place))

    found = [_place(text, values.get("path", ""), place) for text in words("baseurl") if _WEB.match(text)]
    listed = next((text for key in ("metalink", "mirrorlist") for text in words(key) if _WEB.match(text)), "")
    if len(found) > _MAX_ADDRESSES:
        raise RepositoryError(f"{place}: more than {_MAX_ADDRESSES} addresses")
    logins = [address.login for address, _ in found if address.login is not None]
    logins += _own_logins(values, [address.url for address, _ in found] or [listed], place)
    checks = to_bool(values.get("gpgcheck"), config.checks_packages)
    return RpmSource(
        id=identity,
        urls=tuple(address.url for address, _ in found),
        mirrorlist=_mirrorlist(listed, place) if not found else "",
        logins=tuple(logins),
        credentials=next((name for _, name in found if name), ""),
        checks_packages=to_bool(values.get("pkg_gpgcheck"), checks),
        checks_metadata=to_bool(values.get("repo_gpgcheck"), config.checks_metadata),
        metadata_suffices=zypp and not to_bool(values.get("pkg_gpgcheck"), not config.metadata_suffices),
        keys=words("gpgkey"),
        priority=_number(values.get("priority"), 99),
        cost=_number(values.get("cost"), 1000),
        excludes=(*words("exclude"), *words("excludepkgs"), *words("excludes")),
        includes=words("includepkgs"),
        module_hotfixes=to_bool(values.get("module_hotfixes"), False),
        optional=to_bool(values.get("skip_if_unavailable"), config.optional),
        for_subscribers=any(values.get(key) for key in ("sslclientcert", "username", "service"))
        or any(urlsplit(url).hostname in _SUBSCRIBED for url in (*(address.url for address, _ in found), listed)),
        defined_in=where,
    )


def _place(text: str, path: str, place: str) -> tuple[Place, str]:
    """Return an address, and what zypper's `?credentials=` in it names."""
    address, question, query = text.partition("?")
    credentials = dict(parse_qsl(query)).get("credentials", "") if question and len(query) < 1_000 else ""
    if question and not credentials:
        address = text  # which is refused as any other with a query
    if path.strip("/"):
        address = f"{address.rstrip('/')}/{path.strip('/')}"
    return parse_address(address, place), credentials


def _mirrorlist(text: str, place: str) -> str:
    """A list of mirrors has a query mostly, which holds nothing secret; a login has no place in it."""
    if not text:
        return ""
    base, question, query = text.partition("?")
    address = parse_address(base, place)
    if address.login is not None or _BLANKS.search(query) or not query.isascii():
        raise RepositoryError(f"{place}: not the address of a list of mirrors: {address.url[:120]!r}")
    slash = "/" if base.endswith("/") else ""
    return f"{address.url}{slash}{question}{query}"


def _own_logins(values: Mapping[str, str], urls: Sequence[str], place: str) -> list[Login]:
    user, password = values.get("username", ""), values.get("password", "")
    if not user:
        return []
    secret = f"{user}:{password}"
    found = []
    for url in filter(None, urls):
        scheme, _, rest = url.partition("://")
        login = parse_address(f"{scheme}://x:x@{rest.partition('?')[0]}", place).login
        if login is not None:
            found.append(replace(login, secret=secret))
    return found


def _number(text: str | None, default: int) -> int:
    number = read_digits((text or "").strip(), most=9)
    return default if number is None else number


def with_mirrors(sources: Sequence[RpmSource], mirrors: Sequence[tuple[str, str]]) -> list[RpmSource]:
    """Put mirrors in the place of what they mirror."""
    result = []
    whole = {old.rstrip("/") for old, _ in mirrors}
    for source in sources:
        places = [select_mirror(Place(url, None), mirrors) for url in source.urls]
        listed, replaced = select_mirror(Place(source.mirrorlist, None), mirrors)
        if source.mirrorlist.rstrip("/") in whole:  # it is no list any more
            places, listed = [(listed, True)], Place("", listed.login)
        logins = [place.login for place, _ in (*places, (listed, True)) if place.login is not None]
        result.append(
            replace(
                source,
                urls=tuple(place.url for place, _ in places),
                mirrorlist=listed.url,
                logins=(*logins, *source.logins),
                named=source.named or replaced or any(mirrored for _, mirrored in places),
            )
        )
    return result


def mirror_addresses(mirrors: Sequence[tuple[str, str]]) -> tuple[list[str], list[Login]]:
    """Return where mirrors are, whose use only shows when a list of addresses is there, with their logins."""
    places = [parse_address(new, "--repository-mirror") for _, new in mirrors]
    return [place.url for place in places], [place.login for place in places if place.login is not None]


def read_credentials(fs: ImageFilesystem, sources: Sequence[RpmSource]) -> list[Login]:
    """Return the logins that an image keeps for zypper, for the addresses that name them."""
    logins: list[Login] = []
    for source in sources:
        if not _CREDENTIALS_NAME.fullmatch(source.credentials):
            continue
        try:
            text = fs.read(f"{_CREDENTIALS}/{source.credentials}", limit=FILE_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        pairs = (line.partition("=") for line in split_lines(text) if not line.lstrip().startswith("#"))
        values = {key.strip(): value.strip() for key, _, value in pairs}
        logins += _own_logins(values, source.urls, source.shown)
    return logins
