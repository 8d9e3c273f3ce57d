# SPDX-License-Identifier: Apache-2.0
"""
Package files: downloaded side by side, checked, and kept under their digests.

Metadata mostly names a file's SHA-256. Where it names something else (apk: the digest of a part of the file), a
`PackageCheck` says how a file is proven, and a note in the cache leads from that to the SHA-256 of what was proven.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from copacetic.budget import Slots
from copacetic.cache import Bucket, Cache
from copacetic.errors import (
    PACKAGE_FAULTS,
    CopaError,
    IntegrityError,
    PackageUnavailableError,
    about_package,
    raise_together,
)
from copacetic.http import HttpClient
from copacetic.progress import Progress, Task
from copacetic.updates import Candidate

__all__ = ["Arrived", "PackageCheck", "PackageStore", "file_digest"]

PACKAGES_VERSION = 1

Arrived: TypeAlias = Callable[[Candidate, Path], None]


class PackageCheck(Protocol):
    """How a file is proven whose SHA-256 the metadata doesn't name."""

    def key(self, candidate: Candidate) -> str:
        """Return what the metadata says of the file, as a text of `[A-Za-z0-9._-]`."""
        ...

    def check(self, candidate: Candidate, path: Path) -> None:
        """Raises a `CopaError` for a file that is another one."""
        ...


class PackageStore:
    """Verified package files."""

    def __init__(
        self,
        cache: Cache,
        http: HttpClient,
        progress: Progress,
        transfers: Slots,
        *,
        check: PackageCheck | None = None,
    ) -> None:
        self._cache = cache
        self._bucket: Bucket = cache.bucket("packages", version=PACKAGES_VERSION)
        self._digests: Bucket = cache.bucket("package-digests", version=PACKAGES_VERSION)
        self._http = http
        self._progress = progress
        self._transfers = transfers
        self._check = check

    def fetch(self, candidates: Sequence[Candidate], arrived: Arrived | None = None) -> Mapping[Candidate, Path]:
        """
        Return a file for each candidate; those in the cache are checked again. `arrived` is called here, for each of
        them as soon as it is there.

        Raises `PackageUnavailableError` when a repository doesn't have one any more, `IntegrityError` when it has
        another one; of several faults the first, with the others.
        """
        if not candidates:
            return {}
        total = sum(candidate.size for candidate in candidates)

        def pass_on(result: tuple[Candidate, Path | CopaError]) -> None:
            if arrived is not None and isinstance(result[1], Path):
                arrived(result[0], result[1])

        with self._progress.task(f"fetch {len(candidates)} package{'s' * (len(candidates) != 1)}", total=total) as task:
            tried = self._transfers.map(lambda one: (one, self._try(one, task)), candidates, pass_on)
        raise_together(result for _, result in tried if isinstance(result, CopaError))
        return {candidate: path for candidate, path in tried if isinstance(path, Path)}

    def _try(self, candidate: Candidate, task: Task) -> Path | CopaError:
        """Return what is wrong with one package instead of raising it: it isn't the others' fault."""
        try:
            with about_package(candidate.key):
                return self._one(candidate, task)
        except PACKAGE_FAULTS as error:
            return error

    def _one(self, candidate: Candidate, task: Task) -> Path:
        key = candidate.sha256 or self._required().key(candidate)
        with self._bucket.lock(key):
            path = self._find(candidate, key)
            if path is not None:
                task.advance(candidate.size)
                return path
            digest = self._download(candidate, task)
            path = self._bucket.path(digest)
        if path is None:
            raise PackageUnavailableError(f"{candidate.name} {candidate.version} vanished from the cache")
        return path

    def _find(self, candidate: Candidate, key: str) -> Path | None:
        digest = candidate.sha256 or (self._digests.read(key) or b"").decode("ascii", "replace")
        try:
            path = self._bucket.path(digest)
        except ValueError:
            return None
        if path is None or file_digest(path) != digest:
            return None
        try:
            self._prove(candidate, path)
        except CopaError:
            return None
        return path

    def _prove(self, candidate: Candidate, path: Path) -> None:
        """Ask what else proves a file than its digest; of what a plan alone vouches for nothing else is known."""
        if not candidate.sha256 or (self._check is not None and candidate.record is not None):
            self._required().check(candidate, path)

    def _download(self, candidate: Candidate, task: Task) -> str:
        what = f"{candidate.name} {candidate.version}"
        host = urlsplit(candidate.url).hostname
        with self._cache.scratch() as scratch:
            file = scratch / "package"
            status = self._http.download(candidate.url, file, size=candidate.size, advance=task.advance)
            if status != 200:
                raise PackageUnavailableError(f"{what}: {host} answers {status} for {urlsplit(candidate.url).path}")
            digest = file_digest(file)
            if candidate.sha256 and digest != candidate.sha256:
                message = f"{what} from {host}: expected the SHA-256 {candidate.sha256}, got {digest}"
                raise IntegrityError(message)
            self._prove(candidate, file)
            with self._bucket.create(digest) as target, file.open("rb") as source:
                while part := source.read(1 << 20):
                    target.write(part)
        if not candidate.sha256:
            self._digests.write(self._required().key(candidate), digest.encode())
        return digest

    def _required(self) -> PackageCheck:
        assert self._check is not None, "the metadata names no SHA-256, and nothing else proves the file"
        return self._check


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
