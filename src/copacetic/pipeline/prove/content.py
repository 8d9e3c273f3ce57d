# SPDX-License-Identifier: Apache-2.0
"""
The proof gate: nothing is published unless the result, read back, is what the plan says.

It is the same for every way of applying a plan. It looks at the produced layer as a stranger would: the bytes are
read again, stacked on the image's own layers, and the package database found there is taken at its word only where
the files agree with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase, detect_database
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import FileType, ImageFilesystem
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerindex import LayerIndex, Row, scan_layer, unpack_text
from copacetic.oci.layerstream import extract_files
from copacetic.oci.layerwriter import read_content
from copacetic.pipeline.apply.kept import NewLayer
from copacetic.pipeline.plan.match import match_findings
from copacetic.pipeline.prove.claims import speaks_of
from copacetic.pipeline.prove.extent import Side, verify_extent
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FindingStatus, InstalledPackage, MatchedFinding, Plan

Checksums = Mapping[str, Mapping[str, str]]
"""Path in the layer → algorithm → hexadecimal digest, of every regular file."""


class ReadBack:
    """
    The produced layer, read again from the disk as a stranger would.

    `algorithm` is that of the image's package database, None for a layer whose files were proven before; the SHA-256
    is known of every file in any case.
    """

    def __init__(self, layer: NewLayer, algorithm: str | None) -> None:
        self._layer = layer
        hashers: dict[str, Any] = {}

        def on_file(path: str) -> Any:
            hashers[path] = hashlib.new(str(algorithm), usedforsecurity=False)
            return hashers[path]

        with layer.path.open("rb") as stream:
            self.index: LayerIndex = scan_layer(
                stream, layer.descriptor, layer.diff_id, on_file=on_file if algorithm else None
            )
        rows = self.index.rows
        known = {unpack_text(row.path): row.sha256.hex() for row in rows if row.type == "0"}
        found = {
            path: {"sha256": known.get(path, ""), str(algorithm): hasher.hexdigest()}
            for path, hasher in hashers.items()
        }
        links = {unpack_text(row.path): unpack_text(row.target) for row in rows if row.type == "1"}
        self.checksums: Checksums = found | {path: found.get(target, {}) for path, target in links.items()}

    def stacked_on(self, fs: LayeredFilesystem) -> LayeredFilesystem:
        """Return the composed image's view."""
        return fs.stacked_with(self.index, self._load)

    def _load(self, _position: int, rows: Mapping[str, Row]) -> Iterator[tuple[str, Iterable[memoryview]]]:
        with self._layer.path.open("rb") as stream:
            yield from extract_files(stream, self._layer.descriptor, self._layer.diff_id, rows)


def verify_result(plan: Plan, *, before: PackageDatabase, after: ImageFilesystem) -> tuple[MatchedFinding, ...] | None:
    """
    Check the inventory, the fixes and the dependencies of the composed image.

    Returns the report's findings as they stand in the result (None without a report); raises `VerificationError`.
    """
    database = detect_database(after)
    if database is None or database.package_type != plan.package_type:
        raise VerificationError("the result has no package database of the image's own kind")
    _check_inventory(plan, before.packages(), database.packages())
    _check_finished(plan, database.packages())
    newly_broken = database.broken_dependencies() - before.broken_dependencies()
    if newly_broken:
        raise VerificationError(f"the result breaks a dependency: {min(newly_broken)}")
    if plan.matched is None:
        return None
    findings = (m.finding for m in plan.matched)
    present = (*database.packages(), *database.assumed())
    matched, _ = match_findings(findings, present, plan.package_type, scheme=database.version_scheme)
    _check_findings(plan, matched)
    return matched


def _check_inventory(plan: Plan, before: Iterable[InstalledPackage], after: Iterable[InstalledPackage]) -> None:
    """Exactly the planned packages differ."""
    expected = {(p.name, p.architecture): p.version for p in before}
    for update in plan.updates:
        if update.installed is not None:
            expected.pop((update.installed.name, update.installed.architecture), None)
        expected[update.candidate.name, update.candidate.architecture] = update.candidate.version
    actual = {(p.name, p.architecture): p.version for p in after}
    for key in sorted(expected.keys() | actual.keys()):
        if expected.get(key) != actual.get(key):
            name = ":".join(key)
            message = (
                f"{name}: expected {expected.get(key, 'nothing')}, found {actual.get(key, 'nothing')} in the result"
            )
            raise VerificationError(message)


def _check_finished(plan: Plan, after: Iterable[InstalledPackage]) -> None:
    planned = {(update.candidate.name, update.candidate.architecture) for update in plan.updates}
    for package in after:
        if package.state and (package.name, package.architecture) in planned:
            raise VerificationError(f"{package.name} {package.version} is {package.state} in the result")


def _check_findings(plan: Plan, matched: tuple[MatchedFinding, ...]) -> None:
    """Every finding that was fixable is fixed, unless the plan says that its package stays."""
    skipped = {f"{s.package.name}:{s.package.architecture}" for s in plan.skipped}
    for old, new in zip(plan.matched or (), matched, strict=True):
        if old.status is not FindingStatus.FIXABLE or skipped.intersection(old.packages):
            continue
        if new.status is not FindingStatus.ALREADY_FIXED:
            finding = new.finding
            message = (
                f"{finding.vulnerability_id} is not fixed in the result: {finding.package} needs "
                f"{' and '.join(finding.fixed_versions)}"
            )
            raise VerificationError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    """What the database says of one file."""

    package: str
    path: str
    """As the database spells it."""
    canonical: str
    algorithm: str
    digest: str


