# SPDX-License-Identifier: Apache-2.0
"""
Repository definitions: `sources.list(5)`, one-line and deb822.

They come from the image, from the user, or (for an image that has none) from this machine when it is of the same
distribution. Only http and https are used: a `file:` in somebody's image must not read from this host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from copacetic.deb.deb822 import Deb822Error, parse_stanzas
from copacetic.errors import RepositoryError, blame_input, hide_credentials
from copacetic.http.login import Login
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.address import Place, parse_address, select_mirror

__all__ = ["AptSource", "parse_sources", "read_sources", "substitute"]

SOURCE_LIMIT = 1024 * 1024
_MAX_SOURCES = 200
_MAX_ROWS = 1_000
"""With those that are not used."""
_MAX_KEYS = 100
_LIST_NAME = re.compile(r"[A-Za-z0-9._-]+\.(?:list|sources)")
_OPTIONS = re.compile(r"(?<=^deb)\s+\[([^\]]*)\]")
_BEFORE_COMMENT = re.compile(r"(?:[^#\[]+|\[[^\]]*\]?)*")
"""In brackets apt takes a # for itself."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+~-]{0,200}")
_FLAT = re.compile(r"(?:[A-Za-z0-9._/+~-]|\$\(ARCH\)){0,200}/")
"""Only in such a suite (and in an address) apt puts an architecture."""
_OPTION_NAMES = {"arch+": "more-architectures", "signed-by+": "signed-by"}
"""What is added to the image's own architectures is of no use to an image that doesn't have them."""
_YES = frozenset({"yes", "true", "with", "on", "enable", "1"})
_NO = frozenset({"no", "false", "without", "off", "disable", "0"})
_INSECURE = ("allow-insecure", "allow-downgrade-to-insecure", "allow-weak")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40,64}!?")
_KEY_BLOCK = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_SUPPORTED = re.compile(r"https?")
ONLINE_SCHEMES = re.compile(r"(?!(?:file|copy|cdrom)$).*")
"""All that lead out of the image; apt may know more of them than we."""


class AptSource(Struct, frozen=True, kw_only=True):
    """One address and one suite."""

    uri: str
    """Without a trailing slash, and without credentials."""
    suite: str
    """Ends in a slash for a flat repository."""
    components: tuple[str, ...]
    architectures: tuple[str, ...] = ()
    """Empty: the image's own."""
    without_architectures: tuple[str, ...] = ()
    """Left out of the image's own."""
    signed_by: tuple[str, ...] = ()
    """Paths, fingerprints, or one armored key; empty: all keys that the image trusts."""
    trusted: bool | None = None
    """What the definition says of it, whatever the signature: yes, no, or nothing."""
    insecure: bool = False
    """Whether it says that apt may use it unsigned, or with weak digests. Nothing here goes by that."""
    check_valid_until: bool = True
    by_hash: bool | None = None
    by_user: bool = False
    """Whether the user names it: an image's word about how it is to be verified doesn't count, the user's does."""
    defined_in: str
    login: Login | None = None
    """What the address held besides."""
    named: bool = False
    """The user or this machine names the address, not the image: it may be anywhere."""

    @property
    def flat(self) -> bool:
        return self.suite.endswith("/")

    @property
    def shown_uri(self) -> str:
        """The address for messages: it holds nothing secret."""
        return self.uri

    @property
    def release_url(self) -> str:
        """The directory that holds the Release file."""
        suite = quote(self.suite)
        if self.flat:
            suite = "/".join(part for part in suite.split("/") if part not in {"", "."})
            return f"{self.uri}/{suite}" if suite else self.uri
        return f"{self.uri}/dists/{suite}"


