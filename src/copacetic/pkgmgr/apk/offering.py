# SPDX-License-Identifier: Apache-2.0
"""
A repository that offers exactly the planned packages, so that an upgrade from it can be no other than the plan.

Its index has the rows of the signed ones that the plan was made from. It is not signed itself: the packages were
checked against those rows before, and what a builder makes of them is proven afterwards.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping, Sequence

from copacetic.apk.dependency import DependencyError, parse_dependencies
from copacetic.apk.stanza import format_header, stanza_of
from copacetic.errors import UnsupportedImageError
from copacetic.inventory.apk import ApkDatabase
from copacetic.pkgmgr import Content
from copacetic.pkgmgr.probe import HINT
from copacetic.repository.apk.package import open_package
from copacetic.updates import FetchedPackage

__all__ = ["REPOSITORIES", "offer_packages", "read_row"]

REPOSITORIES = "repositories"
"""The file that names the repository, once for each tag that the image asks for."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,400}")
"""Of a path: neither a slash nor dots alone."""
_TAG = re.compile(r"[A-Za-z0-9_.+-]{1,100}")
_NOT_IN_AN_INDEX = frozenset("rqsf")


def offer_packages(
    offers: Mapping[FetchedPackage, Mapping[str, str]], database: ApkDatabase, *, mounted_at: str
) -> Mapping[str, Content]:
    """
    Return the repository's files by relative path, for packages with their rows; `mounted_at` is where apk is going
    to find them. Raises `UnsupportedImageError` for names that make no path.
    """
    files: dict[str, Content] = {}
    rows: list[str] = []
    for package, row in offers.items():
        files[_path(row["A"], f"{row['P']}-{row['V']}.apk")] = package.path
        rows.append(format_header({letter: value for letter, value in row.items() if letter not in _NOT_IN_AN_INDEX}))
    index = "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogateescape")
    files[_path(database.native_architecture, "APKINDEX.tar.gz")] = _archive("APKINDEX", index)
    lines = [mounted_at, *(f"@{tag} {mounted_at}" for tag in _tags(database.world))]
    files[REPOSITORIES] = "".join(f"{line}\n" for line in lines).encode()
    return files


def read_row(package: FetchedPackage) -> Mapping[str, str]:
    """
    Return a package as it describes itself, and as the index does where that says more; a stored plan has no index.

    Raises `UnsupportedImageError` for what an index of apk 2 can't offer.
    """
    candidate = package.update.candidate
    stanza = stanza_of(candidate)
    label = f"{candidate.name} {candidate.version}"
    file = open_package(package.path, label, identity=stanza.identity)
    if file.flags:
        raise UnsupportedImageError(f"{label} is a package of apk 3, which can't be offered to a run", hint=HINT)
    own = file.info.row(identity=file.identity, size=file.size, architecture=candidate.architecture)
    return {**own, **stanza.fields}


def _path(folder: str, name: str) -> str:
    for part in (folder, name):
        if not _PART.fullmatch(part):
            raise UnsupportedImageError(f"{part[:80]!r} can't be the name of a file in a repository", hint=HINT)
    return f"{folder}/{name}"


def _tags(world: str) -> Sequence[str]:
    try:
        tags = sorted({dependency.tag for dependency in parse_dependencies(world) if dependency.tag})
    except DependencyError as error:
        raise UnsupportedImageError(f"the image's world: {error}", hint=HINT) from error
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise UnsupportedImageError(f"the image's world has the tag {tag[:80]!r}", hint=HINT)
    return tags


def _archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o644
        tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)
