# SPDX-License-Identifier: Apache-2.0
"""One package's fault is that package's: it is left as it is, by name and with the reason, and the others are updated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import copacetic
from copacetic.cli import main
from copacetic.errors import FixesMissingError, IntegrityError
from copacetic.oci.layout import LayoutSource
from copacetic.repository import RepositorySettings
from copacetic.request import Strategy
from copacetic.updates import FindingStatus, SkipReason
from support.apk.apkrepo import apk_image, serve_apks
from support.apk.apks import Apk, Item
from support.deb import aptrepo
from support.deb.aptrepo import debian_image, serve_repository, write_image
from support.deb.debs import Deb, Member, archive, directory, file, symlink
from support.image.images import make_image, make_layer
from support.server.served import Served
from support.value.values import HERE

TAKEN, MINE = "usr/lib/shared", "usr/bin/bad"


@dataclass(frozen=True)
class Family:
    """Packages `good`, `bad` and `other` of version 1 in an image; a repository offers 2 of the first two."""

    kind: str
    one: str
    two: str

    def package(self, name: str, version: str, files: Mapping[str, Member], **more: Any) -> Any:
        if self.kind == "deb":
            return Deb(name=name, version=version, architecture="amd64", files=files, **more)
        return Apk(name=name, version=version, files=files, **more)

    def serve(self, packages: Sequence[Any]) -> Any:
        return serve_repository(packages) if self.kind == "deb" else serve_apks(packages)

    def image(self, folder: Path, repository: Any, more: Mapping[str, bytes | str] | None = None) -> str:
        old = [
            self.package("good", self.one, {"usr/bin/good": file("old")}),
            self.package("bad", self.one, {MINE: file("old")}),
            self.package("other", self.one, {TAKEN: file("other's")}),
        ]
        if self.kind == "deb":
            return write_image(folder, debian_image(repository, old, more=more))
        return write_image(folder, make_image([make_layer(apk_image(repository, old, more=more))]))


FAMILIES = [Family("deb", "1.0-1", "2.0-1"), Family("apk", "1-r0", "2-r0")]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.kind)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@dataclass
class Case:
    """What a repository offers, and what came of it."""

    family: Family
    folder: Path
    location: str

    @property
    def settings(self) -> copacetic.Settings:
        return copacetic.Settings(cache_dir=self.folder / "cache", repository=RepositorySettings(reach=HERE))

    def report(self, *names: str) -> Path:
        path = self.folder / "report.json"
        rows = [
            {"VulnerabilityID": f"CVE-{name}", "PkgName": name, "InstalledVersion": self.family.one}
            | {"FixedVersion": self.family.two}
            for name in names
        ]
        family = "debian" if self.family.kind == "deb" else "alpine"
        results = [{"Class": "os-pkgs", "Type": family, "Vulnerabilities": rows}]
        path.write_text(json.dumps({"SchemaVersion": 2, "Metadata": {"OS": {"Family": family}}, "Results": results}))
        return path

    def plan(self, **request: Any) -> copacetic.Plan:
        asked = copacetic.PatchRequest(image=self.location, strategy=Strategy.UNPACK, **request)
        (made,) = copacetic.plan(asked, settings=self.settings).plans
        return made

    def patch(self, **request: Any) -> copacetic.Outcome:
        asked = copacetic.PatchRequest(
            image=self.location, destination=f"oci:{self.folder / 'out'}:1", strategy=Strategy.UNPACK, **request
        )
        return copacetic.patch(asked, settings=self.settings)


@pytest.fixture
def offered(tmp_path: Path, family: Family) -> Iterator[Callable[..., Case]]:
    """Serve good 2 and a bad 2, until the test ends."""
    with ExitStack() as stack:

        def make(
            bad: Any, more: Mapping[str, bytes | str] | None = None, alter: Callable[[Any], object] = lambda _: None
        ) -> Case:
            good = family.package("good", family.two, {"usr/bin/good": file("new")})
            repository = stack.enter_context(family.serve([good, bad]))
            alter(repository)
            return Case(family, tmp_path, family.image(tmp_path / "in", repository, more))

        yield make


class HostileDeb(Deb):
    """Leaves its place."""

    def to_bytes(self) -> bytes:
        return archive(self.control_members(), [("./", directory()), ("./../evil", file("x"))])


def leave_place(entries: list[Item]) -> None:
    entries.append(("../../evil", Member(content=b"x"), {}))


def takes_another_s_file(family: Family) -> Any:
    return family.package("bad", family.two, {MINE: file("new"), TAKEN: file("bad's")})


def takes_another_s_file_with_a_link(family: Family) -> Any:
    """Which no list of checksums tells beforehand."""
    return family.package("bad", family.two, {MINE: file("new"), TAKEN: symlink("elsewhere")})


def has_no_place(family: Family) -> Any:
    more: dict[str, Any] = {"conffiles": ("/srv/data",)} if family.kind == "deb" else {}
    return family.package("bad", family.two, {MINE: file("new"), "srv/data": file("x")}, **more)


def is_hostile(family: Family) -> Any:
    if family.kind == "deb":
        return HostileDeb(name="bad", version=family.two, architecture="amd64", files={MINE: file("new")})
    return family.package("bad", family.two, {MINE: file("new")}, alter=leave_place)


def brings_the_database(family: Family) -> Any:
    record = "var/lib/dpkg/status" if family.kind == "deb" else "lib/apk/db/installed"
    return family.package("bad", family.two, {MINE: file("new"), record: file("P:none\n")})


def is_fine(family: Family) -> Any:
    return family.package("bad", family.two, {MINE: file("new")})


def file_of(repository: Served) -> str:
    return next(path for path in repository.files if "/bad" in path and path.endswith((".deb", ".apk")))


def gone(repository: Any) -> None:
    del repository.files[file_of(repository)]


def damaged(repository: Any) -> None:
    path = file_of(repository)
    repository.files[path] = repository.files[path][:-9] + b"damaged!!"


def longer(repository: Any) -> None:
    repository.files[file_of(repository)] += b"x"


def unreadable_row(repository: Any) -> None:
    """The index's row of `bad` has no size that is one."""
    if isinstance(repository, aptrepo.Repository):
        text = repository.files["dists/stable-security/main/binary-amd64/Packages"].decode()
        stanzas = [s.replace("Size: ", "Size: x") if "Package: bad" in s else s for s in text.split("\n\n")]
        repository.publish(packages="\n\n".join(stanzas))
    else:
        good = Apk(name="good", version="2-r0", files={"usr/bin/good": file("new")})
        bad = Apk(name="bad", version="2-r0", files={MINE: file("new")})
        repository.publish([good], rows=[{**bad.row(), "S": "x"}])


