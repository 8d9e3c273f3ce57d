# SPDX-License-Identifier: Apache-2.0
"""
Bad input ends in one clear line, a documented exit code, no traceback, and nothing written.

Each case is one call of the command line; what a registry can do wrong is in test_bad_registry.py.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pysequoia import Cert

from copacetic.cli import main
from support.deb.aptrepo import OS_RELEASE, Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debs import Member, archive, directory
from support.image.images import assert_valid_image, make_image, make_layer, tar_file
from support.value.replacing import replace

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


# -- reports ---------------------------------------------------------------------------------------------------------

TRIVY: dict[str, Any] = {"SchemaVersion": 2, "Results": [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": []}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read the report"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello", "is not JSON"),
        (json.dumps(TRIVY).encode()[:-9], "is not JSON"),
        (gzip.compress(json.dumps(TRIVY).encode(), mtime=0)[:-12], "is truncated"),
        (b'{"rows": [], "about": {}}', "is an object with about, rows; supported: trivy"),
        (b'{"SchemaVersion": 7, "Results": []}', "has Trivy's schema version 7"),
        (b'{"SchemaVersion": 2, "Results": [3]}', "Expected `object`, got `int` - at `$.Results[0]`"),
        (
            b'{"SchemaVersion": 2, "Results": [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": 3}]}',
            "Expected `array | null`, got `int` - at `$.Results[0].Vulnerabilities`",
        ),
        (b"[" * 100_000, "is not JSON"),
        (b'{"SchemaVersion": 2, "ArtifactName": "\xff"}', "is not JSON"),
        (b'{"SchemaVersion": [2], "Results": []}', "has Trivy's schema version [2]"),
        (b"null", "is no object"),
    ],
)
def test_a_report_that_is_none(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], content: bytes | None, message: str
) -> None:
    report = tmp_path / "report.json"
    if content is not None:
        report.write_bytes(content)

    error = refuse(2, "-i", write_image(tmp_path / "layout", debian_image(repository, [FOO])), "-r", report)

    assert message in error
    assert str(report) in error


def test_a_report_of_200_megabytes_is_not_read(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str]
) -> None:
    report = tmp_path / "report.json"
    with report.open("wb") as sparse:
        sparse.truncate(200 * 1024 * 1024)

    assert "more than" in refuse(
        2, "-i", write_image(tmp_path / "layout", debian_image(repository, [FOO])), "-r", report
    )


def test_a_report_about_another_image(tmp_path: Path, repository: Repository, refuse: Callable[..., str]) -> None:
    other = "sha256:" + "ab" * 32
    report = tmp_path / "report.json"
    report.write_text(json.dumps({**TRIVY, "Metadata": {"ImageID": other}}))

    error = refuse(2, "-i", write_image(tmp_path / "layout", debian_image(repository, [FOO])), "-r", report)

    assert f"is about another image: it names {other}" in error


def test_hostile_names_and_versions_of_a_report_are_left_out_and_never_used(
    tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"VulnerabilityID": "CVE-1", "PkgName": name, "InstalledVersion": "1", "FixedVersion": version}
        for name, version in (
            ("foo; touch /tmp/pwned", "2"), ("$(reboot)", "2"), ("../../etc/passwd", "2"), ("foo", "2\n--option"),
            ("foo", "`id`"), ("f" * 100_000, "2"), ("foo\x1b[2J", "2"), ("-o", "2"),
        )
    ]  # fmt: skip
    report = tmp_path / "report.json"
    report.write_text(
        json.dumps({**TRIVY, "Results": [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": rows}]})
    )
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))

    code = main(["patch", "-i", image, "-r", str(report), "--to", f"oci:{tmp_path / 'out'}:1", "--no-cache"])

    assert code == 0
    out, err = capsys.readouterr()
    assert (out, (tmp_path / "out").exists()) == ("", False)
    assert "rows left out: 6 with invalid package names, 2 with invalid versions" in err
    assert "\x1b" not in err
    assert repository.requests == []


# -- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "names no repository"),
        ("registry.example/Repo:1", "lower case"),
        ("registry.example/repo:bad tag", "is not a tag"),
        ("registry.example/repo:" + "t" * 129, "is not a tag"),
        ("registry.example/repo@sha256:beef", "not a digest"),
        ("registry.example//repo", "an empty part"),
        ("registry.example:99999/repo", "no port"),
        ("a" * 64, "is an image ID"),
        ("registry.example/re\npo", "in its name"),
        ("containers-storage:repo", "not supported"),
        ("https://registry.example/repo", "not supported"),
        ("oci:", "names no directory"),
    ],
)
def test_a_malformed_reference(refuse: Callable[..., str], reference: str, message: str) -> None:
    assert message in refuse(2, "-i", reference)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--platform", "nonsense"), "not a platform"),
        (("--platform", "linux/s390x"), "has no platform linux/s390x"),
        (("--push",), "exclude each other"),
        (("--pkg-types", "library"), "not supported yet"),
        (("-o", "openvex=x.json"), "not available yet"),
        (("--report", "r.json", "--plan", "p.json"), "exclude each other"),
        (("--plan", "absent.json"), "can't read the plan"),
        (("--timeout", "soon"), "not a duration"),
        (("--compresion", "gzip"), "No such option"),
    ],
)
def test_flags_that_make_no_sense(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    if arguments[0] == "--report":
        (tmp_path / "r.json").write_text(json.dumps(TRIVY))
        arguments = ("--report", str(tmp_path / "r.json"), *arguments[2:])

    assert message in refuse(2, "-i", write_image(tmp_path / "layout", debian_image(repository, [FOO])), *arguments)


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        ("oci:{}/nothing", 1, "is not an OCI layout"),
        ("oci:{}/layout:absent", 1, "there is no tag absent"),
        ("oci-archive:{}/nothing.tar", 1, "there is no archive"),
        ("docker-archive:{}/nothing.tar", 1, "there is no archive"),
        ("oci-archive:{}/text", 3, "not a usable tar"),
        ("docker-archive:{}/text", 3, "not a usable tar"),
    ],
)
def test_a_place_without_an_image(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], reference: str, code: int, message: str
) -> None:
    write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    (tmp_path / "text").write_text("hello\n" * 1_000)

    assert message in refuse(code, "-i", reference.format(tmp_path))


@pytest.mark.parametrize("target", ["oci-archive:{}/nothing/x.tar", "docker-archive:{}/nothing/x.tar"])
def test_a_place_that_can_t_be_written_is_named_with_what_to_do(
    tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    where = target.format(tmp_path)

    assert main(["patch", "-i", image, "--to", where, "--no-cache", "-q"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"error: can't write {where.partition(':')[2]}: No such file or directory",
        "hint: make the folder first",
    ]


# -- images ----------------------------------------------------------------------------------------------------------


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as target:
        for info, data in members:
            target.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no operating system"),
        ({"bin/sh": "x"}, "holds no operating system"),
        ({"etc/os-release": OS_RELEASE}, "has no package database that copacetic knows"),
        ({"etc/os-release": 'ID=nixos\nPRETTY_NAME="NixOS"'}, "NixOS) has no package database"),
        ({"etc/os-release": "nothing"}, "no usable ID"),
        ({"var/lib/dpkg/status": "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"}, "no etc/os-release"),
        ({"etc/os-release": OS_RELEASE, "var/lib/dpkg/status": "Package: a\nbroken\n"}, "var/lib/dpkg/status: line 2"),
        ({"etc/os-release": OS_RELEASE, "var/lib/dpkg/status": "Package: ../a\nStatus: install ok installed\n"}, "not a package name"),
        ({"etc/os-release": OS_RELEASE, "var/lib/dpkg/status": "Package: a\nVersion: 1\nStatus: installed\n"}, "no usable Status"),
    ],
)  # fmt: skip
def test_an_image_that_can_t_be_patched(
    tmp_path: Path, refuse: Callable[..., str], files: dict[str, str], message: str
) -> None:
    image = write_image(tmp_path / "layout", make_image([make_layer(dict(files))]))

    assert message in refuse(3, "-i", image)


@pytest.mark.parametrize(
    "more",
    [
        {"var/lib/dpkg/info/foo.list": "/.\n/usr\n/usr/bin\n/usr/bin/foo\n/usr/../etc/shadow\n"},
        {"var/lib/dpkg/info/foo.md5sums": f"{'0' * 32}  ../etc/shadow\n"},
    ],
)
def test_a_list_of_a_package_s_files_that_climbs(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], more: dict[str, str]
) -> None:
    image = debian_image(repository, [FOO], more={"etc/shadow": "root:*:1::::::\n", **more})

    line = refuse(3, "-i", write_image(tmp_path / "layout", image))
    assert line.startswith(f"error: {next(iter(more))}: not a plain path: ")


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (_tar(tar_file("../evil", b"x")), "a path that climbs"),
        (_tar(tar_file("a/../../evil", b"x")), "a path that climbs"),
        (_tar(tar_file("link", type=tarfile.LNKTYPE, linkname="../../etc/shadow")), "a path that climbs"),
        (_tar(tar_file("link", type=tarfile.LNKTYPE, linkname="absent")), "hard link"),
        (b"not a tar" * 100, "unusable"),
        (_tar(tar_file("a", b"x" * 4000))[:1500], "truncated"),
    ],
)
def test_a_hostile_or_corrupt_layer(tmp_path: Path, refuse: Callable[..., str], tar: bytes, message: str) -> None:
    assert message in refuse(3, "-i", write_image(tmp_path / "layout", make_image([make_layer(tar)])))


@pytest.mark.parametrize(
    "member",
    [
        tar_file("/etc/absolute", b"x"),
        tar_file("dev/sda", type=tarfile.BLKTYPE, devmajor=8),
        tar_file("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        tar_file("link", type=tarfile.SYMTYPE, linkname="../../../../../etc"),
        tar_file("run/fifo", type=tarfile.FIFOTYPE),
    ],
)
def test_odd_entries_stay_inside_the_image(
    tmp_path: Path, repository: Repository, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    image = debian_image(repository, [FOO])
    odd = make_image([*image.layers, make_layer(_tar(member, tar_file("link/below", b"x")))])

    code = main(
        ["patch", "-i", write_image(tmp_path / "layout", odd), "--to", f"oci:{tmp_path / 'out'}:1", "--no-cache"]
    )

    assert code == 0
    assert_valid_image(tmp_path / "out", "1")


def test_a_decompression_bomb(tmp_path: Path, refuse: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copacetic.oci.layerstream._PLAIN", 1 << 20)
    image = make_image([make_layer({"zeros": bytes(50_000_000)})])

    assert "unusable: more than" in refuse(3, "-i", write_image(tmp_path / "layout", image))


@pytest.mark.parametrize("change", [b"\x00", b""])
def test_a_layer_that_is_not_what_its_digest_says(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], change: bytes
) -> None:
    image = debian_image(repository, [FOO])
    location = write_image(tmp_path / "layout", image)
    blob = tmp_path / "layout/blobs" / str(image.layers[0].descriptor.digest).replace(":", "/")
    data = blob.read_bytes()
    blob.write_bytes(data[:100] + change + data[101 if change else 120 :])

    assert str(image.layers[0].descriptor.digest) in refuse(1, "-i", location)


# -- repositories ----------------------------------------------------------------------------------------------------

RELEASE = "dists/stable-security/InRelease"


def _tamper(repository: Repository) -> None:
    repository.files[RELEASE] = repository.files[RELEASE].replace(b"Origin: Tests", b"Origin: Texts")


def _replace_packages(repository: Repository) -> None:
    for path in [p for p in repository.files if "/binary-amd64/" in p]:
        repository.files[path] = bytes(len(repository.files[path]))


def _shorten_packages(repository: Repository) -> None:
    for path in [p for p in repository.files if "/binary-amd64/" in p]:
        repository.files[path] = repository.files[path][:-5]


def _deb(repository: Repository) -> str:
    return next(path for path in repository.files if path.endswith(".deb"))


@pytest.mark.parametrize(
    ("break_it", "code", "message"),
    [
        (_tamper, 1, "is signed by"),
        (lambda r: r.publish(release={"Valid-Until": "Mon, 01 Jan 2024 00:00:00 UTC"}), 1, "has expired on 2024-01-01"),
        (lambda r: r.publish(release={"Date": "Mon, 01 Jan 2046 00:00:00 UTC"}), 1, "from the future"),
        (lambda r: r.files.clear(), 1, "has no Release file"),
        (lambda r: r.statuses.update({RELEASE: 500}), 1, "answers 500"),
        (_replace_packages, 1, "expected the SHA-256"),
        (_shorten_packages, 1, "bytes"),
        (lambda r: r.files.pop(_deb(r)), 4, "answers 404"),
        (lambda r: r.files.update({_deb(r): bytes(len(r.files[_deb(r)]))}), 1, "expected the SHA-256"),
        (lambda r: r.files.update({_deb(r): b"short"}), 1, "bytes"),
        (lambda r: r.publish(packages="Package: foo\nVersion: 9\nArchitecture: amd64\n"), 4, "no usable SHA256"),
        (
            lambda r: r.publish(
                packages=f"Package: foo\nVersion: 9\nArchitecture: amd64\nSize: 3\nSHA256: {'a' * 64}\nFilename: ../../x\n"
            ),
            4,
            "has the file name",
        ),
        (lambda r: r.publish(packages="Package: foo\nnonsense\n"), 4, "not a field"),
    ],
)
def test_a_broken_repository(
    tmp_path: Path,
    repository: Repository,
    refuse: Callable[..., str],
    break_it: Callable[[Repository], object],
    code: int,
    message: str,
) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    break_it(repository)

    assert message in refuse(code, "-i", image)


def test_a_key_that_the_image_does_not_trust(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str]
) -> None:
    image = debian_image(repository, [FOO], more={"etc/apt/trusted.gpg.d/tests.gpg": Repository().certificate})

    assert "not by a key that is trusted" in refuse(1, "-i", write_image(tmp_path / "layout", image))


def test_no_key_at_all(tmp_path: Path, repository: Repository, refuse: Callable[..., str]) -> None:
    image = debian_image(repository, [FOO], more={"etc/apt/trusted.gpg.d/tests.gpg": b""})

    error = refuse(1, "-i", write_image(tmp_path / "layout", image), "--no-host-repositories")

    assert "trusts no key for it" in error


@pytest.mark.parametrize("signed", ["before", "after"])
def test_a_key_that_has_expired(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], signed: str
) -> None:
    key = repository.key
    expiration = datetime.now(UTC) + timedelta(seconds=1.5)
    expiring = bytes(key.extract_certificate().set_expiration(expiration, key.certifier()))
    others = bytes(Repository().key.extract_certificate())
    keys = {"etc/apt/trusted.gpg.d/tests.gpg": expiring, "etc/apt/trusted.gpg.d/others.gpg": others}
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO], more=keys))
    time.sleep(max(0.0, (expiration - datetime.now(UTC)).total_seconds()) + 1.1)
    if signed == "after":
        repository.publish()

    error = refuse(1, "-i", image)

    assert f"the key {str(key.extract_certificate().fingerprint).upper()} has expired on {expiration:%Y-%m-%d}" in error
    if signed == "before":  # OpenPGP calls that signature valid; the user may, too
        assert main(["plan", "-i", image, "--no-cache", "-q", "--allow-expired-repository"]) == 0


def test_a_key_that_is_revoked(tmp_path: Path, repository: Repository, refuse: Callable[..., str]) -> None:
    certificate = repository.key.extract_certificate()
    revocation = certificate.revoke(repository.key.certifier())
    revoked = bytes(certificate.merge(Cert.from_bytes(bytes(certificate) + bytes(revocation))))
    image = debian_image(repository, [FOO], more={"etc/apt/trusted.gpg.d/tests.gpg": revoked})

    assert repository.address in refuse(1, "-i", write_image(tmp_path / "layout", image))


@pytest.mark.parametrize("line", ["deb nonsense", "deb http://[x/ stable main", "deb http://a:b/ stable main"])
def test_a_sources_list_with_a_broken_line(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], line: str
) -> None:
    image = debian_image(repository, [FOO], more={"etc/apt/sources.list": f"# fine\n{line}\n"})

    assert "etc/apt/sources.list:2" in refuse(1, "-i", write_image(tmp_path / "layout", image))


@pytest.mark.parametrize(
    "members",
    [
        [("./../evil", file("x"))],
        [("./usr/../../evil", file("x"))],
        [("./lib", Member(type=tarfile.SYMTYPE, target="/etc")), ("./lib/passwd", file("x"))],
        [("./dev/sda", Member(type=tarfile.BLKTYPE, device=(8, 0)))],
    ],
)
def test_a_package_with_hostile_paths(
    tmp_path: Path, refuse: Callable[..., str], members: list[tuple[str, Member]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = archive(FOO2.control_members(), [("./", directory()), *members])
    monkeypatch.setattr(Deb, "to_bytes", lambda _self: data)
    with serve_repository([FOO2]) as repository:
        error = refuse(4, "-i", write_image(tmp_path / "layout", debian_image(repository, [FOO])))

    assert "foo" in error


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(FOO2, name="bar"), "is of Package 'bar' instead of 'foo'"),
        (replace(FOO2, version="0.1"), "is of Version '0.1' instead of '1.0-2'"),
        (replace(FOO2, architecture="arm64"), "is of Architecture 'arm64' instead of 'amd64'"),
        (replace(FOO2, control={"control": "nonsense"}), "foo"),
        (b"!<arch>\nnot a package", "foo 1.0-2"),
        (b"", "foo 1.0-2"),
    ],
)
def test_a_package_that_is_not_what_the_signed_index_says_it_is(
    tmp_path: Path, refuse: Callable[..., str], other: Deb | bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = other if isinstance(other, bytes) else other.to_bytes()
    monkeypatch.setattr(Deb, "to_bytes", lambda _self: data)
    with serve_repository([FOO2]) as repository:
        assert message in refuse(4, "-i", write_image(tmp_path / "layout", debian_image(repository, [FOO])))


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_a_package_that_is_a_bomb(
    tmp_path: Path, refuse: Callable[..., str], monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setattr("copacetic.repository.limits.SIZE_FLOOR", 1 << 20)
    bomb = replace(FOO2, files={"usr/bin/foo": file(bytes(40_000_000))}, compression=compression)
    with serve_repository([bomb]) as repository:
        error = refuse(4, "-i", write_image(tmp_path / "layout", debian_image(repository, [FOO])))

    assert "foo 1.0-2" in error


def test_a_version_that_vanished_between_plan_and_apply(
    tmp_path: Path, repository: Repository, refuse: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    image, plan = write_image(tmp_path / "layout", debian_image(repository, [FOO])), tmp_path / "plan.json"
    assert main(["plan", "-i", image, "--format", "json", "-o", str(plan), "--no-cache", "-q"]) == 0
    repository.files.pop(_deb(repository))

    assert "foo 1.0-2: 127.0.0.1 answers 404" in refuse(1, "-i", image, "--plan", plan)


def test_a_plan_for_another_image(tmp_path: Path, repository: Repository, refuse: Callable[..., str]) -> None:
    plan = tmp_path / "plan.json"
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    assert main(["plan", "-i", image, "--format", "json", "-o", str(plan), "--no-cache", "-q"]) == 0
    other = write_image(tmp_path / "other", debian_image(repository, [FOO], labels={"x": "y"}))

    assert "the plan is for sha256:" in refuse(2, "-i", other, "--plan", plan)
