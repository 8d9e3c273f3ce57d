# SPDX-License-Identifier: Apache-2.0
"""The whole gate on images in memory, for each family: what the embedded engine makes passes, and nothing else does."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from copacetic.budget import Slots
from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase, detect_databases
from copacetic.oci.manifest import OCI_LAYER
from copacetic.pipeline.job import Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, finish_layer
from copacetic.pipeline.plan.match import match_inventories
from copacetic.pipeline.prove import Proof, prove
from copacetic.progress import Silent
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage, Finding, FindingStatus, Plan, Section, Skipped, SkipReason
from support.apk import apkcomposed
from support.apk.apkrepo import apk_image
from support.apk.apks import Apk
from support.deb import composed
from support.deb.aptrepo import installed_files
from support.deb.composed import Composed
from support.deb.debs import Deb, Member, directory, file, hardlink, symlink
from support.hostile.sabotage import Edit, add, alter, drop, put, rewrite, take, write
from support.image.images import TarItem, make_tar, tar_file
from support.image.trees import stack
from support.rpm import rpmcomposed
from support.rpm.rpmimage import build_of, installed_builds
from support.value.replacing import replace
from support.value.values import finding, plan

OLD: Mapping[str, Member] = {
    "usr/bin/foo": file("old", 0o755),
    "usr/share/gone": file("gone"),
    "usr/share/gonelink": symlink("f"),
}
NEW: Mapping[str, Member] = {
    "usr/bin/foo": file("new", 0o755),
    "usr/bin/foo2": hardlink("usr/bin/foo"),
    "usr/share/f": file("more"),
    "usr/share/link": symlink("f"),
    "var/lib/foo": directory(),
}
OTHER: Mapping[str, Member] = {"usr/bin/other": file("other", 0o755)}
ACCOUNTS = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}


@dataclass(frozen=True, kw_only=True)
class Family:
    """An image with foo 1 and other 1, foo 2 composed onto it, and what a sabotage of that has to know."""

    package_type: str
    image: Mapping[str, bytes | str]
    compose: Callable[[Path, bytes], tuple[Composed, Sequence[FetchedPackage]]]
    database: str
    older: tuple[str, str]
    """A piece of the new database's text, and what makes the package's version the old one."""
    renamed: tuple[str, str]
    """And what gives the other package another name."""
    key: str
    """The package's, as an error spells it."""
    next: str
    """A later version than both."""


def deb_family(*, needs: str = "") -> Family:
    foo = Deb(name="foo", version="1", architecture="amd64", files=OLD)
    other = Deb(name="other", version="1", files=OTHER, fields={"Depends": needs} if needs else {})
    new = replace(foo, version="2", files=NEW)

    def compose(folder: Path, base: bytes) -> tuple[Composed, Sequence[FetchedPackage]]:
        fs, path = stack(base), new.write(folder)
        return composed.compose(fs, [path], folder / "scratch"), composed.plan_debs(fs, [path])

    return Family(
        package_type="deb", image=installed_files([foo, other]), compose=compose, database="var/lib/dpkg/status",
        older=("Version: 2", "Version: 1"), renamed=("Package: other", "Package: another"), key="foo:amd64", next="3",
    )  # fmt: skip


def apk_family(*, needs: str = "") -> Family:
    foo = Apk(name="foo", version="1-r0", files=OLD)
    other = Apk(name="other", version="1-r0", files=OTHER, depends=[needs] if needs else [])
    new = replace(foo, version="2-r0", files=NEW)

    def compose(folder: Path, base: bytes) -> tuple[Composed, Sequence[FetchedPackage]]:
        fs, rows = stack(base), [(new.row(), new.write(folder))]
        return apkcomposed.compose(fs, rows, folder / "scratch"), apkcomposed.plan_apks(fs, rows)

    return Family(
        package_type="apk", image=apk_image(None, [foo, other]), compose=compose, database="lib/apk/db/installed",
        older=("P:foo\nV:2-r0", "P:foo\nV:1-r0"), renamed=("P:other", "P:another"), key="foo:x86_64", next="3-r0",
    )  # fmt: skip


