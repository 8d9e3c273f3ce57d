# SPDX-License-Identifier: Apache-2.0
"""Images whose package records something else than dpkg wrote: chisel, rules_distroless, or dpkg and then `rm`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import zstandard

from support.deb.aptrepo import OS_RELEASE, Repository
from support.deb.debs import Deb
from support.image.images import Image, make_image, make_layer
from support.image.trees import Content, directory, layer_tar, symlink

Slices = Sequence[tuple[Deb, Sequence[str]]]
"""Packages, and the paths of each that are there."""

MANIFEST = "var/lib/chisel/manifest.wall"
STATUS = "var/lib/dpkg/status"
DESCRIPTION = "\n It does: this, that and more.\n .\n Version: 9 was better\n * Depends: on nothing"
"""What stands in a description, and isn't a field."""


def control(deb: Deb) -> str:
    """Return the package's control file."""
    return next(m.content for name, m in deb.control_members() if name == "./control").decode().rstrip("\n")


def control_status(debs: Iterable[Deb]) -> str:
    """Control files one after the other, as the wrapper around chisel writes them."""
    return "".join(f"{control(deb)}\n\n" for deb in debs)


def stripped_status(debs: Iterable[Deb]) -> str:
    """As rules_distroless writes it: a Status, and no blank at the start of any line."""
    texts = ((control(deb) + DESCRIPTION).split("\n") for deb in debs)
    return "".join(
        "\n".join(line.strip() for line in (lines[0], "Status: install ok installed", *lines[1:])) + "\n\n"
        for lines in texts
    )


def wall(rows: Iterable[Mapping[str, Any]], *, header: Mapping[str, Any] | None = None) -> bytes:
    """Write a manifest as chisel does: sorted lines, and a header that counts them."""
    lines = sorted(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows)
    first = {"jsonwall": "1.0", "schema": "1.0", "count": len(lines) + 1, **(header or {})}
    text = "".join(f"{line}\n" for line in (json.dumps(first, separators=(",", ":")), *lines))
    return zstandard.ZstdCompressor().compress(text.encode())


def unwall(data: bytes) -> list[dict[str, Any]]:
    """Read a manifest's lines."""
    text = zstandard.ZstdDecompressor().stream_reader(data).read().decode()
    return [json.loads(line) for line in text.splitlines()]


def package_row(deb: Deb) -> dict[str, Any]:
    sha256 = hashlib.sha256(deb.to_bytes()).hexdigest()
    return {"kind": "package", "name": deb.name, "version": deb.version, "sha256": sha256, "arch": deb.architecture}


def path_row(deb: Deb, path: str) -> dict[str, Any]:
    member = deb.files[path]
    row = {"kind": "path", "path": f"/{path}", "mode": f"0{member.mode:o}", "slices": [f"{deb.name}_all"]}
    if member.type == tarfile.SYMTYPE:
        return {**row, "link": member.target}
    if member.type == tarfile.DIRTYPE:
        return {**row, "path": f"/{path}/"}
    return {**row, "sha256": hashlib.sha256(member.content).hexdigest(), "size": len(member.content)}


def manifest_rows(slices: Slices) -> list[dict[str, Any]]:
    """Describe slices: the paths of each package that are there."""
    rows: list[dict[str, Any]] = [
        {"kind": "path", "path": f"/{MANIFEST}", "mode": "0644", "slices": ["base_chisel"]},
        {"kind": "content", "slice": "base_chisel", "path": f"/{MANIFEST}"},
        {"kind": "slice", "name": "base_chisel"},
    ]
    for deb, paths in slices:
        rows += [package_row(deb), {"kind": "slice", "name": f"{deb.name}_all"}]
        for path in paths:
            rows += [path_row(deb, path), {"kind": "content", "slice": f"{deb.name}_all", "path": f"/{path}"}]
    return rows


def files_of(slices: Slices) -> dict[str, Content]:
    """Return the paths of the slices, with their parents."""
    found: dict[str, Content] = {"etc": directory(), "etc/os-release": OS_RELEASE}
    for deb, paths in slices:
        for path in paths:
            member = deb.files[path]
            kinds: Mapping[bytes, Callable[[], Content]] = {
                tarfile.SYMTYPE: lambda m=member: symlink(m.target),  # type: ignore[misc]
                tarfile.DIRTYPE: lambda m=member: directory(m.mode),  # type: ignore[misc]
            }
            found[path] = kinds.get(member.type, lambda m=member: m.content)()
    return with_parents(found)


def with_parents(files: Mapping[str, Content]) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for path, content in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            found.setdefault("/".join(parts[:depth]), directory())
        found[path] = content
    return found


def image_of(files: Mapping[str, Content], repository: Repository) -> Image:
    """Return an image of these files, with the repository in its sources."""
    more: dict[str, Content] = {
        "etc/apt/sources.list": f"{repository.definition}\n",
        "etc/apt/trusted.gpg.d/tests.gpg": repository.certificate,
    }
    return make_image([make_layer(layer_tar(with_parents({**files, **more})))])
