# SPDX-License-Identifier: Apache-2.0
"""The scripts of real packages, in images that users have changed: what is done in the tree is what running them does."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from copacetic.errors import NeedsExecutionError
from support.apk.apkcomposed import compose_onto
from support.apk.apkoracle import Run, alpine_root, differences, upgrade
from support.apk.apkreversion import reversion_all
from support.apk.apks import Apk, write_repository
from support.deb.composed import copy_root
from support.deb.debs import file
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("apk")]

PACKAGES = ("alpine-baselayout", "alpine-baselayout-data", "busybox", "busybox-binsh", "ssl_client")
RELEASES = ("3.10.2", "3.18.2", "3.20.3", "3.22.0", "3.23.6")
OLD_WRITERS = ("3.10.2", "3.18.2")


def remove(*paths: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        for path in paths:
            local = root / path
            shutil.rmtree(local) if local.is_dir() and not local.is_symlink() else local.unlink(missing_ok=True)

    return act


def link(path: str, target: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).unlink(missing_ok=True)
        (root / path).symlink_to(target)

    return act


def write(path: str, text: str = "x\n") -> Callable[[Path], None]:
    def act(root: Path) -> None:
        local = root / path
        if local.parent.is_symlink():  # which may lead out of the root
            local.parent.unlink()
        local.parent.mkdir(parents=True, exist_ok=True)
        local.unlink(missing_ok=True)  # a link to an applet is absolute: writing through it would leave the root
        local.write_text(text)

    return act


def give(path: str, mode: int, uid: int = 0, gid: int = 0) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        os.chown(root / path, uid, gid)
        (root / path).chmod(mode)

    return act


def drop_row(name: str, *files: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        for name_of_file in files:
            local = root / "etc" / name_of_file
            local.write_text("".join(f"{r}\n" for r in local.read_text().splitlines() if not r.startswith(f"{name}:")))

    return act


def links(target: str, *paths: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        for path in paths:
            link(path, target)(root)

    return act


def other_users(root: Path) -> None:
    for name, row in (("passwd", "me:x:100:100::/:/bin/sh"), ("group", "me:x:101:")):
        with (root / "etc" / name).open("a") as file:
            file.write(f"{row}\n")


def merge(root: Path) -> None:
    """As merge-usr does."""
    for name in ("bin", "sbin", "lib"):
        for entry in sorted((root / name).iterdir()):
            (root / "usr" / name).mkdir(exist_ok=True)
            move_over(entry, root / "usr" / name / entry.name)
        (root / name).rmdir()
        (root / name).symlink_to(f"usr/{name}")


def move_over(source: Path, target: Path) -> None:
    """Move a file or a folder to where there may be a folder already."""
    if not (source.is_dir() and not source.is_symlink() and target.is_dir()):
        source.rename(target)
        return
    for entry in sorted(source.iterdir()):
        move_over(entry, target / entry.name)
    source.rmdir()


EDITS: dict[str, Callable[[Path], None]] = {
    "nothing was changed": lambda _root: None,
    "links to applets are gone": remove("bin/ls", "usr/bin/wget", "sbin/init", "usr/sbin/chroot", "bin/sh2"),
    "there are links to no applet": links("/bin/busybox", "bin/nosuch", "usr/bin/ls", "sbin/x"),
    "a link to no applet leads elsewhere": links("busybox", "bin/nosuch", "usr/bin/ls"),
    "an applet was replaced by a program": write("bin/cat", "#!/bin/sh\n"),
    "old links of ping": links("/bin/bbsuid", "bin/ping", "bin/ping6"),
    "links that were moved": links("/bin/busybox", "usr/bin/telnet", "usr/sbin/httpd"),
    "a module's file without an ending": write("etc/modprobe.d/mine", "options x\n"),
    "passwords for all to read": give("etc/shadow", 0o644),
    "the coloured prompt is on": link("etc/profile.d/color_prompt.sh", "color_prompt"),
    "the group of passwords is gone": drop_row("shadow", "group"),
    "an account for the kernel's log": drop_row("klogd", "passwd", "group", "shadow"),
    "the spool of mail is a link elsewhere": link("var/spool/mail", "../elsewhere"),
    "a changed list of shells": write("etc/shells", "/bin/sh\n"),
    "other users first": other_users,
}  # fmt: skip

UNKNOWN: dict[str, Callable[[Path], None]] = {
    "run-time state is a directory": write("var/run/pid"),
    "the spool of mail is a directory": write("var/spool/mail/me"),
}
"""Where scripts copy whole directories."""


def _rows(run: Run, apks: list[Apk], repository: Path) -> list[tuple[dict[str, str], Path]]:
    by_name = {apk.name: apk for apk in apks}
    upgraded = [by_name[name] for _, name in run.commits]
    return [(apk.row(), repository / "x86_64" / apk.file_name) for apk in upgraded]


Offer = tuple[Path, dict[str, tuple[dict[str, str], Path]]]


@pytest.fixture(scope="module")
def offer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Offer]:
    """Made once for a release: a repository with the next versions, and each one's row and file."""

    @cache
    def make(release: str) -> Offer:
        folder = tmp_path_factory.mktemp("offer")
        apks = reversion_all(alpine_root(release, folder / "root"), *PACKAGES)
        repository = write_repository(folder / "repository", apks)
        return repository, {apk.name: (apk.row(), repository / "x86_64" / apk.file_name) for apk in apks}

    return make


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("release", RELEASES)
def test_the_result_is_that_of_running_the_scripts(
    release: str, edit: str, offer: Callable[[str], Offer], tmp_path: Path
) -> None:
    real = alpine_root(release, tmp_path / "real")
    repository, rows = offer(release)
    EDITS[edit](real)
    ours = copy_root(real, tmp_path / "ours")
    run = upgrade(real, repository, ("--allow-untrusted", "upgrade"))
    assert run.code == 0, run.output

    upgraded = [rows[name] for _, name in run.commits]
    compose_onto(ours, upgraded, tmp_path / "scratch", epoch=int(time.time()))

    assert len(run.commits) == len(rows)
    assert _undated(differences(real, ours), release) == []


