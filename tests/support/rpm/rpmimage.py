# SPDX-License-Identifier: Apache-2.0
"""
Images with an rpm database and the files of its packages, and a repository with newer ones, files and signatures too.

    with serve_rpms([signed(build_of("foo", NEW, version="2"))]) as repository:
        files = {**rpm_image(repository), **installed_builds([build_of("foo", OLD)])}
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from copacetic.rpm import RpmHeader, RpmPackage, tags
from copacetic.rpm.header import INT32, RpmEntry, number_entry, texts_entry
from copacetic.rpm.installed import installed_header
from support.deb.debs import Member
from support.rpm.rpmbuilds import Build, Shipped
from support.rpm.rpmdbs import make_files
from support.rpm.rpmfiles import ARCHITECTURE, Rpm, relation
from support.value.replacing import replace

OWNERS = {0: "root", 8: "mail"}


@dataclass(frozen=True, kw_only=True)
class SignedBuild(Rpm):
    """A package with files, as repositories have it."""

    build: Build

    def header(self) -> RpmHeader:
        digests: list[RpmEntry] = []
        if self.payload_digest:
            digests = [
                texts_entry(tags.PAYLOAD_DIGEST, [hashlib.sha256(self._payload()).hexdigest()]),
                number_entry(tags.PAYLOAD_DIGEST_ALGORITHM, [8], INT32),
            ]
        return replace(self.build, extra=(*self.build.extra, *digests)).header()

    def _payload(self) -> bytes:
        build = self.build
        return gzip.compress(build.archive() if build.payload is None else build.payload, mtime=0)


def signed(build: Build, **more: object) -> SignedBuild:
    """Return a package that a repository may publish."""
    values: dict[str, object] = {
        "name": build.name,
        "version": build.version,
        "release": build.release,
        "architecture": build.architecture,
        "files": tuple(one.path for one in build.files),
        **more,
    }
    return SignedBuild(build=build, **values)  # type: ignore[arg-type]


def build_of(name: str, files: Mapping[str, Member], version: str = "1", needs: str = "", **more: object) -> Build:
    """Return a package with files that are written down as those of another format."""
    extra: list[RpmEntry] = []
    if needs:
        needed, flags, evr = relation(needs)
        extra = [
            texts_entry(tags.REQUIRE_NAMES, [needed]),
            number_entry(tags.REQUIRE_FLAGS, [flags]),
            texts_entry(tags.REQUIRE_VERSIONS, [evr]),
        ]
    shipped = [_shipped(path, files) for path in sorted(files)]
    return Build(name, version=version, architecture=ARCHITECTURE, files=shipped, extra=extra, **more)  # type: ignore[arg-type]


def _shipped(path: str, files: Mapping[str, Member]) -> Shipped:
    member = files[path]
    link = member.type == tarfile.LNKTYPE
    first = member.target if link else path
    member = files[first]
    linked = any(one.type == tarfile.LNKTYPE and one.target == first for one in files.values())
    return Shipped(
        f"/{path}",
        content=member.content if member.type == tarfile.REGTYPE else None,
        target=member.target if member.type == tarfile.SYMTYPE else None,
        mode=member.mode if member.type != tarfile.SYMTYPE else 0,
        group=OWNERS[member.gid],
        inode=sorted(files).index(first) + 1 if linked else 0,
    )


def installed_headers(builds: Sequence[Build]) -> list[RpmHeader]:
    """Return packages as a database has them."""
    headers = []
    for build in builds:
        package = RpmPackage.read(io.BytesIO(signed(build).to_bytes()))
        headers.append(installed_header(package, states=[0] * len(build.files), color=0, time=1, transaction=1))
    return headers


def installed_builds(builds: Sequence[Build]) -> dict[str, bytes]:
    """Return an image's database and the packages' regular files, by path."""
    contents = {one.path[1:]: one.content for build in builds for one in build.files if one.content is not None}
    return {**make_files("sqlite", installed_headers(builds)), **contents}