def rpm_family(*, needs: str = "") -> Family:
    foo, other = build_of("foo", OLD), build_of("other", OTHER, needs=needs)
    new = build_of("foo", NEW, "2")

    def compose(folder: Path, base: bytes) -> tuple[Composed, Sequence[FetchedPackage]]:
        fs, path = stack(base), new.write(folder)
        return rpmcomposed.compose(fs, [path], folder / "scratch"), rpmcomposed.plan_rpms(fs, [path])

    return Family(
        package_type="rpm", image=installed_builds([foo, other]), compose=compose, database="var/lib/rpm/rpmdb.sqlite",
        older=("foo\0002\0001\0", "foo\0001\0001\0"), renamed=("other\0001\0001\0", "anoth\0001\0001\0"),
        key="foo:x86_64", next="3-1",
    )  # fmt: skip


FAMILIES = {"deb": deb_family, "apk": apk_family, "rpm": rpm_family}


@dataclass
class Gate:
    """What comes of one update that is planned, composed, perhaps edited, and proven."""

    folder: Path

    def prove(self, family: Family, *edits: Edit, findings: Sequence[Finding] = (), kept: Sequence[str] = ()) -> Proof:
        return prove(*self.stage(family, *edits, findings=findings, kept=kept))

    def stage(
        self, family: Family, *edits: Edit, findings: Sequence[Finding] = (), kept: Sequence[str] = ()
    ) -> tuple[Job, Plan, ComposedLayer]:
        """`kept` are packages that the plan says to leave as they are."""
        files = {**family.image, **ACCOUNTS}.items()
        base = make_tar(
            [
                *(_item(path, data) for path, data in files),
                tar_file("usr/share/gonelink", type=tarfile.SYMTYPE, linkname="f"),
            ]
        )
        before = stack(base)
        inventories = {one.package_type: one for one in detect_databases(before, "deb")}
        database = inventories[family.package_type]
        made, packages = family.compose(self.folder, base)
        changes = made.changes
        for edit in edits:
            changes = replace(changes, entries=edit(changes.entries))
        skipped = [
            Skipped(package=one, reason=SkipReason.HELD, detail="") for one in database.packages() if one.name in kept
        ]
        section = Section(
            package_type=family.package_type, updates=tuple(one.update for one in packages), skipped=tuple(skipped)
        )
        matched, _ = match_inventories(findings, [database])
        layer = finish_layer(changes, self._request(family, packages), self.folder, Slots("test", 2))
        return (
            _job(before, tuple(inventories.values())),
            replace(plan(), sections=(section,), matched=matched),
            ComposedLayer(
                layer=layer,
                notes=made.notes,
                unchanged=changes.unchanged,
                explanation=Explanation(packages={family.package_type: made.packages}, effects=changes.effects),
                checksums={family.package_type: made.checksums},
            ),
        )

    def refused(self, family: Family, *edits: Edit, findings: Sequence[Finding] = ()) -> str:
        with pytest.raises(VerificationError) as caught:
            self.prove(family, *edits, findings=findings)
        return str(caught.value)

    @staticmethod
    def _request(family: Family, packages: Sequence[FetchedPackage]) -> LayerRequest:
        return LayerRequest(
            packages={family.package_type: tuple(packages)}, epoch=0, compression="none", media_type=OCI_LAYER
        )


def _job(fs: object, inventories: Sequence[PackageDatabase]) -> Job:
    """With what the gate asks of a job."""
    opened = SimpleNamespace(fs=fs, inventories=inventories, own=inventories[0])
    return cast(Job, SimpleNamespace(opened=opened, session=SimpleNamespace(progress=Silent())))


