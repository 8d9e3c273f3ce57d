# SPDX-License-Identifier: Apache-2.0
"""
Alpine's update-ca-certificates: the bundle, a link for each trusted certificate, and links by hash.

Its versions differ in what they put between certificates, and certificates of the administrator's come in the order
of the disk. Both are told by the bundle that the image has. What it and the links are has to follow from the image's
own certificates; where it doesn't, nothing is known of the program.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from copacetic.errors import ImageError
from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.rehash import rehash

__all__ = ["Bundling", "has_only_known_hooks", "learn_bundling", "update_certificates"]

CONFIGURATION = "etc/ca-certificates.conf"
SHIPPED = "usr/share/ca-certificates"
LOCAL = "usr/local/share/ca-certificates"
FOLDER = "etc/ssl/certs"
BUNDLE = f"{FOLDER}/ca-certificates.crt"
HOOKS = "etc/ca-certificates/update.d"
MAX_FILE = 64 * 1024 * 1024
_HOOK_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REHASH = re.compile(r"#!/bin/sh\s+(?:exec +)?(?:/usr/bin/)?c_rehash /etc/ssl/certs\s*")
_AFTER_EACH = ("", "\n", "missing")
"""What follows a certificate in the bundle: nothing, a newline, or one where there is none."""
_PLAIN = str.maketrans(" ,()", "__==")


@dataclass(frozen=True, slots=True)
class Bundling:
    """How the image's program makes a bundle."""

    after_each: str
    local: tuple[str, ...]
    """The administrator's certificates in its order."""


def learn_bundling(image: ImageFilesystem) -> Bundling | None:
    """
    Find out how an image's program works: run on the image as it is, it has to leave everything as it is.

    None where it doesn't, whatever is done.
    """
    tree = TreeBuilder(image)
    bundle = _read(tree, BUNDLE)
    if bundle is None:
        return None
    found = [(bundle.find(_read(tree, path) or b"\0"), path) for path in _local(tree)]
    local = tuple(path for _, path in sorted(found))
    for after_each in _AFTER_EACH:
        bundling, trial = Bundling(after_each, local), TreeBuilder(image)
        if _bundle(tree, bundling) == bundle:
            update_certificates(trial, bundling, mtime=0)
            return None if trial.changed_paths() else bundling
    return None


def update_certificates(tree: TreeBuilder, bundling: Bundling, *, mtime: int) -> None:
    """Write the bundle and the links. The hooks have to be ones that `has_only_known_hooks` knows."""
    tree.put(BUNDLE, Entry(type=FileType.FILE, mode=0o644, mtime=mtime), _bundle(tree, bundling))
    wanted = {_link_name(path): f"/{path}" for path in _certificates(tree, bundling)}
    for name in tree.iterdir(FOLDER):
        entry = tree.lookup(f"{FOLDER}/{name}", follow=False)
        if entry is None or entry.type is not FileType.SYMLINK or name.startswith("."):
            continue
        if name not in wanted:
            if entry.target.startswith((f"/{SHIPPED}/", f"/{LOCAL}/")):
                tree.remove(f"{FOLDER}/{name}")
        elif entry.target == wanted[name]:
            del wanted[name]
        else:
            tree.remove(f"{FOLDER}/{name}")
    for name, target in wanted.items():
        if tree.lookup(f"{FOLDER}/{name}", follow=False) is None:
            tree.symlink(f"{FOLDER}/{name}", target, mtime=mtime)
    if _hooks(tree):
        rehash(tree, FOLDER, mtime=mtime)


def has_only_known_hooks(tree: TreeBuilder) -> bool:
    """Tell whether all that is run afterwards is what makes the links by hash."""
    return all(_REHASH.fullmatch((_read(tree, path) or b"").decode("utf-8", "replace")) for path in _hooks(tree))


def _hooks(tree: TreeBuilder) -> list[str]:
    if not any(tree.lookup(f"{folder}/run-parts") for folder in ("usr/bin", "bin")):
        return []
    paths = [f"{HOOKS}/{name}" for name in tree.iterdir(HOOKS) if _HOOK_NAME.fullmatch(name)]
    entries = [(path, tree.lookup(path)) for path in paths]
    return [path for path, entry in entries if entry is not None and entry.mode & 0o111]


def _certificates(tree: TreeBuilder, bundling: Bundling) -> list[str]:
    """Return the trusted certificates in the bundle's order: those of the configuration, then the administrator's."""
    lines = split_lines((_read(tree, CONFIGURATION) or b"").decode("utf-8", "surrogateescape"))
    local = set(_local(tree))
    listed = [f"{SHIPPED}/{line}" for line in lines if not line.startswith(("#", "!"))]
    return [*listed, *(path for path in bundling.local if path in local)]


def _bundle(tree: TreeBuilder, bundling: Bundling) -> bytes:
    parts: list[bytes] = []
    size = 0
    for path in _certificates(tree, bundling):
        content = _read(tree, path) or b""
        size += len(content)
        if size > MAX_FILE:
            raise ImageError(f"{CONFIGURATION} names certificates of more than {MAX_FILE} bytes")
        missing = bundling.after_each == "missing" and content and not content.endswith(b"\n")
        parts += [content, b"\n" if bundling.after_each == "\n" or missing else b""]
    return b"".join(parts)


def _link_name(path: str) -> str:
    stem = path.rpartition("/")[2]
    return f"ca-cert-{stem.removesuffix('.crt') if len(stem) > len('.crt') else stem}.pem".translate(_PLAIN)


def _local(tree: TreeBuilder) -> Sequence[str]:
    names = [name for name in tree.iterdir(LOCAL) if not name.startswith(".")]
    entries = [(f"{LOCAL}/{name}", tree.lookup(f"{LOCAL}/{name}", follow=False)) for name in names]
    return [path for path, entry in entries if entry is not None and entry.type is FileType.FILE]


def _read(tree: TreeBuilder, path: str) -> bytes | None:
    try:
        return tree.read(path, limit=MAX_FILE)
    except FileNotFoundError:
        return None
