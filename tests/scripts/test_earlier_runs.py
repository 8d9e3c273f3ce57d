# SPDX-License-Identifier: Apache-2.0
"""What counts as run before because lower layers have an older version: the installed one came as an upgrade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.recording import RecordingFilesystem
from copacetic.updates import ScriptClass
from support.deb.composed import open_unpacker, plan_debs
from support.deb.debs import Deb, file
from support.image.trees import Content, directory, tree
from unpack.dpkg_image import installed

STATUS = "var/lib/dpkg/status"
PROGRAMS: Mapping[str, Content] = {"bin": directory(), "bin/sh": "", "usr/bin/other": "a program"}


def deb(version: str, script: str = "", name: str = "postinst") -> Deb:
    scripts = {name: f"#!/bin/sh\nset -e\n{script}\n"} if script else {}
    return Deb(version=version, files={"usr/share/demo": file(version)}, scripts=scripts)


def debian(*versions: str, script: str, name: str = "postinst") -> LayeredFilesystem:
    """An image in which each of these versions came with a layer; in one with an empty version there was none."""
    base = Deb(name="base", files={"usr/share/base": file()})
    layers = [[deb(version, script, name)] if version else [] for version in versions]
    return tree(*(installed(base, *here, more=PROGRAMS) for here in layers))


def judge(fs: LayeredFilesystem, script: str, tmp_path: Path, name: str = "postinst") -> ScriptClass:
    verdicts = open_unpacker(fs).classify(plan_debs(fs, [deb("2.0", script, name).write(tmp_path)]))
    (verdict,) = [one for found in verdicts.values() for one in found if one.script == name]
    return verdict.verdict


UPGRADED = '[ -z "$2" ] || other --migrate'
MIGRATES = 'if [ "$1" = configure ] && dpkg --compare-versions "$2" lt-nl 0.9; then other --migrate; fi'
AGAIN = '[ "$1" = install ] || other --migrate'
MAYBE = '[ -f /proc/there ] && [ -n "$2" ] && other --migrate || :'


@pytest.mark.parametrize(
    ("versions", "runs"),
    [
        (("1.0",), False),
        (("0.9", "1.0"), True),
        (("0.8", "0.9", "1.0"), True),
        (("1.1", "1.0"), True),
        (("0.9", "1.0", "1.0"), True),
        (("1.0", "1.0"), False),
        (("0.9", "", "1.0"), False),
        (("", "1.0"), False),
    ],
)
@pytest.mark.parametrize("script", [UPGRADED, MAYBE])
def test_what_an_upgrade_runs_has_run_where_there_was_one(
    versions: Sequence[str], runs: bool, script: str, tmp_path: Path
) -> None:
    verdict = judge(debian(*versions, script=script), script, tmp_path)

    assert verdict is (ScriptClass.HARMLESS if runs else ScriptClass.NEEDS_EXECUTION)


def test_what_another_version_asks_for_has_not(tmp_path: Path) -> None:
    """Only an upgrade from before 0.9 gets there; one from 1.0 doesn't, and what 1.0 didn't do isn't done."""
    fs = debian("0.9", "1.0", script=MIGRATES)

    assert judge(fs, MIGRATES, tmp_path) is ScriptClass.HARMLESS
    assert judge(fs, UPGRADED, tmp_path) is ScriptClass.NEEDS_EXECUTION


def test_scripts_of_the_version_that_goes_have_never_run(tmp_path: Path) -> None:
    script = "other --stop"

    for name in ("prerm", "postrm"):
        fs = debian("0.9", "1.0", script=script, name=name)
        assert judge(fs, script, tmp_path, name) is ScriptClass.NEEDS_EXECUTION


def test_a_preinst_of_an_upgrade_has_run_as_well(tmp_path: Path) -> None:
    versions = {True: ("0.9", "1.0"), False: ("1.0",)}
    found = {
        runs: judge(debian(*names, script=AGAIN, name="preinst"), AGAIN, tmp_path, "preinst")
        for runs, names in versions.items()
    }

    assert found == {True: ScriptClass.HARMLESS, False: ScriptClass.NEEDS_EXECUTION}


def test_a_broken_database_of_a_lower_layer_tells_nothing(tmp_path: Path) -> None:
    base = Deb(name="base", files={"usr/share/base": file()})
    fs = tree({STATUS: "Package: \nStatus: none\n"}, installed(base, deb("1.0", UPGRADED), more=PROGRAMS))

    assert judge(fs, UPGRADED, tmp_path) is ScriptClass.NEEDS_EXECUTION


def test_lower_layers_are_looked_into_only_for_what_is_not_known_otherwise(tmp_path: Path) -> None:
    for script, asks in ((UPGRADED, True), ("other --always", False)):
        fs = RecordingFilesystem(debian("0.9", "1.0", script=script))
        open_unpacker(fs).classify(plan_debs(fs, [deb("2.0", script).write(tmp_path)]))
        assert (f"{STATUS}\0" in fs.reads()) is asks