def verify_layer(
    plan: Plan,
    *,
    before: Side,
    after: LayeredFilesystem,
    read_back: ReadBack,
    unchanged: Mapping[str, bytes | Spooled],
    explanation: Explanation,
    checksums: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[str, ...]:
    """
    Check a new layer's files, whichever way it was made; `unchanged` is what packages ship that the image has already,
    and `checksums` what they say of their files where the image's database doesn't (`Composition.checksums`).

    Returns what a user should know of it. Raises `VerificationError`.
    """
    database = detect_database(after)
    assert database is not None
    _verify_checksums(
        plan,
        database,
        after=after,
        read_back=read_back,
        unchanged=unchanged,
        explanation=explanation,
        shipped=checksums or {},
    )
    side = Side(after, database)
    return verify_extent(plan, before=before, after=side, index=read_back.index, explanation=explanation)


def _verify_checksums(
    plan: Plan,
    database: PackageDatabase,
    *,
    after: LayeredFilesystem,
    read_back: ReadBack,
    unchanged: Mapping[str, bytes | Spooled],
    explanation: Explanation,
    shipped: Mapping[str, Mapping[str, str]],
) -> None:
    """
    Hold the files of every changed package against the checksums in the result's own package database; what has none,
    as a directory, has to be there, unless scripts take it away (`rmdir`).

    A file of the new layer is hashed as it was read back. For one that was left out because the image had the same
    already, `unchanged` gives what the package ships: it must have the checksum, and be what the result has. What
    neither explains (a builder leaves out what is the same, too) is read from the image's own layers. `shipped` has
    the checksums that packages bring, by `name:architecture`, where the image's database keeps none.
    """
    changed = {(u.candidate.name, u.candidate.architecture) for u in plan.updates}
    unexplained: list[_Expected] = []
    packages = [one for one in database.packages() if (one.name, one.architecture) in changed]
    for package in packages:
        theirs = shipped.get(f"{package.name}:{package.architecture}", {})
        own = {path: (database.checksum_algorithm, digest) for path, digest in theirs.items()}
        for path, (algorithm, digest) in (*database.checksums(package).items(), *own.items()):
            expected = _Expected(
                package=package.name,
                path=path,
                canonical=_find(package.name, path, after),
                algorithm=algorithm,
                digest=digest,
            )
            actual = _digest(expected, after, read_back, unchanged)
            if actual is None:
                unexplained.append(expected)
            else:
                _compare(expected, actual)
    for algorithm in sorted({one.algorithm for one in unexplained}):
        ours = [one for one in unexplained if one.algorithm == algorithm]
        digests = after.digest((one.canonical for one in ours), algorithm)
        for one in ours:
            _compare(one, digests[one.canonical])
    for package in packages:
        for path in database.bare_paths(package):
            gone = after.lookup(path, follow=False) is None
            if gone and not _is_taken(explanation, package.name, after.resolve(path, follow=False)):
                raise VerificationError(f"{package.name}: {path} is missing in the result")


def _is_taken(explanation: Explanation, package: str, path: str) -> bool:
    if explanation.effects is not None:
        return path in explanation.effects and explanation.effects[path].entry is None
    return any(one.name == package and speaks_of(one.scripts, path) for one in explanation.packages or ())


def _find(package: str, path: str, after: ImageFilesystem) -> str:
    canonical = after.resolve(path, follow=False)
    entry = after.lookup(canonical, follow=False)
    if entry is None or entry.type not in (FileType.FILE, FileType.SYMLINK):
        found = f"is a {entry.type.value}" if entry is not None else "is missing"
        raise VerificationError(f"{package}: {path} {found} in the result")
    return canonical


def _digest(
    expected: _Expected, after: ImageFilesystem, read_back: ReadBack, unchanged: Mapping[str, bytes | Spooled]
) -> str | None:
    entry = after.lookup(expected.canonical, follow=False)
    assert entry is not None
    if entry.type is FileType.SYMLINK:  # apk has checksums of links, too: those of what they say
        return _hash(expected.algorithm, entry.target.encode("utf-8", "surrogateescape"))
    actual = read_back.checksums.get(expected.canonical, {}).get(expected.algorithm)
    if actual is not None or expected.canonical not in unchanged:
        return actual
    content = read_content(unchanged[expected.canonical])
    if _hash("sha256", content) != entry.sha256:
        message = f"{expected.package}: {expected.path} in the result is not the one that the package ships"
        raise VerificationError(message)
    return _hash(expected.algorithm, content)


def _hash(algorithm: str, data: bytes) -> str:
    digest: str = getattr(hashlib, algorithm)(data, usedforsecurity=False).hexdigest()  # `new` costs more than a file
    return digest


def _compare(expected: _Expected, actual: str) -> None:
    if not expected.digest or not actual.startswith(expected.digest):
        message = (
            f"{expected.package}: {expected.path} has the {expected.algorithm} {actual} instead of {expected.digest}"
        )
        raise VerificationError(message)
