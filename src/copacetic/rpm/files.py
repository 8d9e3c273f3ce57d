# SPDX-License-Identifier: Apache-2.0
"""A header's list of files: one array for each of their attributes."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from enum import IntEnum, IntFlag

from msgspec import Struct

from copacetic.rpm import tags
from copacetic.rpm.header import HeaderError, RpmHeader

__all__ = [
    "DIGEST_ALGORITHMS",
    "FileFlag",
    "FileState",
    "RpmFile",
    "VerifyFlag",
    "check_files",
    "file_paths",
    "read_files",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COLUMNS = (
    *(tags.FILE_MODES, tags.FILE_FLAGS, tags.FILE_VERIFY_FLAGS, tags.FILE_TIMES, tags.FILE_DEVICES, tags.FILE_INODES),
    *(tags.FILE_DEVICE_NUMBERS, tags.FILE_COLORS, tags.FILE_STATES, tags.FILE_DIGESTS, tags.FILE_LINKS),
    *(tags.FILE_USERS, tags.FILE_GROUPS, tags.FILE_LANGUAGES, tags.FILE_CAPABILITIES),
)
MAX_FILES = 150_000
"""Of one package."""
DIGEST_ALGORITHMS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224", 12: "sha3_256"}
"""OpenPGP's numbers of digests, as `hashlib` calls them; a header that names none means the first."""


class FileFlag(IntFlag):
    """What a package says about a file."""

    CONFIG = 1 << 0
    DOC = 1 << 1
    MISSING_OK = 1 << 3
    NO_REPLACE = 1 << 4
    GHOST = 1 << 6
    """It is the package's, and not in its payload."""
    LICENSE = 1 << 7
    README = 1 << 8
    PUBLIC_KEY = 1 << 11
    ARTIFACT = 1 << 12


class FileState(IntEnum):
    """What became of a file when its package was installed."""

    NORMAL = 0
    REPLACED = 1
    """It is another package's now."""
    NOT_INSTALLED = 2
    """Documentation, or of a language that nobody wants here."""
    NET_SHARED = 3
    WRONG_COLOR = 4
    """Another architecture's file of that name is there instead."""


class VerifyFlag(IntFlag):
    """What has to be as the package says, whoever changes the file later."""

    DIGEST = 1 << 0
    SIZE = 1 << 1
    LINK = 1 << 2
    USER = 1 << 3
    GROUP = 1 << 4
    TIME = 1 << 5
    MODE = 1 << 6
    DEVICE = 1 << 7
    CAPABILITIES = 1 << 8


class RpmFile(Struct, frozen=True):
    """One path of a package."""

    path: str
    """From the image's root, without a leading slash; the root itself is ""."""
    mode: int
    """With the file's type, as in `stat`."""
    user: str
    group: str
    size: int
    mtime: int
    flags: int
    verify: int
    digest: str
    """Hexadecimal, by `algorithm`; empty for what is no regular file."""
    algorithm: str
    """As `hashlib` calls it; empty for one that nobody knows."""
    target: str
    """Of a symbolic link."""
    device_number: int
    """Of a device."""
    device: int
    inode: int
    """Files of one package that share device and inode are one file with several names."""
    color: int
    """1 for 32 bits, 2 for 64 bits, 0 for what suits everybody."""
    language: str
    capabilities: str
    state: int
    """See `FileState`; NORMAL in a header that isn't installed."""

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def permissions(self) -> int:
        return stat.S_IMODE(self.mode)

    def has(self, flag: FileFlag) -> bool:
        return bool(self.flags & int(flag))  # an enumeration's own operator takes ten times as long


def check_files(header: RpmHeader) -> int:
    """Return how many files a header has. Raises `HeaderError` unless all of its arrays are as long."""
    count = header.count(tags.BASE_NAMES) or header.count(tags.OLD_FILE_NAMES)
    if count > MAX_FILES:
        raise HeaderError(f"it has more than {MAX_FILES} files")
    if tags.BASE_NAMES in header:
        folders, indexes = header.count(tags.DIRECTORY_NAMES), header.numbers(tags.DIRECTORY_INDEXES)
        if len(indexes) != count or (indexes and max(indexes) >= folders):
            raise HeaderError("it has files without directories")
    for tag in (*_COLUMNS, tags.FILE_SIZES, tags.LONG_FILE_SIZES):
        if header.count(tag) not in {0, count}:
            raise HeaderError(f"it has {count} files, and {header.count(tag)} values of tag {tag}")
    return count


def file_paths(header: RpmHeader) -> tuple[str, ...]:
    """Return the paths alone, in the header's order. Raises `HeaderError` for one that leads elsewhere."""
    names = header.texts(tags.BASE_NAMES)
    if not names:
        return tuple(map(_relative, header.texts(tags.OLD_FILE_NAMES)))
    folders = [_folder(text) for text in header.texts(tags.DIRECTORY_NAMES)]
    indexes = header.numbers(tags.DIRECTORY_INDEXES)
    if len(indexes) != len(names) or max(indexes) >= len(folders):
        raise HeaderError("it has files without directories")
    for name in names:
        if "/" in name or name in {".", ".."} or _CONTROL.search(name):
            raise HeaderError(f"not a file's name: {name[:100]!r}")
    return tuple(folders[at] + name if name else folders[at][:-1] for at, name in zip(indexes, names, strict=True))


def read_files(header: RpmHeader) -> tuple[RpmFile, ...]:
    """Return all files, in the header's order. Raises `HeaderError`."""
    count = check_files(header)
    paths = file_paths(header)

    def numbers(tag: int, default: int = 0) -> Sequence[int]:
        return header.numbers(tag) or (default,) * count

    def texts(tag: int) -> Sequence[str]:
        return header.texts(tag) or ("",) * count

    algorithm = DIGEST_ALGORITHMS.get(header.number(tags.FILE_DIGEST_ALGORITHM) or 1, "")
    columns = (  # in the order of RpmFile's fields
        *(paths, numbers(tags.FILE_MODES), texts(tags.FILE_USERS), texts(tags.FILE_GROUPS)),
        header.numbers(tags.LONG_FILE_SIZES) or numbers(tags.FILE_SIZES),
        *(numbers(tags.FILE_TIMES), numbers(tags.FILE_FLAGS), numbers(tags.FILE_VERIFY_FLAGS, 2**32 - 1)),
        *(texts(tags.FILE_DIGESTS), (algorithm,) * count, texts(tags.FILE_LINKS), numbers(tags.FILE_DEVICE_NUMBERS)),
        *(numbers(tags.FILE_DEVICES), numbers(tags.FILE_INODES), numbers(tags.FILE_COLORS)),
        *(texts(tags.FILE_LANGUAGES), texts(tags.FILE_CAPABILITIES), numbers(tags.FILE_STATES)),
    )
    return tuple(map(RpmFile, *columns))


def _folder(text: str) -> str:
    """Return a directory's path with a slash at its end; that of the root is empty."""
    if not text.endswith("/"):
        raise HeaderError(f"not a directory of a package: {text[:100]!r}")
    inner = _relative(text[:-1])
    return f"{inner}/" if inner else ""


def _relative(text: str) -> str:
    """Return an absolute path from the image's root."""
    path = text.removeprefix("/")
    if text and not text.startswith("/"):
        raise HeaderError(f"not a path of a package: {text[:100]!r}")
    if (path and not {"", ".", ".."}.isdisjoint(path.split("/"))) or _CONTROL.search(path):
        raise HeaderError(f"not a plain path: {text[:100]!r}")
    return path