SRV = {"srv/data/x": "a folder where a file belongs"}
FAULTS = [
    pytest.param(takes_another_s_file, None, None, SkipReason.CONFLICT, TAKEN, id="conflict"),
    pytest.param(takes_another_s_file_with_a_link, None, None, SkipReason.CONFLICT, TAKEN, id="conflicting link"),
    pytest.param(has_no_place, SRV, None, SkipReason.CONFLICT, "srv/data", id="no place"),
    pytest.param(is_hostile, None, None, SkipReason.BROKEN, "evil", id="hostile"),
    pytest.param(brings_the_database, None, None, SkipReason.BROKEN, "own record", id="database"),
    pytest.param(is_fine, None, gone, SkipReason.BROKEN, "answers 404", id="gone"),
    pytest.param(is_fine, None, unreadable_row, SkipReason.BROKEN, "no usable", id="unreadable row"),
]
UNPROVEN = [pytest.param(damaged, "expected the", id="digest"), pytest.param(longer, "bytes", id="size")]


@pytest.mark.parametrize(("make", "more", "alter", "reason", "words"), FAULTS)
def test_a_fault_of_one_package_leaves_it_as_it_is_by_name(
    offered: Callable[..., Case], family: Family, make: Any, more: Any, alter: Any, reason: SkipReason, words: str
) -> None:
    case = offered(make(family), more, alter or (lambda _: None))

    outcome = case.patch(reports=(case.report("good", "bad"),), ignore_errors=True)

    (platform,) = outcome.platforms
    assert platform.plan is not None
    assert [update.candidate.name for update in platform.plan.updates] == ["good"]
    (skipped,) = platform.plan.skipped
    assert (skipped.package.name, skipped.reason) == ("bad", reason)
    assert words in skipped.detail
    assert [finding.vulnerability_id for finding in skipped.findings] == ["CVE-bad"]
    assert [m.finding.package for m in platform.still_open] == ["bad"]
    assert [m.finding.package for m in platform.closed] == ["good"]
    assert platform.still_open[0].status is FindingStatus.FIXABLE
    assert platform.verified


@pytest.mark.parametrize(("make", "more", "alter", "reason", "words"), FAULTS)
def test_a_fix_that_a_fault_keeps_away_is_a_failure_with_a_report(
    offered: Callable[..., Case], family: Family, make: Any, more: Any, alter: Any, reason: SkipReason, words: str
) -> None:
    case = offered(make(family), more, alter or (lambda _: None))

    with pytest.raises(FixesMissingError, match=f"bad {family.one} can't be updated: .*{words}") as caught:
        case.patch(reports=(case.report("good", "bad"),))

    assert caught.value.exit_code == 4
    assert not (case.folder / "out").exists()


