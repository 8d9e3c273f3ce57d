# SPDX-License-Identifier: Apache-2.0
"""The order in which what scripts derive is reproduced, once all files are in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from copacetic.errors import NeedsExecutionError
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.ldconfig import update_library_cache
from copacetic.scripts.judgement import Action
from copacetic.unpack.deb.handlers.alternatives import plan_alternative
from copacetic.unpack.deb.handlers.bytecode import remove_bytecode
from copacetic.unpack.deb.handlers.certificates import update_certificates, update_configuration
from copacetic.unpack.deb.handlers.users import make_account, parse_account
from copacetic.unpack.deb.package import DebPackage

__all__ = ["Reproduction", "make_accounts", "reproduce"]

LIBC = "libc-bin"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What the handlers work on."""

    tree: TreeBuilder
    database: DpkgDatabase
    packages: Sequence[DebPackage]
    epoch: int


def make_accounts(context: Reproduction, actions: Sequence[Action]) -> None:
    """Make users and groups; before anything is installed, so that files can belong to them."""
    for action in actions:
        if action.kind == "users":
            with context.tree.in_name_of(f"accounts of {action.package}"):
                _make_account(context, action)


def reproduce(context: Reproduction, actions: Sequence[Action]) -> list[str]:
    """Do what the scripts would have done; returns what a user wants to know of it."""
    notes: list[str] = []
    tree = context.tree
    for action in actions:
        with tree.in_name_of(f"{action.kind} of {action.package}"):
            _reproduce_action(context, action)
    with tree.in_name_of("byte code that isn't true any more"):
        remove_bytecode(tree)
    with tree.in_name_of("certificates"):
        _reproduce_certificates(context, {action.kind for action in actions})
    if any(action.kind == "ldconfig" for action in actions):
        with tree.in_name_of("ldconfig"):
            update_library_cache(tree, mtime=context.epoch, libc=_libc_versions(context.packages))
    return notes


def _reproduce_action(context: Reproduction, action: Action) -> None:
    if action.kind == "attributes":
        for path in action.words:
            _keep_attributes(context.tree, path)
    elif action.kind in ("remove", "rmdir"):
        _remove(context.tree, action)
    elif action.kind == "alternatives":
        _apply_alternative(context, action)


def _remove(tree: TreeBuilder, action: Action) -> None:
    """What rm or rmdir removes; an empty folder's parents go with it where rmdir was told so."""
    options = "".join(word for word in action.words if word.startswith("-"))
    for word in action.words:
        path = tree.resolve(word.lstrip("/"), follow=False) if not word.startswith("-") else ""
        entry = tree.lookup(path, follow=False) if path else None
        if entry is None:
            continue
        if action.kind == "remove":
            if entry.type is not FileType.DIRECTORY:
                tree.remove(path)
            elif "r" in options or "R" in options:
                tree.remove_all(path)
            continue
        while entry is not None and entry.type is FileType.DIRECTORY and tree.remove(path) and "p" in options:
            path = path.rpartition("/")[0]
            entry = tree.lookup(path, follow=False) if path else None


def _reproduce_certificates(context: Reproduction, kinds: set[str]) -> None:
    if "certificates-configuration" in kinds:
        scripts = [p.text("config") or "" for p in context.packages if p.name == "ca-certificates"]
        update_configuration(context.tree, "".join(scripts), mtime=context.epoch)
    if "certificates" in kinds:
        update_certificates(context.tree, mtime=context.epoch)


def _keep_attributes(tree: TreeBuilder, path: str) -> None:
    """Give a new file the mode, owner and attributes that the image's has, as the same script set them."""
    below, new = tree.below(path), tree.lookup(path, follow=False)
    if below is None or new is None or below.type is not FileType.FILE or new.type is not FileType.FILE:
        return
    tree.change(path, replace(new, mode=below.mode, uid=below.uid, gid=below.gid, xattrs=dict(below.xattrs)))


def _apply_alternative(context: Reproduction, action: Action) -> None:
    edits = plan_alternative(context.tree, action.words)
    if edits is None:
        words = " ".join(action.words)
        raise NeedsExecutionError(f"{action.package}: update-alternatives {words} would have to be run")
    for edit in edits:
        edit.apply(context.tree, mtime=context.epoch)


def _make_account(context: Reproduction, action: Action) -> None:
    request = parse_account(action.words)
    adduser = next((p.version for p in context.database.packages() if p.name == "adduser"), "")
    made = request is not None and adduser and make_account(context.tree, request, adduser=adduser, mtime=context.epoch)
    if not made:
        raise NeedsExecutionError(f"{action.package}: {' '.join(action.words)} would have to be run")


def _libc_versions(packages: Sequence[DebPackage]) -> tuple[str, str] | None:
    for package in packages:
        if package.name == LIBC and package.installed is not None:
            return package.installed.version, package.version
    return None
