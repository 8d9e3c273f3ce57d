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
from copacetic.scripts import effects
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.handlers.bytecode import STALE
from copacetic.unpack.deb.package import DebPackage
from copacetic.updates import PackageKey

__all__ = ["make_accounts", "open_engine", "reproduce"]

LIBC = "libc-bin"
_LAST: Mapping[effects.Effect, str] = {
    effects.DropBytecode(): STALE,
    effects.ChooseCertificates(): "certificates",
    effects.UpdateCertificates(): "certificates",
    effects.UpdateLibraryCache(): "ldconfig",
}


def open_engine(tree: TreeBuilder, database: DpkgDatabase, packages: Sequence[DebPackage], epoch: int) -> ScriptEngine:
    """Return an engine that works as the image's programs do before the upgrade."""
    libc = next((p for p in packages if p.name == LIBC and p.installed is not None), None)
    return ScriptEngine(
        tree,
        epoch,
        adduser=next((p.version for p in database.packages() if p.name == "adduser"), ""),
        libc=(libc.installed.version, libc.version) if libc is not None and libc.installed is not None else None,
        configuring="".join(p.text("config") or "" for p in packages if p.name == "ca-certificates"),
    )


def make_accounts(engine: ScriptEngine, due: Sequence[effects.Due]) -> None:
    """Make users and groups."""
    for package, effect in due:
        if isinstance(effect, effects.MakeAccount):
            _perform(engine, package, effect)


def reproduce(engine: ScriptEngine, due: Sequence[effects.Due]) -> None:
    """Do the rest. Byte code is dropped whether or not a script would: nobody else knows that it is stale."""
    for package, effect in due:
        if not isinstance(effect, effects.MakeAccount) and effect not in _LAST:
            _perform(engine, package, effect)
    for effect, name in _LAST.items():
        if effect == effects.DropBytecode() or any(effect == other for _, other in due):
            with engine.tree.in_name_of(name):
                engine.perform(effect)


def _perform(engine: ScriptEngine, package: PackageKey, effect: effects.Effect) -> None:
    command = type(effect).__name__
    with engine.tree.in_name_of(f"{command} of {package}"):
        if engine.perform(effect) is None:
            if isinstance(effect, effects.MakeAccount | effects.SetAlternative):
                command = " ".join(effect.words)
            raise NeedsExecutionError(f"{package}: {command} would have to be run")