@pytest.mark.parametrize(("make", "more", "alter", "reason", "words"), FAULTS)
def test_without_a_report_what_has_no_place_is_kept_back_and_what_is_broken_is_a_failure(
    offered: Callable[..., Case], family: Family, make: Any, more: Any, alter: Any, reason: SkipReason, words: str
) -> None:
    case = offered(make(family), more, alter or (lambda _: None))

    if reason is SkipReason.CONFLICT:
        assert case.patch().changed
    else:
        with pytest.raises(FixesMissingError, match=f"bad {family.one} can't be updated"):
            case.patch()


@pytest.mark.parametrize(("alter", "words"), UNPROVEN)
def test_a_file_that_is_not_what_the_index_promises_is_loud_and_is_left_out_only_on_request(
    offered: Callable[..., Case], family: Family, alter: Any, words: str
) -> None:
    case = offered(is_fine(family), None, alter)

    for ask in (case.patch, case.plan):
        with pytest.raises(IntegrityError, match=words) as caught:
            ask(reports=(case.report("good", "bad"),))
        assert "bad" in str(caught.value)
        assert "--ignore-errors" in str(caught.value.hint)
    assert not (case.folder / "out").exists()

    (platform,) = case.patch(reports=(case.report("good", "bad"),), ignore_errors=True).platforms
    assert platform.plan is not None
    assert [(s.package.name, s.reason) for s in platform.plan.skipped] == [("bad", SkipReason.BROKEN)]
    assert [m.finding.package for m in platform.closed] == ["good"]


def test_several_faults_are_named_together(offered: Callable[..., Case], family: Family) -> None:
    def both_gone(repository: Any) -> None:
        for path in [path for path in repository.files if path.endswith((".deb", ".apk"))]:
            del repository.files[path]

    case = offered(is_fine(family), None, both_gone)

    made = case.plan()

    assert made.updates == ()
    assert {(s.package.name, s.reason) for s in made.skipped} == {
        ("good", SkipReason.BROKEN), ("bad", SkipReason.BROKEN)
    }  # fmt: skip


def test_what_needs_a_faulty_new_package_is_left_with_it(offered: Callable[..., Case], family: Family) -> None:
    def publish(repository: Any) -> None:
        fresh = family.package("fresh", family.two, {TAKEN: file("fresh's")})
        needs: dict[str, Any] = {"fields": {"Depends": "fresh"}} if family.kind == "deb" else {"depends": ("fresh",)}
        good = family.package("good", family.two, {"usr/bin/good": file("new")})
        repository.publish([good, family.package("bad", family.two, {MINE: file("new")}, **needs), fresh])

    case = offered(is_fine(family), None, publish)

    (platform,) = case.patch(reports=(case.report("good", "bad"),), ignore_errors=True).platforms

    assert platform.plan is not None
    assert [update.candidate.name for update in platform.plan.updates] == ["good"]
    (skipped,) = platform.plan.skipped
    assert (skipped.package.name, skipped.reason) == ("bad", SkipReason.DEPENDENCY)
    assert [note for note in platform.plan.notes if note.startswith(f"fresh {family.two} is left out: ")]


def test_the_command_line_says_it_in_one_line(
    offered: Callable[..., Case], family: Family, capsys: pytest.CaptureFixture[str]
) -> None:
    case = offered(takes_another_s_file(family))
    arguments = ["-i", case.location, "--cache-dir", str(case.folder / "cache"), "--strategy", "unpack"]
    target = f"oci:{case.folder / 'out'}:1"

    assert main(["patch", *arguments, "-r", str(case.report("good", "bad")), "--to", target]) == 4
    first, *_ = capsys.readouterr().err.splitlines()[-2:]
    assert first.startswith(f"error: bad {family.one} can't be updated: bad {family.two}")
    assert main(["patch", *arguments, "--to", target]) == 0
    assert "left: bad" in capsys.readouterr().err
    assert LayoutSource(case.folder / "out", "1").root()


def test_a_repository_that_is_left_out_is_named_by_the_summary_and_none_that_is_left_is_an_error(
    family: Family, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = family.package("good", family.two, {"usr/bin/good": file("new")})
    with family.serve([good]) as repository:
        gone = f"{repository.address}/gone"
        if family.kind == "deb":
            lists = {"etc/apt/sources.list.d/other.list": f"deb {gone} other main\n"}
        else:
            lists = {"etc/apk/repositories": f"{repository.address}/alpine/v3.19/main\n{gone}\n"}
        image = family.image(tmp_path / "in", repository, lists)
        command = ["patch", "-i", image, "--to", f"oci:{tmp_path}/out:1", "--ignore-errors"]

        assert main([*command, "--cache-dir", str(tmp_path / "cache")]) == 0
        assert f"note: {gone}" in (said := capsys.readouterr().err)
        assert " is left out: " in said

        repository.files.clear()
        assert main([*command, "--cache-dir", str(tmp_path / "cache-2")]) == 1
        assert "nothing to update" not in capsys.readouterr().err
