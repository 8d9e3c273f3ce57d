# SPDX-License-Identifier: Apache-2.0
"""Images with a dpkg database, made of the packages that are to be installed in them."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping

from copacetic.oci.filesystem import Entry, FileType
from support.deb.debs import Deb
from support.image.trees import Content, directory


def installed(*debs: Deb, regular: bool = True, more: Mapping[str, Content] | None = None) -> dict[str, Content]:
    """Return an image in which these packages are installed, and their scripts have run."""
    image: dict[str, Content] = {"etc": directory(), "usr": directory(), "usr/bin": directory()}
    status: list[str] = []
    triggers: list[str] = []
    for deb in debs:
        _put_files(image, deb)
        control = {name.removeprefix("./"): member.content for name, member in deb.control_members() if name != "./"}
        stanza = control.pop("control").decode().rstrip("\n")
        if not regular:
            image[f"var/lib/dpkg/status.d/{deb.name}"] = f"{stanza}\n"
            image[f"var/lib/dpkg/status.d/{deb.name}.md5sums"] = control["md5sums"]
            continue
        status.append(_with_status(stanza, deb))
        paths = [path.removeprefix(".").rstrip("/") or "/." for path, _ in deb.data_members()]
        image[f"var/lib/dpkg/info/{deb.name}.list"] = "".join(f"{path}\n" for path in paths)
        for name, content in control.items():
            image[f"var/lib/dpkg/info/{deb.name}.{name}"] = content
        for line in deb.control.get("triggers", "").splitlines():
            verb, name = line.split()
            if verb.startswith("interest") and name.startswith("/"):
                triggers.append(f"{name} {deb.name}/noawait")
            elif verb.startswith("interest"):
                image[f"var/lib/dpkg/triggers/{name}"] = f"{deb.name}/noawait\n"
    if regular:
        image["var/lib/dpkg/status"] = "\n\n".join(status) + "\n\n"
        image["var/lib/dpkg/triggers/File"] = "".join(f"{line}\n" for line in triggers)
    image.update(more or {})
    return _with_parents(image)


def _put_files(image: dict[str, Content], deb: Deb) -> None:
    for path, member in deb.files.items():
        if member.type == tarfile.DIRTYPE:
            image[path] = directory(member.mode)
        elif member.type == tarfile.SYMTYPE:
            image[path] = Entry(type=FileType.SYMLINK, mode=0o777, target=member.target)
        else:
            image[path] = member.content


def _with_status(stanza: str, deb: Deb) -> str:
    lines = stanza.split("\n")
    lines.insert(1, "Status: install ok installed")
    if deb.conffiles:
        sums = [f" {path} {hashlib.md5(deb.files[path[1:]].content).hexdigest()}" for path in deb.conffiles]
        lines.insert(-1, "\n".join(["Conffiles:", *sums]))
    return "\n".join(lines)


def _with_parents(image: Mapping[str, Content]) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for path, content in image.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            found.setdefault(parent, image.get(parent, directory()))
        found[path] = content
    return found