WEB = """\
#!/bin/sh
addgroup -S web 2>/dev/null
adduser -S -D -H -h /var/lib/web -s /sbin/nologin -G web -g web web 2>/dev/null
exit 0
"""
STATE = """\
#!/bin/sh
mkdir -p /var/lib/web
chown web:web /var/lib/web
chmod 750 /var/lib/web
[ -e /etc/web.conf ] || ln -s web.d/default.conf /etc/web.conf
rm -f /etc/conf.d/gone /etc/motd.*
"""


def test_links_on_a_merged_root_are_those_that_busybox_makes(tmp_path: Path) -> None:
    real = alpine_root("3.23.6", tmp_path / "real")
    apks = reversion_all(real, *PACKAGES)
    repository = write_repository(tmp_path / "repository", apks)
    merge(real)
    ours = copy_root(real, tmp_path / "ours")
    run = upgrade(real, repository, ("--allow-untrusted", "upgrade"))
    assert run.code == 0, run.output

    compose_onto(ours, _rows(run, apks, repository), tmp_path / "scratch", epoch=int(time.time()))

    assert (ours / "usr/bin/ls").readlink() == Path("/bin/busybox")
    assert differences(real, ours) == []


@pytest.mark.parametrize("release", RELEASES)
def test_a_package_that_comes_in_new_makes_its_users_first(release: str, tmp_path: Path) -> None:
    real = alpine_root(release, tmp_path / "real")
    (musl,) = reversion_all(real, "musl")
    files = {
        "etc/web.d/default.conf": file("conf", uid=7, gid=7, uname="web", gname="web"),
        "usr/bin/web": file("program", 0o2755, gid=7, gname="web"),
    }
    web = Apk(name="web", version="1-r0", files=files, scripts={"pre-install": WEB, "post-install": STATE})
    apks = [replace(musl, depends=[*musl.depends, "web"]), web]
    repository = write_repository(tmp_path / "repository", apks)
    ours = copy_root(real, tmp_path / "ours")
    run = upgrade(real, repository, ("--allow-untrusted", "upgrade"))
    assert run.code == 0, run.output

    compose_onto(ours, _rows(run, apks, repository), tmp_path / "scratch", epoch=int(time.time()))

    assert ("Installing", "web") in run.commits
    assert _undated(differences(real, ours), release) == []


