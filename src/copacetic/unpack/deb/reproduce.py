# SPDX-License-Identifier: Apache-2.0
"""
When what the scripts would have done is done: accounts before anything is installed, so that files can belong to them,
and the rest once all files are in place. What follows from all of them comes last, and once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from copacetic.errors import NeedsExecutionError
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.effects import (
    ChooseCertificates,
    DropBytecode,
    Due,
    Effect,
    MakeAccount,
    SetAlternative,
    UpdateCertificates,
    UpdateLibraryCache,
)
from copacetic.scripts.engine import Engine
from copacetic.unpack.deb.package import DebPackage

__all__ = ["make_accounts", "open_engine", "reproduce"]

LIBC = "libc-bin"
_LAST: Mapping[Effect, str] = {
    DropBytecode(): "byte code that isn't true any more",
    ChooseCertificates(): "certificates",
    UpdateCertificates(): "certificates",
    UpdateLibraryCache(): "ldconfig",
}


def open_engine(tree: TreeBuilder, database: DpkgDatabase, packages: Sequence[DebPackage], epoch: int) -> Engine:
    """Return an engine that works as the image's programs do before the upgrade."""
    libc = next((p for p in packages if p.name == LIBC and p.installed is not None), None)
    return Engine(
        tree,
        epoch,
        adduser=next((p.version for p in database.packages() if p.name == "adduser"), ""),
        libc=(libc.installed.version, libc.version) if libc is not None and libc.installed is not None else None,
        configuring="".join(p.text("config") or "" for p in packages if p.name == "ca-certificates"),
    )


def make_accounts(engine: Engine, effects: Sequence[Due]) -> None:
    """Make users and groups."""
    for package, effect in effects:
        if isinstance(effect, MakeAccount):
            _perform(engine, package, effect, " ".join(effect.words))


def reproduce(engine: Engine, effects: Sequence[Due]) -> None:
    """Do the rest. Byte code is dropped whether or not a script would: nobody else knows that it is stale."""
    for package, effect in effects:
        if not isinstance(effect, MakeAccount) and effect not in _LAST:
            words = f"update-alternatives {' '.join(effect.words)}" if isinstance(effect, SetAlternative) else ""
            _perform(engine, package, effect, words)
    for effect, name in _LAST.items():
        if effect == DropBytecode() or any(effect == other for _, other in effects):
            with engine.tree.in_name_of(name):
                engine.perform(effect)


def _perform(engine: Engine, package: str, effect: Effect, words: str) -> None:
    with engine.tree.in_name_of(f"{type(effect).__name__} of {package}"):
        if engine.perform(effect) is None:
            raise NeedsExecutionError(f"{package}: {words} would have to be run")
