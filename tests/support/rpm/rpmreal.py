# SPDX-License-Identifier: Apache-2.0
"""Real roots and repositories as a resolver sees them, read by the host's rpm and the standard library."""

from __future__ import annotations

import gzip
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.rpm.dependency import EQUAL, GREATER, LESS, Requirement, make_requirement
from support.deb.debian import need

_LISTS = {"provides": "PROVIDE", "requires": "REQUIRE", "conflicts": "CONFLICT", "obsoletes": "OBSOLETE"}
_QUERY = "=\t%{NAME}\t%{EPOCH}:%{VERSION}-%{RELEASE}\t%{ARCH}\n" + "".join(
    f"[{kind}\t%{{{tag}NAME}}\t%{{{tag}FLAGS}}\t%{{{tag}VERSION}}\n]" for kind, tag in _LISTS.items()
)
_QUERY += "[files\t%{FILENAMES}\n]"
_FLAGS = {"EQ": EQUAL, "LT": LESS, "GT": GREATER, "LE": LESS | EQUAL, "GE": GREATER | EQUAL}
_COMMON, _RPM = "{http://linux.duke.edu/metadata/common}", "{http://linux.duke.edu/metadata/rpm}"


def real_installed(root: Path, folder: Path) -> list[RpmOffer]:
    """Return what the sqlite database in a packed root has."""
    need("rpm")
    with tarfile.open(root) as tar:
        member = next(member for member in tar if member.name.endswith("rpmdb.sqlite"))
        content = tar.extractfile(member)
        assert content is not None
        (folder / "rpmdb.sqlite").write_bytes(content.read())
    command = ["rpm", "--dbpath", str(folder), "--define", "_db_backend sqlite", "-qa", "--qf", _QUERY]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [_installed(block.splitlines()) for block in run.stdout.split("=\t")[1:]]


def _installed(lines: list[str]) -> RpmOffer:
    name, evr, architecture = lines[0].split("\t")
    lists: dict[str, list[Requirement]] = {kind: [] for kind in _LISTS}
    files = []
    for kind, *words in (line.split("\t") for line in lines[1:]):
        if kind == "files":
            files.append(words[0])
        elif words[0] != "(none)":
            lists[kind].append(make_requirement(words[0], int(words[1]), words[2]))
    evr = evr.removeprefix("(none):").removeprefix("0:")
    return RpmOffer(
        name=name,
        evr=evr,
        architecture=architecture,
        files=frozenset(files),
        **{kind: tuple(some) for kind, some in lists.items()},  # type: ignore[arg-type]
    )


def real_offers(repository: Path) -> Iterator[RpmOffer]:
    """Return what a repository's metadata has."""
    files = {
        package.attrib["pkgid"]: frozenset(entry.text or "" for entry in package if entry.tag.endswith("file"))
        for package in _document(repository, "filelists")
    }
    for package in _document(repository, "primary"):
        text = {entry.tag.removeprefix(_COMMON): entry.text or "" for entry in package}
        version = package.find(f"{_COMMON}version")
        content = package.find(f"{_COMMON}format")
        assert version is not None
        assert content is not None
        lists = {
            kind: tuple(
                make_requirement(entry.attrib["name"], _FLAGS.get(entry.get("flags", ""), 0), _evr(entry))
                for entry in content.findall(f"{_RPM}{kind}/{_RPM}entry")
            )
            for kind in _LISTS
        }
        yield RpmOffer(
            name=text["name"],
            evr=_evr(version),
            architecture=text["arch"],
            files=files[text["checksum"]],
            repository="updates",
            **lists,  # type: ignore[arg-type]
        )


def _document(repository: Path, kind: str) -> ET.Element:
    path = next((repository / "repodata").glob(f"*{kind}.xml.gz"))
    return ET.fromstring(gzip.decompress(path.read_bytes()))


def _evr(entry: ET.Element) -> str:
    epoch = entry.get("epoch", "0")
    release = f"-{entry.get('rel')}" if entry.get("rel") else ""
    return f"{'' if epoch == '0' else epoch + ':'}{entry.get('ver', '')}{release}"
