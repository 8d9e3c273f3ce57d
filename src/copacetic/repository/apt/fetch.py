# SPDX-License-Identifier: Apache-2.0
"""Package files: downloaded side by side, checked, and kept under their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from copacetic.cache import Bucket, Cache
from copacetic.errors import IntegrityError, PackageUnavailableError
from copacetic.http import HttpClient
from copacetic.progress import Progress, Task
from copacetic.updates import Candidate

PACKAGES_VERSION = 1
MAX_DOWNLOADS = 8


class PackageStore:
    """Verified package files."""

    def __init__(self, cache: Cache, http: HttpClient, progress: Progress) -> None:
        self._cache = cache
        self._bucket: Bucket = cache.bucket("packages", version=PACKAGES_VERSION)
        self._http = http
        self._progress = progress

    def fetch(self, candidates: Sequence[Candidate]) -> Mapping[Candidate, Path]:
        """
        Return a file for each candidate; those in the cache are checked again.

        Raises `PackageUnavailableError` when a repository doesn't have one any more, `IntegrityError` when it has
        another one.
        """
        if not candidates:
            return {}
        total = sum(candidate.size for candidate in candidates)
        with (
            self._progress.task(f"fetch {len(candidates)} package{'s' * (len(candidates) != 1)}", total=total) as task,
            ThreadPoolExecutor(min(MAX_DOWNLOADS, len(candidates))) as pool,
        ):
            paths = list(pool.map(lambda candidate: self._one(candidate, task), candidates))
        return dict(zip(candidates, paths, strict=True))

    def _one(self, candidate: Candidate, task: Task) -> Path:
        with self._bucket.lock(candidate.sha256):
            path = self._bucket.path(candidate.sha256)
            if path is not None and _digest(path) == candidate.sha256:
                task.advance(candidate.size)
                return path
            self._download(candidate, task)
            path = self._bucket.path(candidate.sha256)
        if path is None:
            raise PackageUnavailableError(f"{candidate.name} {candidate.version} vanished from the cache")
        return path

    def _download(self, candidate: Candidate, task: Task) -> None:
        what = f"{candidate.name} {candidate.version}"
        host = urlsplit(candidate.url).hostname
        with self._cache.scratch() as scratch:
            file = scratch / "package"
            status = self._http.download(candidate.url, file, size=candidate.size, advance=task.advance)
            if status != 200:
                raise PackageUnavailableError(f"{what}: {host} answers {status} for {urlsplit(candidate.url).path}")
            digest = _digest(file)
            if digest != candidate.sha256:
                message = f"{what} from {host}: expected the SHA-256 {candidate.sha256}, got {digest}"
                raise IntegrityError(message)
            with self._bucket.create(candidate.sha256) as target, file.open("rb") as source:
                while part := source.read(1 << 20):
                    target.write(part)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
