# SPDX-License-Identifier: Apache-2.0
"""What a package ships that the image has already: held against the image and the database, however it was hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layerwriter import plain_parts
from copacetic.pipeline.prove.content import check_content
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.updates import Section
from support.deb.aptrepo import installed_files
from support.deb.composed import compose, plan_debs
from support.deb.debs import Deb, file
from support.image.images import make_tar
from support.image.trees import scan_tar, stack
from support.value.databases import detect_database
from support.value.replacing import replace

PATH = "usr/share/doc/demo"
OLD = Deb(version="1", files={"usr/bin/tool": file("1", 0o755), PATH: file("doc")})
NEW = replace(OLD, version="2", files={**OLD.files, "usr/bin/tool": file("2", 0o755)})


def prove(folder: Path, change: Callable[[Spooled], Spooled]) -> None:
    """Hold a new version against a composition in which something is said of the file that stays as it is."""
    base = make_tar(installed_files([OLD]))
    before = stack(base)
    deb = NEW.write(folder)
    changes = compose(before, [deb], folder / "scratch").changes
    layer = b"".join(plain_parts(changes.entries))
    after = stack(base, layer)
    (update,) = (package.update for package in plan_debs(before, [deb]))
    unchanged = changes.unchanged[PATH]
    assert isinstance(unchanged, Spooled)
    check_content(
        Evidence(
            parts=(Part(Section(package_type="deb", updates=(update,)), database(before), database(after)),),
            before=before,
            after=after,
            index=scan_tar(layer),
            checksums={"usr/bin/tool": {"md5": hashlib.md5(b"2").hexdigest()}},
            unchanged={**changes.unchanged, PATH: change(unchanged)},
        )
    )


def database(fs: ImageFilesystem) -> PackageDatabase:
    found = detect_database(fs)
    assert found is not None
    return found


def say(digests: Mapping[str, str]) -> Callable[[Spooled], Spooled]:
    return lambda content: replace(content, digests={**content.digests, **digests})


@pytest.mark.parametrize("change", [say({}), lambda content: replace(content, digests={})])
def test_a_file_that_stays_is_what_the_package_ships(change: Callable[[Spooled], Spooled], tmp_path: Path) -> None:
    prove(tmp_path, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (say({"sha256": 64 * "0"}), "is not the one that the package ships"),
        (say({"md5": 32 * "0"}), "has the md5 00000000000000000000000000000000 instead of"),
        (lambda content: replace(content, digests={}, size=2), "is not the one that the package ships"),
    ],
)
def test_a_file_that_stays_and_is_another_one_is_refused(
    change: Callable[[Spooled], Spooled], message: str, tmp_path: Path
) -> None:
    with pytest.raises(VerificationError, match=message):
        prove(tmp_path, change)