def hearer(name: str, version: str, *patterns: str) -> Apk:
    """A package whose trigger writes down what it hears of, as directories."""
    trigger = f'#!/bin/sh\nfor d in "$@"; do mkdir -p "/heard/{name}$d"; done\n'
    files = {f"usr/share/{name}/{version}": file(version), "opt/a/x": file("x"), "opt/b/y": file("y")}
    files = {path: item for path, item in files.items() if name in path or name == "first"}
    return Apk(name=name, version=version, files=files, triggers=patterns, scripts={"trigger": trigger})


@pytest.mark.parametrize("release", RELEASES)
def test_triggers_hear_of_what_they_hear_of_with_apk(release: str, tmp_path: Path) -> None:
    real = alpine_root(release, tmp_path / "real")
    patterns = ("/usr/share/*", "/opt/*", "/etc", "/lib/*", "/heard")
    before = [
        hearer("first", "1-r0", *patterns),
        hearer("second", "1-r0", *patterns),
        hearer("third", "1-r0", "/usr/*/third", "usr/share", "/opt/[!b]"),
        Apk(name="mute", version="1-r0", files={"opt/b/z": file("z"), "usr/share/gone/x": file("x")}),
    ]
    first = write_repository(tmp_path / "first", before)
    names = ("first", "second", "third", "mute")
    assert upgrade(real, first, ("--allow-untrusted", "add", *names)).code == 0
    shutil.rmtree(real / "heard")
    ours = copy_root(real, tmp_path / "ours")
    after = [
        hearer("second", "2-r0", *patterns),
        Apk(name="mute", version="2-r0", files={"opt/b/z": file("new"), "usr/share/came/x": file("x")}),
    ]
    repository = write_repository(tmp_path / "then", after)
    run = upgrade(real, repository, ("--allow-untrusted", "upgrade"))
    assert run.code == 0, run.output

    compose_onto(ours, _rows(run, after, repository), tmp_path / "scratch", epoch=int(time.time()))

    heard = {str(path.relative_to(real / "heard")) for path in (real / "heard").rglob("*")}
    assert {"first/opt/b", "first/usr/share/came", "second/opt/a"} <= heard
    assert _undated(differences(real, ours), release) == []


def _undated(found: Sequence[str], release: str) -> list[str]:
    """Leave out what an apk before 2.14.1 dates with its own run."""
    return [line for line in found if release not in OLD_WRITERS or not line.startswith("lib/apk/db/scripts.tar:")]


@pytest.mark.parametrize("edit", UNKNOWN)
def test_what_is_not_modelled_is_refused_with_the_line(edit: str, tmp_path: Path) -> None:
    real = alpine_root("3.18.2", tmp_path / "real")
    apks = reversion_all(real, "alpine-baselayout", "alpine-baselayout-data")
    repository = write_repository(tmp_path / "repository", apks)
    UNKNOWN[edit](real)
    rows = [(apk.row(), repository / "x86_64" / apk.file_name) for apk in apks]

    with pytest.raises(
        NeedsExecutionError, match=r"alpine-baselayout:x86_64: pre-upgrade would have to be run: line \d+, 'cp -a /var"
    ):
        compose_onto(real, rows, tmp_path / "scratch")
