# SPDX-License-Identifier: Apache-2.0
"""
The verdicts about packages' maintainer scripts, or those that the same packages got on an equal base.

Judging is a pure function of the packages and of what it reads in the image; it costs more than finding out that
nothing of that has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from copacetic.cache import Cache
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pipeline.apply.unpack import Unpacking
from copacetic.pipeline.job import Judged
from copacetic.pipeline.open.memo import Memo
from copacetic.pipeline.plan.fetch import fetch_packages
from copacetic.repository import Repository
from copacetic.unpack import Unpacker
from copacetic.updates import FetchedPackage, PackageKey, PlannedUpdate, ScriptClass, ScriptVerdict

__all__ = ["VerdictMemo"]

JUDGEMENT_VERSION = 10
"""Raise it whenever the same scripts may get another verdict, or one is written down in another way."""


class _Judgement(msgspec.Struct, frozen=True, array_like=True):
    verdicts: dict[PackageKey, list[tuple[str, str, str]]]
    """Script, verdict and reason."""
    newest_mtime: int


class VerdictMemo:
    """Judges packages for one image. Those that it doesn't know are spooled meanwhile."""

    def __init__(self, fs: ImageFilesystem, cache: Cache, unpacking: Unpacking) -> None:
        self._fs = fs
        self._unpacking = unpacking
        self._memo = Memo(cache, "judgements", version=JUDGEMENT_VERSION)

    def judge(self, package_type: str, updates: Sequence[PlannedUpdate], repository: Repository) -> Judged:
        """See `Ways.judge`."""
        if not updates:
            return Judged(packages=(), newest_mtime=0)
        packages: Sequence[FetchedPackage] = ()
        if not all(update.candidate.sha256 for update in updates):  # that is known when they are there
            packages = fetch_packages(repository, updates)
            updates = [package.update for package in packages]
        rows = sorted(update.candidate.fingerprint for update in updates)
        key = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        with self._memo.lock(key):  # who comes later takes the verdicts, and decompresses nothing for itself
            found = next(self._memo.find(key, self._fs), None)
            early = partial(self._unpacking.spool_early, package_type) if found is None else None
            packages = packages or fetch_packages(repository, updates, early)
            if found is None:
                self._unpacking.spool(package_type, packages)
                judgement = _judge(self._unpacking.unpacker(package_type), packages)
                self._memo.keep(key, self._fs, self._unpacking.fs.reads(), msgspec.msgpack.encode(judgement))
            else:
                judgement = msgspec.msgpack.decode(found, type=_Judgement)
        return Judged(
            packages=tuple(_with_verdicts(package, judgement) for package in packages),
            newest_mtime=judgement.newest_mtime,
        )


def _judge(unpacker: Unpacker, packages: Sequence[FetchedPackage]) -> _Judgement:
    verdicts = {
        key: [(one.script, one.verdict.value, one.reason) for one in scripts]
        for key, scripts in unpacker.classify(packages).items()
    }
    return _Judgement(verdicts, unpacker.newest_mtime(packages))


def _with_verdicts(package: FetchedPackage, judgement: _Judgement) -> FetchedPackage:
    scripts = tuple(
        ScriptVerdict(package=package.key, script=script, verdict=ScriptClass(verdict), reason=reason)
        for script, verdict, reason in judgement.verdicts.get(package.key, ())
    )
    installed = package.update.installed
    if installed is not None and installed.state:
        reason = f"{installed.version} is {installed.state}, and only its package manager can finish that"
        unfinished = ScriptVerdict(
            package=package.key, script="state", verdict=ScriptClass.NEEDS_EXECUTION, reason=reason
        )
        scripts = (unfinished, *scripts)
    return replace(package, update=replace(package.update, scripts=scripts))
