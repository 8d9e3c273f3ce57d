# SPDX-License-Identifier: Apache-2.0
"""
The proof of content: the files of every changed package have the checksums of the result's own package database.

The database is taken at its word only where the files agree with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from msgspec import Struct

from copacetic.errors import VerificationError
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import FileType, ImageFilesystem
from copacetic.oci.layerwriter import read_content
from copacetic.pipeline.prove.claims import speaks_of
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.unpack.shipped import Explanation, ShippedPackage

__all__ = ["check_content"]


class _Expected(Struct, frozen=True, kw_only=True):
    """What the database says of one file."""

    package: str
    path: str
    """As the database spells it."""
    canonical: str
    algorithm: str
    digest: str


def check_content(evidence: Evidence) -> None:
    """
    Hold the files of every changed package against their checksums; what has none, as a directory, has to be there,
    unless scripts take it away (`rmdir`).

    A file of the new layer is hashed as it was read back. For one that was left out because the image had the same
    already, `Evidence.unchanged` gives what the package ships: it must have the checksum, and be what the result has.
    What neither explains (a builder leaves out what is the same, too) is read from the image's own layers.

    Raises `VerificationError`.
    """
    unread: list[_Expected] = []
    for expected in (one for part in evidence.parts for one in _expectations(part, evidence)):
        actual = _digest(expected, evidence)
        if actual is None:
            unread.append(expected)
        else:
            _compare(expected, actual)
    for algorithm in sorted({one.algorithm for one in unread}):
        ours = [one for one in unread if one.algorithm == algorithm]
        digests = evidence.digest((one.canonical for one in ours), algorithm)
        for one in ours:
            _compare(one, digests[one.canonical])
    for part in evidence.parts:
        _check_bare_paths(part, evidence)


def _expectations(part: Part, evidence: Evidence) -> Iterator[_Expected]:
    database = part.after
    shipped = evidence.shipped.get(part.section.package_type, {})
    for package in part.changed:
        own = {path: (database.checksum_algorithm, digest) for path, digest in shipped.get(package.key, {}).items()}
        for path, (algorithm, digest) in (*database.checksums(package).items(), *own.items()):
            canonical = _find(package.name, path, evidence.after)
            yield _Expected(package=package.name, path=path, canonical=canonical, algorithm=algorithm, digest=digest)


def _check_bare_paths(part: Part, evidence: Evidence) -> None:
    fs, explanation = evidence.after, evidence.explanation
    shipped = {one.key: one for one in (explanation.packages or {}).get(part.section.package_type, ())}
    for package in part.changed:
        for path in part.after.bare_paths(package):
            gone = fs.lookup(path, follow=False) is None
            if gone and not _is_taken(explanation, shipped.get(package.key), fs.resolve(path, follow=False)):
                raise VerificationError(f"{package.name}: {path} is missing in the result")


def _is_taken(explanation: Explanation, package: ShippedPackage | None, path: str) -> bool:
    if explanation.effects is not None:
        return path in explanation.effects and explanation.effects[path].entry is None
    return package is not None and speaks_of(package.scripts, path)


def _find(package: str, path: str, after: ImageFilesystem) -> str:
    canonical = after.resolve(path, follow=False)
    entry = after.lookup(canonical, follow=False)
    if entry is None or entry.type not in (FileType.FILE, FileType.SYMLINK):
        found = f"is a {entry.type.value}" if entry is not None else "is missing"
        raise VerificationError(f"{package}: {path} {found} in the result")
    return canonical


def _digest(expected: _Expected, evidence: Evidence) -> str | None:
    """Return None for a file that only the image's own layers have."""
    entry = evidence.after.lookup(expected.canonical, follow=False)
    assert entry is not None
    if entry.type is FileType.SYMLINK:  # apk has checksums of links, too: those of what they say
        return _hash(expected.algorithm, entry.target.encode("utf-8", "surrogateescape"))
    actual = evidence.checksums.get(expected.canonical, {}).get(expected.algorithm)
    if actual is not None or expected.canonical not in evidence.unchanged:
        return actual
    sha256, actual = _digests(evidence.unchanged[expected.canonical], expected.algorithm)
    if sha256 != entry.sha256:
        message = f"{expected.package}: {expected.path} in the result is not the one that the package ships"
        raise VerificationError(message)
    return actual


def _digests(content: bytes | Spooled, algorithm: str) -> tuple[str, str]:
    """
    Return the SHA-256 and another digest of what a package ships.

    Those that were taken when it was unpacked are as good as new ones: none of these bytes are in the result.
    """
    taken = content.digests if isinstance(content, Spooled) else {}
    if "sha256" in taken and algorithm in taken:
        return taken["sha256"], taken[algorithm]
    data = read_content(content)
    return _hash("sha256", data), _hash(algorithm, data)


def _hash(algorithm: str, data: bytes) -> str:
    digest: str = getattr(hashlib, algorithm)(data, usedforsecurity=False).hexdigest()  # `new` costs more than a file
    return digest


def _compare(expected: _Expected, actual: str) -> None:
    if not expected.digest or not actual.startswith(expected.digest):
        message = (
            f"{expected.package}: {expected.path} has the {expected.algorithm} {actual} instead of {expected.digest}"
        )
        raise VerificationError(message)
