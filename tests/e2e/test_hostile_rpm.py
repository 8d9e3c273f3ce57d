# SPDX-License-Identifier: Apache-2.0
"""rpm packages, databases and repositories that mean harm: one clear line, and nothing is published."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from copacetic.errors import CopaError
from copacetic.oci.layerindex import unpack_text
from copacetic.request import Strategy
from copacetic.rpm import tags
from copacetic.rpm.header import number_entry, text_entry
from copacetic.updates import SkipReason
from support.builder.execcase import Case
from support.image.images import Image, make_image, make_layer, tar_file
from support.rpm.rpmbuilds import TRIGGER_IN, Build, Shipped, Trigger, a_file, a_folder, a_link, pack_member
from support.rpm.rpmdbs import make_files, make_header
from support.rpm.rpmimage import installed_builds, installed_headers, signed
from support.rpm.rpmrepo import RpmServer, rpm_image, serve_rpms
from support.value.replacing import replace

FOO = a_file("/usr/bin/foo", "new\n", mode=0o755)
OLD = Build("foo", architecture="x86_64", files=[a_file("/usr/bin/foo", "old\n", mode=0o755)])
OTHER = Build("other", architecture="x86_64", files=[a_file("/usr/bin/other", "other\n", mode=0o755)])
NOBODYS = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}
LINKS = {"usr/linked": "../var/lib/rpm"}


def new(*files: Shipped, **more: object) -> Build:
    return Build("foo", version="2", architecture="x86_64", files=files or [FOO], **more)  # type: ignore[arg-type]


def packed(*members: bytes) -> bytes:
    return b"".join((*members, pack_member(Shipped("TRAILER!!!", b""), 0, b"")))


def member(one: Shipped, name: bytes | None = None) -> bytes:
    return pack_member(one, 1000, one.data, name=name)


def image_of(files: Mapping[str, object]) -> Image:
    items = [tar_file(path, data) for path, data in {**files, **NOBODYS}.items() if isinstance(data, str | bytes)]
    links = [tar_file(path, type=tarfile.SYMTYPE, linkname=target) for path, target in LINKS.items()]
    folders = {parent for item, _ in [*items, *links] for parent in map(str, Path(item.name).parents)} - {"."}
    made = [tar_file(path, type=tarfile.DIRTYPE, mode=0o755) for path in sorted(folders)]
    return make_image([make_layer([*made, *items, *links])])


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


@pytest.fixture
def served() -> Iterator[RpmServer]:
    with serve_rpms() as repository:
        yield repository


def attacked(served: RpmServer, database: Mapping[str, bytes] | None = None, *packages: Build) -> Image:
    """An image with foo 1 and other 1, and a repository with what is given."""
    served.publish([signed(package) for package in packages or (new(),)])
    return image_of({**rpm_image(served), **(database or installed_builds([OLD, OTHER]))})


REFUSED: dict[str, tuple[Build, str]] = {
    "another file in the payload": (
        new(payload=packed(member(FOO), member(a_file("/etc/shadow", "x")))),
        "'./etc/shadow' is in its payload, and not in its header's list of files",
    ),
    "a way out of the root": (
        new(payload=packed(member(FOO), member(FOO, b"./../x"))),
        "'./../x' is in its payload, and not in its header's list of files",
    ),
    "other bytes than in the header": (
        new(payload=packed(member(a_file("/usr/bin/foo", "evl\n")))),
        "has another digest than its header says",
    ),
    "a link instead of the header's file": (
        new(payload=packed(member(a_link("/usr/bin/foo", "/a")))),
        "'usr/bin/foo' has 2 bytes, and 4 by its header",
    ),
    "a name that takes a file away": (new(FOO, a_file("/usr/bin/.wh.other")), "'usr/bin/.wh.other' is a name that"),
    "a name that empties a folder": (new(FOO, a_file("/etc/.wh..wh..opq")), "'etc/.wh..wh..opq' is a name that"),
    "a folder of such a name": (new(FOO, a_folder("/etc/.wh.d")), "'etc/.wh.d' is a name that"),
    "a socket": (new(FOO, Shipped("/usr/s", mode=stat.S_IFSOCK | 0o600)), "'usr/s' is a socket, which no layer holds"),
    "the database": (
        new(FOO, a_file("/var/lib/rpm/rpmdb.sqlite")),
        "'var/lib/rpm/rpmdb.sqlite' is the package manager's own record, which no package may ship",
    ),
    "what sqlite would take for its log": (
        new(FOO, a_file("/var/lib/rpm/rpmdb.sqlite-wal")),
        "'var/lib/rpm/rpmdb.sqlite-wal' is the package manager's own record",
    ),
    "the database behind a link of the image": (
        new(FOO, a_file("/usr/linked/rpmdb.sqlite")),
        "'usr/linked/rpmdb.sqlite' leads to var/lib/rpm/rpmdb.sqlite, the package manager's own record",
    ),
    "a file behind its own link": (
        new(FOO, a_link("/usr/q", "/etc"), a_file("/usr/q/passwd")),
        "'usr/q/passwd' lies behind 'usr/q', which is not a directory",
    ),
    "a path that is too deep": (new(FOO, a_file("/usr/" + "a/" * 256 + "x")), "a path of 258 parts"),
    "a name that is too long": (new(FOO, a_file("/usr/" + "a" * 256)), "a name of more than 255 bytes"),
    "capabilities that nobody knows": (
        new(FOO, a_file("/usr/bin/c", capabilities="cap_evil=ep")),
        "'cap_evil=ep' are no capabilities of a file",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_package_that_means_harm_is_left_out_by_name_and_what_is_wrong_with_it(
    name: str, case: Case, served: RpmServer
) -> None:
    package, message = REFUSED[name]

    error = case.refused(CopaError, attacked(served, None, package), Strategy.UNPACK)

    assert str(error).startswith("foo 1-1 can't be updated: foo 2-1: ")
    assert message in str(error)
    assert error.exit_code == 4


def test_triggers_that_don_t_fit_each_other_keep_their_package_out(case: Case, served: RpmServer) -> None:
    package = new(triggers=[Trigger(TRIGGER_IN, "other", "true\n")], extra=[number_entry(tags.TRIGGER_INDEXES, [1])])

    error = case.refused(CopaError, attacked(served, None, package), Strategy.UNPACK)

    assert str(error) == "foo 1-1 can't be updated: foo: the triggers in its header don't fit each other"
    assert error.exit_code == 4


def test_another_package_s_file_keeps_an_update_out_and_no_other(case: Case, served: RpmServer) -> None:
    thief = new(FOO, a_file("/usr/bin/other", "evil\n"))
    image = attacked(served, None, thief, replace(OTHER, version="2", files=[a_file("/usr/bin/other", "newer\n")]))

    (platform,) = case.patch(image, Strategy.UNPACK).platforms

    assert platform.plan is not None
    (section,) = platform.plan.sections
    assert [update.candidate.name for update in section.updates] == ["other"]
    assert [(str(one.package.key), one.reason) for one in section.skipped] == [("foo:x86_64", SkipReason.CONFLICT)]
    assert "usr/bin/other is another file of other" in section.skipped[0].detail
    assert "usr/bin/foo" not in case.layer_paths()


def test_rights_come_from_the_header_that_is_signed_and_not_from_the_payload(case: Case, served: RpmServer) -> None:
    package = new(payload=packed(member(a_file("/usr/bin/foo", "new\n", mode=0o4755))))

    case.patch(attacked(served, None, package), Strategy.UNPACK)

    assert [row.mode for row in case.layer_rows() if unpack_text(row.path) == "usr/bin/foo"] == [0o755]


@pytest.mark.parametrize("name", ["-foo", "--nogpgcheck", "a b", "a\x1b[31m", "a\nb", "../x", "a/b", "f" * 300])
def test_a_name_that_no_package_has_is_read_from_no_database(name: str, case: Case, served: RpmServer) -> None:
    database = make_files("sqlite", [*installed_headers([OLD]), make_header(name)])

    error = case.refused(CopaError, attacked(served, database))

    assert str(error).startswith(f"var/lib/rpm/rpmdb.sqlite: package 2: not a package name: {name[:100]!r}")
    assert error.exit_code == 3


@pytest.mark.parametrize("versions", [("1", "1"), ("1", "0.5")])
def test_a_package_that_is_there_twice_is_not_updated_by_half(
    versions: Sequence[str], case: Case, served: RpmServer
) -> None:
    headers = installed_headers([replace(OLD, version=version) for version in versions])

    error = case.refused(CopaError, attacked(served, make_files("sqlite", headers)))

    assert "2-1 would also take the place of foo" in str(error)


def test_texts_in_odd_encodings_are_no_matter(case: Case, served: RpmServer) -> None:
    odd = make_header(
        "odd", "1-1", "x86_64", text_entry(tags.VENDOR, "\udce9\x1b[31m"), text_entry(tags.SUMMARY, "\udcff")
    )
    database = make_files("sqlite", [*installed_headers([OLD]), odd])

    (platform,) = case.patch(attacked(served, database), Strategy.UNPACK).platforms

    assert platform.verified


def test_of_two_databases_the_distribution_s_own_changes(case: Case, served: RpmServer) -> None:
    served.publish([signed(new())])
    status = "Package: d\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nMaintainer: x\n\n"
    files = {**rpm_image(served), **installed_builds([OLD, OTHER]), "var/lib/dpkg/status": status}

    (platform,) = case.patch(image_of(files), Strategy.UNPACK).platforms

    assert platform.verified
    assert platform.plan is not None
    assert "the deb packages in var/lib/dpkg/status (1) aren't the distribution's own" in platform.plan.image_notes[0]
    assert not any(path.startswith("var/lib/dpkg") for path in case.layer_paths())


def test_a_package_altered_after_it_was_published_is_refused(case: Case, served: RpmServer) -> None:
    image = attacked(served)
    path = next(path for path in served.files if path.endswith(".rpm"))
    served.files[path] = served.files[path][:-3] + b"evl"

    error = case.refused(CopaError, image)

    assert "expected the SHA-256" in str(error)
    assert error.exit_code == 1