def _item(path: str, data: bytes | str) -> TarItem:
    mode = {**OLD, **OTHER}[path].mode if path in {**OLD, **OTHER} else 0o644
    return tar_file(path, data, mode=mode, type=tarfile.REGTYPE)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    made: Family = FAMILIES[request.param]()
    return made


def test_what_the_embedded_engine_makes_passes_without_a_word(gate: Gate, family: Family) -> None:
    proof = gate.prove(family)

    assert proof.notes == ()
    assert {package.name: package.version[0] for package in proof.inventories[0].packages()} == {
        "foo": "2",
        "other": "1",
    }


SABOTAGE: dict[str, tuple[Edit, str]] = {
    "a file is missing": (drop("usr/share/f"), "foo: usr/share/f is missing in the result"),
    "a directory is missing": (drop("var/lib/foo"), "foo: var/lib/foo is missing in the result"),
    "a link is missing": (drop("usr/share/link"), "usr/share/link is missing in the result"),
    "a file is the old one": (drop("usr/bin/foo", "usr/bin/foo2"), "foo: usr/bin/foo"),
    "a file has another content": (write("usr/share/f", b"evil"), "foo: usr/share/f has the "),
    "a linked file has another content": (write("usr/bin/foo", b"evil"), "foo: usr/bin/foo has the "),
    "an additional setuid file": (add("usr/bin/evil", mode=0o4755), "usr/bin/evil is in the new layer, and no package"),
    "a file is for all to write, and setuid": (alter("usr/bin/foo", mode=0o4777), "usr/bin/foo has the mode 4777"),
    "a file has another owner": (alter("usr/bin/foo", uid=1234), "usr/bin/foo belongs to 1234:0 instead of 0:0"),
    "a file of the old version stays": (drop("usr/share/gone"), "usr/share/gone of foo 1"),
    "a link of the old version stays": (drop("usr/share/gonelink"), "usr/share/gonelink of foo 1"),
    "the accounts are gone": (take("etc/passwd"), "etc/passwd"),
    "another package's file is gone": (take("usr/bin/other"), "usr/bin/other of other, which the plan leaves alone"),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_what_is_not_as_the_package_says_is_refused(gate: Gate, family: Family, name: str) -> None:
    edit, message = SABOTAGE[name]

    assert message in gate.refused(family, edit)


def test_a_database_that_knows_nothing_of_the_update_is_refused(gate: Gate, family: Family) -> None:
    expected = f"{family.key}: expected {family.next.replace('3', '2')}, found {family.next.replace('3', '1')}"

    assert gate.refused(family, rewrite(family.database, *family.older)).startswith(expected)


def test_a_package_that_nobody_planned_is_refused(gate: Gate, family: Family) -> None:
    assert ": expected nothing, found 1" in gate.refused(family, rewrite(family.database, *family.renamed))


def test_without_a_database_nothing_is_proven(gate: Gate, family: Family) -> None:
    assert "no package database" in gate.refused(family, take(family.database))


def test_a_package_that_is_not_configured_is_refused(gate: Gate) -> None:
    unfinished = rewrite("var/lib/dpkg/status", "install ok installed", "install ok half-configured")

    assert gate.refused(deb_family(), unfinished) == "foo 2 is half-configured in the result"


@pytest.mark.parametrize(
    ("make", "needs", "message"),
    [
        (deb_family, "foo (= 1)", "the result breaks a dependency: other Depends foo (= 1), "),
        (apk_family, "foo=1-r0", "the result breaks a dependency: other"),
        (rpm_family, "foo = 1-1", "the result breaks a dependency: other"),
    ],
)
def test_what_needs_the_old_version_is_broken_by_the_new_one(
    gate: Gate, make: Callable[..., Family], needs: str, message: str
) -> None:
    assert gate.refused(make(needs=needs)).startswith(message)


def test_what_was_broken_before_is_no_matter(gate: Gate) -> None:
    assert gate.prove(deb_family(needs="nosuch (>= 1)")).notes == ()


def about(family: Family, package: str, fixed: str) -> Finding:
    return finding(package, fixed, package_type=family.package_type, fixed_is_source=False)


def test_a_finding_is_closed_by_the_version_that_fixes_it(gate: Gate, family: Family) -> None:
    proof = gate.prove(family, findings=[about(family, "foo", family.next.replace("3", "2"))])

    assert proof.matched is not None
    assert [one.status for one in proof.matched] == [FindingStatus.ALREADY_FIXED]


@pytest.mark.parametrize("package", ["foo", "other"])
def test_a_finding_that_a_later_version_fixes_is_not_closed(gate: Gate, family: Family, package: str) -> None:
    message = gate.refused(family, findings=[about(family, package, family.next)])

    assert message == f"CVE-2026-0001 is not fixed in the result: {package} needs {family.next}"


def test_a_finding_that_nothing_fixes_is_no_matter(gate: Gate, family: Family) -> None:
    unfixed = finding("foo", package_type=family.package_type)

    proof = gate.prove(family, findings=[unfixed, about(family, "nosuch", "1")])

    assert proof.matched is not None
    assert [one.status for one in proof.matched] == [FindingStatus.NO_FIX, FindingStatus.NOT_INSTALLED]


def test_a_finding_of_a_package_that_stays_may_stay(gate: Gate, family: Family) -> None:
    proof = gate.prove(family, findings=[about(family, "other", family.next)], kept=["other"])

    assert proof.matched is not None
    assert [one.status for one in proof.matched] == [FindingStatus.FIXABLE]


def test_of_a_layer_that_was_proven_before_the_inventory_is_looked_at_again_and_its_notes_stay(
    gate: Gate, family: Family
) -> None:
    job, plan, composed = gate.stage(family, findings=[about(family, "foo", family.next.replace("3", "2"))])
    known = replace(composed, proven=prove(job, plan, composed).layer, notes=("a script did something",))

    proof = prove(job, plan, known)

    assert proof.notes == ("a script did something",)
    assert proof.layer is known.proven
    assert proof.matched is not None
    assert [one.status for one in proof.matched] == [FindingStatus.ALREADY_FIXED]
    assert [package.version[0] for package in proof.inventories[0].packages()] == ["2", "1"]
    with pytest.raises(VerificationError, match="found nothing in the result|expected 1"):
        prove(job, replace(plan, sections=()), known)


# -- an image with several databases -------------------------------------------------------------------------

BASE = installed_files([Deb(name="base", version="1", architecture="amd64", files={"usr/bin/base": file("base")})])


def beside(family: Family) -> Family:
    """Another family's packages in a Debian image."""
    return replace(family, image={**family.image, **BASE})


def test_the_distribution_s_own_database_is_looked_at_though_nothing_is_planned_for_it(gate: Gate) -> None:
    proof = gate.prove(beside(apk_family()))

    assert [one.package_type for one in proof.inventories] == ["deb", "apk"]


NEWER = put("var/lib/dpkg/status", str(BASE["var/lib/dpkg/status"]).replace("Version: 1", "Version: 2"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (take("var/lib/dpkg/status"), "the result has no package database of the image's own kind"),
        (NEWER, "base:amd64: expected 1, found 2 in the result"),
    ],
)
def test_what_is_planned_for_one_database_changes_no_other(gate: Gate, edit: Edit, message: str) -> None:
    assert gate.refused(beside(apk_family()), edit) == message


def test_a_database_that_nothing_is_planned_for_and_that_is_not_the_distribution_s_is_left_aside(gate: Gate) -> None:
    apks = {path: data for path, data in apk_family().image.items() if path.startswith("lib/apk/")}
    debs = deb_family()

    proof = gate.prove(replace(debs, image={**apks, **debs.image}))

    assert [one.package_type for one in proof.inventories] == ["deb"]
