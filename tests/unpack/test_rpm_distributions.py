# SPDX-License-Identifier: Apache-2.0
"""Real images of the rpm family, upgraded with real packages: CentOS 7 by its own rpm, others as rpm 4.20 has left them."""

from __future__ import annotations

import lzma
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic.inventory.rpm import record_of
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import Entry, FileType
from copacetic.rpm import tags
from copacetic.updates import ScriptClass
from support.deb.composed import copy_root
from support.deb.debian import need
from support.deb.oracle import extract, run_in
from support.image.images import fixture
from support.rpm.rpmcomposed import compose_onto, open_database, open_unpacker, plan_rpms, unlike

_SKIPPED = (
    "var/lib/rpm",
    "usr/lib/sysimage/rpm",
    "var/cache/",
    "var/log/",
    "var/lib/dnf/",
    "root/",
    "dev/",
    "proc/",
    "sys/",
)
"""What the listings leave out."""
_KINDS = {FileType.FILE: stat.S_IFREG, FileType.DIRECTORY: stat.S_IFDIR, FileType.SYMLINK: stat.S_IFLNK}
RANDOM = ("etc/openldap/certs/",)
"""openldap's script makes a database of certificates there, with a random password, where an image lacks it."""
OF_THE_MOMENT = ("var/cache/ldconfig/", "etc/pki/ca-trust/extracted/java/cacerts")
"""The one has inodes in it, the other one the time of each entry."""


def _describe(entry: Entry) -> str:
    capabilities = entry.xattrs.get("security.capability", b"").hex()
    shown = f"{_KINDS[entry.type] | entry.mode:o} {entry.uid}:{entry.gid} {entry.target or entry.sha256}"
    return f"{shown} cap:{capabilities}" if capabilities else shown


def _listed(path: Path) -> Mapping[str, str]:
    """Read what rpm 4.20 left, without times of modification."""
    found = {}
    with lzma.open(path, "rt") as listing:
        for line in listing:
            name, mode, owner, _, *rest = line.rstrip("\n").split("\t")
            if not name.startswith(_SKIPPED):
                found[name] = " ".join((mode, owner, *rest))
    return found


@pytest.mark.system
@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "root", "repository", "kind"),
    [
        ("al2023-hollow", "root.tar.xz", "repo/Packages", "rpm sqlite"),
        ("mariner2-hollow", "root.tar.xz", "repo/Packages", "rpm sqlite"),
        ("sle15-hollow", "root.tar.xz", "repo/Packages", "rpm ndb"),
        ("el9", "alma9-20220706-aarch64.tar.xz", "repo-9.3/Packages", "rpm sqlite"),
    ],
)
def test_an_image_that_nothing_can_run_in_is_as_rpm_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, root: str, repository: str, kind: str
) -> None:
    """rpm was told to leave documentation out and to run no scripts; those of ldconfig change nothing here."""
    need("tar", root=True)
    folder = fixture(f"rpm/{name}")
    ours = extract(folder / root, tmp_path / "root")
    if name != "el9":  # there the database itself says that no documentation is wanted
        (ours / "etc/rpm").mkdir(exist_ok=True)
        (ours / "etc/rpm/macros.nodocs").write_text("%_excludedocs 1\n")
    packages = [folder / repository / line for line in (folder / "upgrades").read_text().split()]
    monkeypatch.setattr("copacetic.unpack.rpm.unpacker.refuse_execution", lambda _verdicts: None)
    compose_onto(ours, packages, tmp_path / "scratch")

    fs = DirectoryFilesystem(ours)
    found = {path: _describe(entry) for path, entry in fs.walk() if path and not path.startswith(_SKIPPED)}
    for path in ("etc/rpm", "etc/rpm/macros.nodocs"):
        found.pop(path, None)
    expected = dict(_listed(folder / "after.listing.xz"))
    expected.pop("etc/rpm", None)
    assert {path: (found.get(path), expected.get(path)) for path in found.keys() | expected.keys()
            if found.get(path) != expected.get(path)} == {}  # fmt: skip
    database = open_database(fs)
    installed = []
    for package in database.packages():
        header = record_of(package).header
        epoch = header.number(tags.EPOCH) or 0
        version = f"{epoch}:{header.text(tags.VERSION)}-{header.text(tags.RELEASE)}"
        installed.append(f"{package.name} {version} {package.architecture}")
    assert (
        sorted(row for row in installed if not row.startswith("gpg-pubkey "))
        == (folder / "after.packages").read_text().splitlines()
    )
    assert database.format == kind


@pytest.mark.system
def test_all_scripts_of_almalinux_9_3_are_followed(tmp_path: Path) -> None:
    need("tar", root=True)
    folder = fixture("rpm/el9")
    fs = DirectoryFilesystem(extract(folder / "alma9-20220706-aarch64.tar.xz", tmp_path / "root"))
    packages = [folder / "repo-9.3/Packages" / line for line in (folder / "upgrades").read_text().split()]
    verdicts = open_unpacker(fs).classify(plan_rpms(fs, packages))

    known = {one.verdict for found in verdicts.values() for one in found}
    assert known == {ScriptClass.HARMLESS, ScriptClass.REPRODUCED}


@pytest.mark.system
@pytest.mark.whole
def test_centos_7_with_all_its_updates_is_as_its_own_rpm_leaves_it(tmp_path: Path) -> None:
    need("unshare", "tar", root=True)
    root = extract(fixture("el7/centos7-httpd-rpmdb-bdb.tar.xz"), tmp_path / "root")
    packages = sorted(fixture("el7/updates").glob("*.rpm"))
    real, ours = copy_root(root, tmp_path / "real"), root
    (real / "updates").mkdir()
    for package in packages:
        (real / "updates" / package.name).write_bytes(package.read_bytes())
    run_in(real, "rpm -U --nodeps /updates/*.rpm")
    subprocess.run(["rm", "-r", real / "updates"], check=True)
    composition = compose_onto(ours, packages, tmp_path / "scratch")

    assert composition.notes == ()
    assert unlike(real, ours, ignored=(*RANDOM, *OF_THE_MOMENT, "dev/", "proc", "dev")) == {}
    store = "etc/pki/ca-trust/extracted/java/cacerts"
    assert (real / store).stat().st_size == (ours / store).stat().st_size
    for query in ("rpm -qa --dump", "rpm -Va --nodeps"):
        answers = [sorted(run_in(one, query, check=False).stdout.splitlines()) for one in (real, ours)]
        assert answers[0] == answers[1], query
    assert run_in(ours, "rpm --verifydb", check=False).returncode == 0
    assert run_in(ours, "rpm -e --nodeps kpartx && ! rpm -q kpartx", check=False).returncode == 0
