# SPDX-License-Identifier: Apache-2.0
"""What a package ships that the image has already: held against the image and the database, however it was hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase
from copacetic.oci.change import NamedEffect, Spooled
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.layerwriter import plain_parts
from copacetic.pipeline.prove.content import check_content
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.unpack.shipped import Explanation, ShippedPackage
from copacetic.updates import InstalledPackage, PackageKey, PlannedUpdate, Section
from support.deb.aptrepo import installed_files
from support.deb.composed import compose, plan_debs
from support.deb.debs import Deb, file
from support.image.images import make_tar
from support.image.trees import Content, directory, scan_tar, stack, symlink, tree
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import candidate, installed

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
            digest=after.digest,
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


def only(*algorithms: str) -> Callable[[Spooled], Spooled]:
    return lambda content: replace(content, digests={name: content.digests[name] for name in algorithms})


@pytest.mark.parametrize("change", [say({}), only(), only("md5"), only("sha256")])
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


# -- what a database says, of whichever kind it is -----------------------------------------------------------

DEMO = installed("demo", "2")


@dataclass
class Listed:
    """A database in which one package, which changes, has these checksums and these paths without one."""

    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    bare: tuple[str, ...] = ()
    checksum_algorithm: str = "md5"

    def packages(self) -> tuple[InstalledPackage, ...]:
        return (DEMO,)

    def checksums(self, package: InstalledPackage) -> Mapping[str, tuple[str, str]]:
        return self.files

    def bare_paths(self, package: InstalledPackage) -> tuple[str, ...]:
        return self.bare


def digest(algorithm: str, data: bytes) -> tuple[str, str]:
    return algorithm, hashlib.new(algorithm, data).hexdigest()


def hold(
    listed: Listed,
    files: Mapping[str, Content],
    *,
    said: ShippedPackage | None = None,
    effects: Mapping[str, NamedEffect] | None = None,
    shipped: Mapping[PackageKey, Mapping[str, str]] | None = None,
) -> None:
    """Hold a result in which nothing is new against what a database lists."""
    after = tree(files)
    database = cast(PackageDatabase, listed)
    section = Section(package_type="deb", updates=(PlannedUpdate(installed=None, candidate=candidate("demo", "2")),))

    check_content(
        Evidence(
            parts=(Part(section, database, database),),
            before=after,
            after=after,
            index=scan_tar(make_tar({})),
            digest=after.digest,
            explanation=Explanation(packages={"deb": (said,)} if said is not None else None, effects=effects),
            shipped={"deb": shipped} if shipped is not None else {},
        )
    )


def refused(listed: Listed, files: Mapping[str, Content], **more: object) -> str:
    with pytest.raises(VerificationError) as caught:
        hold(listed, files, **more)  # type: ignore[arg-type]
    return str(caught.value)


BOTH = {"opt/a": digest("md5", b"a"), "opt/b": digest("sha1", b"b")}


def test_what_neither_layer_nor_package_explains_is_read_from_the_image_with_each_one_s_algorithm() -> None:
    hold(Listed(BOTH), {"opt/a": "a", "opt/b": "b"})

    for path, algorithm in (("opt/a", "md5"), ("opt/b", "sha1")):
        message = refused(Listed(BOTH), {"opt/a": "a", "opt/b": "b", path: "evil"})
        assert message.startswith(f"demo: {path} has the {algorithm} ")


def test_a_checksum_that_is_cut_counts_as_far_as_it_goes_and_an_empty_one_for_nothing() -> None:
    algorithm, whole = digest("sha256", b"a")

    hold(Listed({"opt/a": (algorithm, whole[:40])}), {"opt/a": "a"})
    assert "instead of" in refused(Listed({"opt/a": (algorithm, f"0{whole[1:40]}")}), {"opt/a": "a"})
    assert "instead of" in refused(Listed({"opt/a": (algorithm, "")}), {"opt/a": "a"})


def test_the_package_s_own_checksums_count_where_the_database_has_none() -> None:
    own = {DEMO.key: {"opt/a": digest("md5", b"a")[1]}}

    hold(Listed(), {"opt/a": "a"}, shipped=own)
    assert refused(Listed(), {"opt/a": "evil"}, shipped=own).startswith("demo: opt/a has the md5 ")


@pytest.mark.parametrize(
    ("found", "is_what"),
    [({"opt": directory()}, "is missing"), ({"opt/a": directory()}, "is a directory")],
)
def test_where_a_file_belongs_is_nothing_else(found: Mapping[str, Content], is_what: str) -> None:
    assert refused(Listed({"opt/a": digest("md5", b"a")}), found) == f"demo: opt/a {is_what} in the result"


@pytest.mark.parametrize("target", ["nowhere", "../opt", "n\udcffm"])
def test_a_link_s_checksum_is_that_of_what_it_says_wherever_it_leads(target: str) -> None:
    said = digest("sha1", target.encode("utf-8", "surrogateescape"))

    hold(Listed({"opt/a": said}), {"opt/a": symlink(target)})
    assert "has the sha1" in refused(Listed({"opt/a": said}), {"opt/a": symlink("elsewhere")})


BARE = Listed(bare=("opt/run/demo",))


def test_a_path_without_a_checksum_has_to_be_there_if_only_as_a_link_to_nothing() -> None:
    hold(BARE, {"opt/run/demo": directory()})
    hold(BARE, {"opt/run/demo": symlink("nowhere")})
    assert refused(BARE, {"opt/run": directory()}) == "demo: opt/run/demo is missing in the result"


TAKEN = NamedEffect("a script", None)


@pytest.mark.parametrize(
    ("effects", "scripts", "is_taken"),
    [
        ({"opt/run/demo": TAKEN}, "", True),
        ({"run/demo": TAKEN}, "", False),
        ({"opt/run/demo": NamedEffect("a script", Entry(type=FileType.DIRECTORY, mode=0o755))}, "", False),
        ({}, "rmdir /opt/run/demo", False),
        (None, "rmdir /opt/run/demo", True),
        (None, "rmdir /opt/run/other", False),
        (None, None, False),
    ],
)
def test_it_may_be_gone_only_where_a_script_takes_it_or_speaks_of_it(
    effects: Mapping[str, NamedEffect] | None, scripts: str | None, is_taken: bool
) -> None:
    package = None if scripts is None else ShippedPackage(key=DEMO.key, label="demo 2", paths=(), scripts=scripts)

    if is_taken:
        hold(BARE, {"opt/run": directory()}, said=package, effects=effects)
    else:
        assert "is missing" in refused(BARE, {"opt/run": directory()}, said=package, effects=effects)


def test_what_a_script_takes_is_known_by_where_it_really_is() -> None:
    hold(
        Listed(bare=("run/demo",)), {"var/run": directory(), "run": symlink("var/run")}, effects={"var/run/demo": TAKEN}
    )
