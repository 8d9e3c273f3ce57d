# SPDX-License-Identifier: Apache-2.0
"""Packages of two kinds in one tree: an image may have two databases, and gets one layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from copacetic.oci.change import Changes
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.unpack import Unpacker
from support.apk import apkcomposed
from support.apk.apkrepo import apk_image
from support.apk.apks import Apk
from support.deb import composed
from support.deb.composed import EPOCH
from support.deb.debs import Deb, file
from support.image.trees import tree
from support.value.replacing import replace
from unpack.dpkg_image import installed

OLD_DEB = Deb(version="1.0", files={"usr/bin/tool": file("1", 0o755), "etc/shared/deb": file("1")})
NEW_DEB = replace(OLD_DEB, version="2.0", files={"usr/bin/tool": file("2", 0o755), "etc/shared/deb": file("2")})
OLD_APK = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("1", 0o755), "etc/shared/apk": file("1")})
NEW_APK = replace(OLD_APK, version="2-r0", files={"usr/bin/foo": file("2", 0o755), "etc/shared/apk": file("2")})


def image() -> ImageFilesystem:
    return tree(installed(OLD_DEB, more=apk_image(None, [OLD_APK])))


def compose(fs: ImageFilesystem, kinds: Sequence[str], folder: Path) -> Changes:
    changes = TreeBuilder(fs)
    for kind in kinds:
        scratch = folder / kind
        scratch.mkdir(parents=True)
        unpacker: Unpacker
        if kind == "deb":
            unpacker, packages = composed.open_unpacker(fs), composed.plan_debs(fs, [NEW_DEB.write(scratch)])
        else:
            rows = [(NEW_APK.row(), NEW_APK.write(scratch))]
            unpacker, packages = apkcomposed.open_unpacker(fs), apkcomposed.plan_apks(fs, rows)
        unpacker.compose(changes, packages, epoch=EPOCH, scratch=scratch)
    return changes.finish()


def contents(changes: Changes) -> dict[str, bytes | None]:
    return {
        change.path: composed.read_content(change) if change.content is not None else None for change in changes.entries
    }


@pytest.mark.parametrize("kinds", [("deb", "apk"), ("apk", "deb")])
def test_packages_of_two_kinds_give_one_layer_with_what_each_changes(kinds: Sequence[str], tmp_path: Path) -> None:
    fs = image()
    alone = [contents(compose(fs, [kind], tmp_path / f"alone-{kind}")) for kind in kinds]

    both = contents(compose(fs, kinds, tmp_path / "both"))

    assert both == alone[0] | alone[1]
    assert {"usr/bin/tool", "var/lib/dpkg/status", "usr/bin/foo", "lib/apk/db/installed"} <= both.keys()