def read_sources(
    fs: ImageFilesystem, root: str = "etc/apt", *, schemes: re.Pattern[str] = _SUPPORTED
) -> tuple[list[AptSource], list[str]]:
    """
    Return an image's sources and notes about those that can't be used, for other schemes.

    Raises `RepositoryError` for a broken line, naming file and line.
    """
    sources: list[AptSource] = []
    notes: list[str] = []
    paths = [f"{root}/sources.list"]
    paths += [f"{root}/sources.list.d/{n}" for n in fs.iterdir(f"{root}/sources.list.d") if _LIST_NAME.fullmatch(n)]
    for path in paths:
        try:
            text = fs.read(path, limit=SOURCE_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        found, skipped = parse_sources(text, path, deb822=path.endswith(".sources"), schemes=schemes)
        sources += found
        notes += skipped
    if len(sources) > _MAX_SOURCES:
        raise RepositoryError(f"{root} defines {len(sources)} repositories, the limit is {_MAX_SOURCES}")
    return sources, notes


def parse_sources(
    text: str, where: str, *, deb822: bool, schemes: re.Pattern[str] = _SUPPORTED
) -> tuple[list[AptSource], list[str]]:
    """Read one file or one definition of the user's."""
    rows = _deb822_rows(text, where) if deb822 else _one_line_rows(text, where)
    sources: list[AptSource] = []
    notes: list[str] = []
    with blame_input(RepositoryError, where):
        for number, source in enumerate(rows):
            # Two lists of a deb822 entry are multiplied, so few bytes define very many.
            if number == _MAX_ROWS:
                raise RepositoryError(f"{where} defines more than {_MAX_ROWS} repositories")
            scheme = source.uri.partition(":")[0]
            if schemes.fullmatch(scheme) and len(scheme) < len(source.uri):
                sources.append(source)
            else:
                scheme = scheme if len(scheme) < len(source.uri) else ""
                notes.append(f"{source.defined_in}: {scheme or 'no scheme'}: repositories are not used")
    return sources, notes


def _one_line_rows(text: str, where: str) -> Iterator[AptSource]:
    for number, raw in enumerate(split_lines(text), start=1):
        before = _BEFORE_COMMENT.match(raw)
        line = before[0].strip() if before is not None else ""
        if not line:
            continue
        place = f"{where}:{number}"
        options: dict[str, str] = {}
        match = _OPTIONS.search(line)
        if match is not None:
            line = line[: match.start()] + " " + line[match.end() :]
            for option in match[1].split():
                name, equals, value = option.partition("=")
                if not equals:
                    raise RepositoryError(f"{place}: not an option: {option[:80]!r}")
                options[_OPTION_NAMES.get(name.lower(), name.lower())] = value.replace(",", " ")
        words = line.split()
        if words[0] == "deb-src":
            continue
        if words[0] != "deb" or len(words) < 3:
            raise RepositoryError(f"{place}: not a repository definition: {hide_credentials(raw.strip())[:120]!r}")
        yield from _source(words[1], words[2], words[3:], options, place)


def _deb822_rows(text: str, where: str) -> Iterator[AptSource]:
    try:
        for number, stanza in enumerate(parse_stanzas(text, comments=True), start=1):
            place = f"{where} (entry {number})"
            options = {name.lower(): value for name, value in stanza.fields.items()}
            if options.get("enabled", "yes").lower() not in _YES or "deb" not in options.get("types", "").split():
                continue
            options["arch"] = options.get("architectures", "")
            options["arch-"] = options.get("architectures-remove", "")
            uris, suites = options.get("uris", "").split(), options.get("suites", "").split()
            if not uris or not suites:
                raise RepositoryError(f"{place}: no URIs or no Suites")
            for uri in uris:
                for suite in suites:
                    yield from _source(uri, suite, options.get("components", "").split(), options, place)
    except Deb822Error as error:
        raise RepositoryError(f"{where}: {error}") from error


def _source(
    uri: str, suite: str, components: Sequence[str], options: dict[str, str], place: str
) -> Iterator[AptSource]:
    for word, grammar in ((suite, _FLAT if suite.endswith("/") else _WORD), *((word, _WORD) for word in components)):
        if not grammar.fullmatch(word) or ".." in word.split("/"):
            raise RepositoryError(f"{place}: not a suite or component: {word[:80]!r}")
    if suite.endswith("/") == bool(components):
        raise RepositoryError(f"{place}: a suite needs components, and a flat repository (ending in /) has none")
    by_hash = options.get("by-hash", "").lower()
    address = parse_address(uri, place)
    yield AptSource(
        uri=address.url,
        login=address.login,
        suite=suite,
        components=tuple(components),
        architectures=tuple(options.get("arch", "").split()),
        without_architectures=tuple(options.get("arch-", "").split()),
        signed_by=_signed_by(options.get("signed-by", ""), place),
        trusted={**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}.get(options.get("trusted", "").lower()),
        insecure=any(options.get(name, "").lower() in _YES for name in _INSECURE),
        check_valid_until=options.get("check-valid-until", "").lower() not in _NO,
        by_hash={"": None, "force": True}.get(by_hash, by_hash in _YES),
        defined_in=place,
    )


def _signed_by(value: str, place: str) -> tuple[str, ...]:
    """Read `Signed-By`. Raises `RepositoryError`: what isn't understood can't be held to, and restricts nothing."""
    if value.strip().startswith(_KEY_BLOCK):
        # In deb822 a lone dot stands for an empty line.
        return ("\n".join("" if line.strip() == "." else line for line in value.strip().split("\n")) + "\n",)
    words = value.replace(",", " ").split()
    if len(words) > _MAX_KEYS:
        raise RepositoryError(f"{place}: more than {_MAX_KEYS} keys")
    odd = next((word for word in words if not (word.startswith("/") or _FINGERPRINT.fullmatch(word))), None)
    if odd is not None or (value and not words):
        raise RepositoryError(
            f"{place}: Signed-By has {odd or 'nothing':.80}, which is no fingerprint and no absolute path",
            hint="write whole fingerprints or absolute paths there, or name the repository with --repository",
        )
    return tuple(words)


def substitute(
    sources: Iterable[AptSource], *, architecture: str, mirrors: Sequence[tuple[str, str]]
) -> list[AptSource]:
    """Fill in `$(ARCH)` and put mirrors in the place of what they mirror; the longest prefix counts."""
    result = []
    for source in sources:
        place = Place(source.uri.replace("$(ARCH)", architecture), source.login)
        place, mirrored = select_mirror(place, mirrors)
        suite = source.suite.replace("$(ARCH)", architecture)
        named = source.named or mirrored
        result.append(replace(source, uri=place.url, login=place.login, suite=suite, named=named))
    return result
