# SPDX-License-Identifier: Apache-2.0
"""Scripts that do different things with different arguments, against dpkg: reproduced as it runs them, or refused."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic.errors import NeedsExecutionError
from support.deb.composed import compose_onto, copy_root
from support.deb.debian import need
from support.deb.debs import Deb, file
from support.deb.oracle import differences
from support.script.scriptbox import build_box
from unpack.test_like_dpkg import dpkg, empty_root

pytestmark = [pytest.mark.system]

MADE = ("opt/state", "opt/folder/deep/x", "opt/plugins/a.so", "var/lib/there")
"""What somebody puts into the image after the first installation."""
PROGRAM = '#!/bin/sh\necho "$@" >> /opt/log\n'
REPRODUCED: Mapping[str, Mapping[str, str]] = {
    "postrm removes, whatever its argument is": {"postrm": "rm -f /opt/state"},
    "postrm removes a folder with all that is in it": {"postrm": "rm -rf /opt/plugins"},
    "postrm removes a file, and what it leaves empty": {
        "postrm": "if [ -d /opt/folder/deep ]; then\nrm -f /opt/folder/deep/x\n"
        "rmdir -p --ignore-fail-on-non-empty /opt/folder/deep\nfi"
    },
    "postrm removes a file and its folder, and leaves the folder above": {
        "postrm": "rm -f --verbose /opt/folder/deep/x\nrmdir --ignore-fail-on-non-empty /opt/folder/deep"
    },
    "prerm removes before an upgrade": {"prerm": '[ "$1" != upgrade ] || rm -f /opt/state'},
    "preinst removes before an upgrade": {"preinst": 'case "$1" in upgrade) rm -rf /opt/plugins;; esac'},
    "postinst removes what a first installation leaves": {
        "postinst": 'if [ -z "$2" ]; then echo > /opt/first; else rm -f /opt/state; fi'
    },
    "the same is done each time": {"postinst": "echo made > /opt/each"},
    "only a first installation runs something": {"postinst": '[ -n "$2" ] || /opt/bin/log first'},
    "only a removal runs something": {"prerm": '[ "$1" != remove ] || /opt/bin/log', "postrm": '[ "$1" != purge ] || /opt/bin/log'},
    "a pattern that matches nothing": {"postrm": "rm -f /opt/none/* /opt/absent*"},
}  # fmt: skip
REFUSED: Mapping[str, Mapping[str, str]] = {
    "postinst migrates": {"postinst": 'if [ "$1" = configure ] && [ -n "$2" ]; then echo "$2" > /opt/migrated; fi'},
    "prerm runs a program": {"prerm": 'case "$1" in upgrade|remove) /opt/bin/log unregister;; esac'},
    "prerm writes": {"prerm": 'if [ "$1" = upgrade ]; then echo "$2" > /opt/upgraded-to; fi'},
    "preinst copies": {"preinst": 'if [ "$1" = upgrade ]; then mkdir -p /opt/backup; cp /opt/state /opt/backup/; fi'},
    "postrm removes where it may not get": {"postrm": "if /opt/bin/log ask; then rm -f /opt/state; fi"},
    "postinst makes again what prerm removes": {
        "postinst": "echo made > /opt/each",
        "prerm": "rm -f /opt/each",
    },
    "postinst may make again what postrm removes": {"postinst": "/opt/bin/log", "postrm": "rm -f /opt/log"},
    "postinst runs what the first installation ran otherwise": {"postinst": '/opt/bin/log "${2:-first}"'},
}


def script(body: str) -> str:
    return f"#!/bin/sh\nset -e\n{body}\nexit 0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    need("dpkg", root=True)
    root = build_box(tmp_path / "root")
    shutil.copytree(empty_root(tmp_path / "empty") / "var/lib/dpkg", root / "var/lib/dpkg")
    (root / "opt/bin/log").write_text(PROGRAM)
    (root / "opt/bin/log").chmod(0o755)
    return root


def install(root: Path, scripts: Mapping[str, str], tmp_path: Path) -> Path:
    """Install a first version and change the image; returns a second version with the same scripts."""
    made = {name: script(body) for name, body in scripts.items()}
    first = Deb(version="1.0", files={"usr/share/demo": file("1")}, scripts=made).write(tmp_path)
    done = dpkg(root, first)
    assert done.returncode == 0, done.stderr
    for path in MADE:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("made\n")
    return Deb(version="2.0", files={"usr/share/demo": file("2")}, scripts=made).write(tmp_path)


@pytest.mark.parametrize("name", REPRODUCED)
def test_the_result_is_that_of_running_the_scripts(name: str, root: Path, tmp_path: Path) -> None:
    deb = install(root, REPRODUCED[name], tmp_path)
    ours = copy_root(root, tmp_path / "ours")

    compose_onto(ours, [deb], tmp_path / "scratch")

    done = dpkg(root, deb)
    assert done.returncode == 0, done.stderr
    assert [line for line in differences(root, ours) if not line.startswith(("dev", "run", "tmp"))] == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_never_ran_is_refused(name: str, root: Path, tmp_path: Path) -> None:
    deb = install(root, REFUSED[name], tmp_path)
    before = copy_root(root, tmp_path / "before")

    with pytest.raises(NeedsExecutionError, match=f"{next(iter(REFUSED[name]))} would have to be run"):
        compose_onto(before, [deb], tmp_path / "scratch")

    assert dpkg(root, deb).returncode == 0
