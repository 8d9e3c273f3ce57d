# SPDX-License-Identifier: Apache-2.0
"""Package files: read when they are honest, refused with their name when they are not."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import CopaError, PackageError
from copacetic.inventory.dpkg.archive import DebArchive
from copacetic.oci.filesystem import FileType
from copacetic.unpack.deb.payload import DebEntry, read_checksums, spool_payload
from support.deb.debian import need
from support.deb.debs import Deb, Member, ar, archive, directory, file, hardlink, symlink, tar

FILES = {
    "usr/bin/tool": file("#!/bin/sh\n", 0o4755),
    "usr/bin/other": hardlink("./usr/bin/tool"),
    "usr/lib/" + "long/" * 40 + "name": file(b"\0" * 3_000),
    "usr/lib/link": symlink("../bin/tool"),
    "usr/share/empty": directory(0o1777),
    "usr/share/nothing": file(""),
}


def spool(path: Path, *, installed_size: int = 0) -> tuple[DebEntry, ...]:
    return spool_payload(DebArchive.open(path), path.with_suffix(".spool"), installed_size=installed_size)


@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd", "bzip2"])
def test_every_compression_is_read(compression: str, tmp_path: Path) -> None:
    path = Deb(files=FILES, compression=compression, scripts={"postinst": "#!/bin/sh\n"}).write(tmp_path)

    control = DebArchive.open(path).read_control()
    entries = {entry.path: entry for entry in spool(path)}

    assert set(control.files) == {"control", "md5sums", "postinst"}
    assert control.executable == {"postinst"}
    assert control.newest_mtime == 1_700_000_000
    assert entries["usr/bin/tool"].mode == 0o4755
    assert entries["usr/bin/other"].hardlink == "usr/bin/tool"
    assert entries["usr/lib/link"].target == "../bin/tool"
    assert entries["usr/share/empty"].type is FileType.DIRECTORY
    assert entries[""].type is FileType.DIRECTORY


def test_content_is_a_window_of_the_spool(tmp_path: Path) -> None:
    for entry in spool(Deb(files=FILES).write(tmp_path)):
        if entry.content is None:
            continue
        with entry.content.path.open("rb") as stream:
            stream.seek(entry.content.offset)
            content = stream.read(entry.content.size)
        assert content == FILES[entry.path].content
        assert entry.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.system
@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "none"])
def test_packages_of_the_real_builder_are_read(compression: str, tmp_path: Path) -> None:
    need("dpkg-deb")
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: real\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <n@example.com>\nDescription: real\n"
    )
    (root / "usr/share").mkdir(parents=True)
    (root / "usr/share/file").write_text("content")
    (root / "usr/share/link").symlink_to("file")
    path = tmp_path / "real.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", root, path], check=True)

    listed = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(listed)) as expected:
        names = [member.name.removeprefix(".").strip("/") for member in expected]

    assert [entry.path for entry in spool(path)] == names
    assert b"Package: real" in DebArchive.open(path).read_control().files["control"]


def test_checksums_are_read_without_the_rest(tmp_path: Path) -> None:
    path = Deb(files={"etc/a": file("1"), "usr/z": file("2")}, compression="none").write(tmp_path)
    path.write_bytes(path.read_bytes()[:-4_096].ljust(path.stat().st_size, b"\xff"))

    assert read_checksums(DebArchive.open(path), ["etc/a"], installed_size=0) == {
        "etc/a": hashlib.md5(b"1").hexdigest()
    }


CONTROL = tar([("./control", file("Package: x\n"))])
DATA = tar([("./", directory())])
BINARY = ("debian-binary", b"2.0\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a Debian package"),
        (b"!<arch>\n", "not a Debian package"),
        (b"PK\x03\x04 something else entirely", "not a Debian package"),
        (ar([("debian-binary", b"3.0\n"), ("control.tar", CONTROL), ("data.tar", DATA)]), "format 2"),
        (ar([("control.tar", CONTROL), BINARY, ("data.tar", DATA)]), "format 2"),
        (ar([BINARY, ("data.tar", DATA), ("control.tar", CONTROL)]), "found 'data.tar' where control.tar belongs"),
        (ar([BINARY, ("control.tar", CONTROL)]), "no data.tar"),
        (ar([BINARY, ("control.tar.lzma", CONTROL), ("data.tar", DATA)]), "where control.tar belongs"),
        (ar([BINARY, ("control.tar", CONTROL), ("data.tar", DATA)])[:-100], "truncated"),
        (ar([BINARY]) + b"x" * 60, "broken ar header"),
    ],
)
def test_what_is_no_package_is_refused_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.deb"
    path.write_bytes(content)

    with pytest.raises(PackageError, match=r"bad\.deb.*" + message):
        DebArchive.open(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("./md5sums", file(""))], "no control file"),
        ([("./control", symlink("/etc/passwd"))], "no place in a control part"),
        ([("./control", file("x")), ("./control", file("y"))], "no place in a control part"),
        ([("./sub/control", file("x"))], "no place in a control part"),
        ([("./../control", file("x"))], "climbs"),
        ([("./CONTROL", file("x"))], "no place in a control part"),
    ],
)
def test_a_control_part_holds_plain_files(members: list[tuple[str, Member]], message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.deb"
    path.write_bytes(archive(members, [("./", directory())]))

    with pytest.raises(PackageError, match=r"bad\.deb.*" + message):
        DebArchive.open(path).read_control()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("./usr/../../etc/passwd", file("x"))], "climbs"),
        ([("../x", file("x"))], "climbs"),
        ([("./dev/sda", Member(type=tarfile.BLKTYPE, device=(8, 0)))], "device"),
        ([("./dev/tty", Member(type=tarfile.CHRTYPE, device=(5, 0)))], "device"),
        ([("./run/pipe", Member(type=tarfile.FIFOTYPE))], "device or a pipe"),
        ([("./usr", symlink("/etc")), ("./usr/passwd", file("x"))], "lies behind 'usr'"),
        ([("./usr", file("x")), ("./usr/passwd", file("x"))], "lies behind 'usr'"),
        ([("./usr/a", file("x")), ("./usr/a", file("y"))], "there twice"),
        ([("./usr/a", hardlink("./etc/shadow"))], "no file of it"),
        ([("./usr/b", symlink("c")), ("./usr/a", hardlink("./usr/b"))], "no file of it"),
        ([("./usr/a", hardlink("../../etc/shadow"))], "climbs"),
        ([("./usr/bin/.wh.passwd", file(""))], r"usr/bin/\.wh\.passwd' is a name that image layers keep for whiteouts"),
        ([("./usr/.wh..wh..opq", directory())], "keep for whiteouts"),
        ([("./usr/.wh.bin/x", file("x"))], "keep for whiteouts"),
        ([("./.wh.etc", symlink("x"))], "keep for whiteouts"),
        (
            [("./var/lib/dpkg/status", file("Package: z\n"))],
            "'var/lib/dpkg/status' is the package manager's own record",
        ),
        ([("./var/lib/dpkg/info/other.postinst", file("#!/bin/sh\n", 0o755))], "the package manager's own record"),
        ([("./var/lib/dpkg/status.d/other", symlink("/etc/x"))], "the package manager's own record"),
        ([("./var/lib/chisel/manifest.wall", file("x"))], "the package manager's own record"),
    ],
)
def test_a_hostile_payload_is_refused(members: list[tuple[str, Member]], message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.deb"
    path.write_bytes(archive([("./control", file("Package: x\n"))], members))

    with pytest.raises(PackageError, match=message):
        spool(path)


def test_absolute_paths_stay_below_the_root(tmp_path: Path) -> None:
    path = tmp_path / "odd.deb"
    path.write_bytes(archive([("./control", file("Package: x\n"))], [("/usr//./a", file("x"))]))

    assert [entry.path for entry in spool(path)] == ["usr/a"]


def test_extended_attributes_are_refused_as_by_dpkg(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as target:
        info = tarfile.TarInfo("./usr/a")
        info.pax_headers = {"SCHILY.xattr.security.capability": "x"}
        target.addfile(info)
    path = tmp_path / "bad.deb"
    path.write_bytes(ar([BINARY, ("control.tar", CONTROL), ("data.tar", buffer.getvalue())]))

    with pytest.raises(PackageError, match="extended attributes"):
        spool(path)


def test_a_bomb_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copacetic.repository.limits.SIZE_FLOOR", 1 << 20)
    path = Deb(files={"usr/bomb": file(bytes(8 << 20))}).write(tmp_path)

    assert path.stat().st_size < 10_000
    with pytest.raises(PackageError, match=r"demo.*more than 1056768 bytes"):
        spool(path, installed_size=4_096)


def test_what_a_package_says_of_itself_is_no_limit(tmp_path: Path) -> None:
    path = Deb(files={"usr/bomb": file(bytes(96 << 20))}, compression="zstd").write(tmp_path)

    with pytest.raises(PackageError, match=r"demo.*more than \d+ bytes"):
        spool(path, installed_size=10**15)
    assert sum(found.stat().st_size for found in tmp_path.rglob("*")) < 80 << 20


TWICE = {
    "a directory after a link": [("./l", symlink("/opt")), ("./l/", directory())],
    "a link after a directory": [("./l/", directory()), ("./l", symlink("/opt"))],
    "a directory after a file": [("./l", file("x")), ("./l/", directory())],
    "a file after what is in it": [("./l/x", file("x")), ("./l", file("y"))],
    "a link after what is in it": [("./l/x/y", file("x")), ("./l", symlink("/opt"))],
    "two files": [("./l", file("x")), ("./l", file("y"))],
}


@pytest.mark.parametrize("members", TWICE.values(), ids=TWICE)
def test_a_path_that_is_there_twice_is_refused_whatever_comes_first(
    members: list[tuple[str, Member]], tmp_path: Path
) -> None:
    """dpkg takes the first, the last or the directory, or fails half-way, by the order: no honest writer asks it."""
    path = tmp_path / "bad.deb"
    path.write_bytes(archive([("./control", file("Package: x\n"))], members))

    with pytest.raises(PackageError, match="'l' is there twice"):
        spool(path)


def test_a_directory_may_be_there_twice_as_for_dpkg(tmp_path: Path) -> None:
    path = tmp_path / "odd.deb"
    path.write_bytes(
        archive([("./control", file("Package: x\n"))], [("./l/", directory()), ("./l/", directory(0o700))])
    )

    assert [(entry.path, entry.mode) for entry in spool(path)] == [("l", 0o700)]


@given(data=st.data())
def test_a_damaged_package_is_an_error_and_nothing_else(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(
        Deb(files={"usr/a": file("x" * 50)}, compression=data.draw(st.sampled_from(["none", "xz"]))).to_bytes()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("deb") / "damaged.deb"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        opened = DebArchive.open(path)
        opened.read_control()
        spool(path)
    except CopaError as error:
        assert "damaged.deb" in str(error)
