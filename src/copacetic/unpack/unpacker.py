# SPDX-License-Identifier: Apache-2.0
"""What unpackers of all formats have in common: packages are opened once, and their payloads spooled once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from copacetic.budget import Slots
from copacetic.errors import NeedsExecutionError, PackageError, raise_together
from copacetic.repository.limits import total_limit
from copacetic.unpack.package import OpenedPackage
from copacetic.unpack.spooler import Spooler
from copacetic.updates import FetchedPackage, PackageKey, ScriptClass, ScriptVerdict

__all__ = ["PackageUnpacker", "refuse_execution"]

_Package = TypeVar("_Package", bound=OpenedPackage)
_Entry = TypeVar("_Entry")


class PackageUnpacker(Generic[_Package, _Entry]):
    """The part of an `Unpacker` that doesn't depend on the format."""

    def __init__(
        self,
        open_package: Callable[[FetchedPackage], _Package],
        unpack: Callable[[_Package, Path], tuple[_Entry, ...]],
        processors: Slots,
    ) -> None:
        """`open_package` raises `PackageError` for another package than the planned one; for `unpack` see `Spooler`."""
        self._open, self._unpack = open_package, unpack
        self._processors = processors
        self._loaded: dict[Path, _Package] = {}
        self._spooler: Spooler[_Entry] = Spooler(processors)

    def newest_mtime(self, packages: Sequence[FetchedPackage]) -> int:
        """See `Unpacker.newest_mtime`."""
        return max((package.built for package in self._load(packages)), default=0)

    def spool(self, packages: Sequence[FetchedPackage], scratch: Path) -> None:
        """See `Unpacker.spool`."""
        ordered = sorted(self._load(packages), key=lambda package: -package.size)
        jobs = {_identity(package): partial(self._unpack, package) for package in ordered}
        total = sum(package.size for package in self._loaded.values())
        self._spooler.start(jobs, scratch, limit=total_limit(total))

    def close(self) -> None:
        """See `Unpacker.close`."""
        self._spooler.close()

    @contextmanager
    def _spooling(self, packages: Sequence[FetchedPackage], scratch: Path) -> Iterator[list[_Package]]:
        """Spool the packages, and give up what isn't done in the end; `_wait` is for within."""
        loaded = self._load(packages)
        self.spool(packages, scratch)
        try:
            yield loaded
        finally:
            self.close()

    def _wait(self, packages: Sequence[_Package]) -> Mapping[PackageKey, tuple[_Entry, ...]]:
        """Return what was spooled, by the packages' keys."""
        return {package.key: self._spooler.wait(_identity(package)) for package in packages}

    def _load(self, packages: Sequence[FetchedPackage]) -> list[_Package]:
        """Open the files, each once, in the order given."""
        found: dict[PackageKey, _Package] = {}
        faults: list[PackageError] = []
        for fetched in packages:
            package = self._loaded.get(fetched.path)
            if package is None:
                try:
                    package = self._loaded[fetched.path] = self._open(fetched)
                except PackageError as error:
                    faults.append(error)
                    continue
            if package.key in found:
                raise PackageError(f"{package.key} is planned twice")
            found[package.key] = package
        raise_together(faults)
        return list(found.values())


def _identity(package: OpenedPackage) -> str:
    return f"{package.key} {package.version}"


def refuse_execution(verdicts: Iterable[Sequence[ScriptVerdict]]) -> None:
    """Raise `PackageError` or `NeedsExecutionError` for the first verdict that stands in the way."""
    for verdict in (verdict for of_package in verdicts for verdict in of_package):
        if verdict.verdict is ScriptClass.REFUSED:
            raise PackageError(f"{verdict.package} can't be brought into this image: {verdict.reason}")
        if verdict.verdict is ScriptClass.NEEDS_EXECUTION:
            raise NeedsExecutionError(f"{verdict.package}: {verdict.script} would have to be run: {verdict.reason}")
