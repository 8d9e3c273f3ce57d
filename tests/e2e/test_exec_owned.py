# SPDX-License-Identifier: Apache-2.0
"""
What packages own where a run has something of its own, on real roots: it is in the result, as it is without a run.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import pytest

from support.apk.apkoracle import alpine_image_on
from support.apk.apkrepo import ApkRepository
from support.apk.apks import Apk
from support.builder.running import Patching, open_builder
from support.deb.aptrepo import Deb, serve_repository
from support.deb.debian import build_root, need
from support.deb.debs import MTIME, Member, directory, file, symlink
from support.image.realimage import image_on
from support.server.served import serve
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.whole, pytest.mark.xdist_group("exec-owned")]

FOLDERS = (
    "tmp/own", "var/tmp/own", "run/own", "run/own/empty", "dev/own", "usr/share/own", "var/log/own", "var/log/own/empty",
)  # fmt: skip
FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
DEB_FOLDERS = ("var/cache/apt/archives/own", "var/lib/apt/own", "var/lib/dpkg/own", "var/cache/man/own")
DEB_FILES = (
    "usr/sbin/policy-rc.d", "var/cache/apt/pkgcache.bin", "var/log/dpkg.log", "var/cache/man/index.db", "etc/.pwd.lock",
)  # fmt: skip
APK_FOLDERS = ("etc/apk/own", "lib/apk/own", "lib/apk/db/own", "var/cache/apk/own")
APK_FILES = ("var/cache/apk/APKINDEX.own", "var/log/apk.log", "lib/apk/exec-own")


@pytest.fixture(scope="module", params=("worker", "buildkit"))
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    need("umoci", root=True)
    with open_builder(request.param) as found:
        yield found


def old(folders: Sequence[str], files: Sequence[str]) -> dict[str, Member]:
    """Files in the places that a run uses, one that the next version lacks, and a link."""
    found = {f"{path}/file": file("1") for path in folders if not path.endswith("empty")}
    return {**found, **{path: file("1") for path in files}, "run/link": symlink("1"), "var/tmp/only-1": file("x")}


def new(folders: Sequence[str], files: Sequence[str]) -> dict[str, Member]:
    """Folders of many times in those places, and the files anew."""
    found: dict[str, Member] = {path: directory(mtime=MTIME - 9 * rank) for rank, path in enumerate(folders)}
    found |= {f"{path}/{name}": file("2") for path in folders if not path.endswith("empty") for name in ("file", "2")}
    return {**found, **{path: file("2") for path in files}, "run/link": symlink("2"), "var/tmp/only-2": file("x")}


def test_apt_leaves_the_layer_that_nothing_ran_for(case: Patching) -> None:
    folders, files = (*FOLDERS, *DEB_FOLDERS), (*FILES, *DEB_FILES)
    deb = Deb(name="zz-own", version="1", files=old(folders, files))
    with serve_repository([replace(deb, version="2", files=new(folders, files))]) as repository:
        image = image_on(build_root("bookworm"), case.folder / "layout", repository, [deb])
        _assert_same(case, image, files)


def test_apk_leaves_the_layer_that_nothing_ran_for(case: Patching) -> None:
    folders, files = (*FOLDERS, *APK_FOLDERS), (*FILES, *APK_FILES)
    apk = Apk(name="own", version="1-r0", files=old(folders, APK_FILES), replaces=["alpine-baselayout-data"])
    repository = ApkRepository()
    with serve(repository):
        repository.publish([replace(apk, version="2-r0", files=new(folders, files))])
        image = alpine_image_on("3.20.3", case.folder / "layout", repository, [apk])
        _assert_same(case, image, files)


def _assert_same(case: Patching, image: str, files: Sequence[str]) -> None:
    digests = {}
    for strategy in ("exec", "unpack"):
        run = case.patch(image, "--strategy", strategy, tag=strategy)
        assert run.code == 0, run.error
        assert case.plan["strategy"] == strategy
        digests[strategy] = case.outcome["layer"]["digest"]
    changed = case.changed("exec")
    assert {path: changed.get(path) for path in files} == dict.fromkeys(files, "2")
    assert digests["exec"] == digests["unpack"]


def test_a_configuration_file_at_such_a_place_is_kept_as_any_other(case: Patching) -> None:
    deb = Deb(name="zz-own", version="1", files={"etc/hosts": file("1")}, conffiles=["/etc/hosts"])
    recorded = replace(deb, fields={"Conffiles": f"\n /etc/hosts {hashlib.md5(b'1').hexdigest()}"})
    with serve_repository([replace(deb, version="2", files={"etc/hosts": file("2")})]) as repository:
        digests = {}
        for kept, strategy in itertools.product(("1", "changed"), ("exec", "unpack")):
            layout = case.folder / f"layout-{kept}"
            image = image_on(build_root("bookworm"), layout, repository, [recorded], more={"etc/hosts": kept})
            run = case.patch(image, "--strategy", strategy, tag=f"{strategy}-{kept}")
            assert run.code == 0, run.error
            digests[strategy, kept] = case.outcome["layer"]["digest"]

    for kept, path in (("1", "etc/hosts"), ("changed", "etc/hosts.dpkg-dist")):
        hosts = {p: text for p, text in case.changed(f"exec-{kept}").items() if p.startswith("etc/hosts")}
        assert hosts == {path: "2"}
        assert digests["exec", kept] == digests["unpack", kept]
