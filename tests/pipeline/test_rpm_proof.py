# SPDX-License-Identifier: Apache-2.0
"""What rpm packages became in a layer is what the gate lets through, and nothing else is."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from copacetic.errors import VerificationError
from copacetic.oci.layerwriter import plain_parts
from copacetic.pipeline.prove.content import check_content
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.pipeline.prove.extent import check_extent
from copacetic.unpack.shipped import Explanation
from copacetic.updates import Section
from support.hostile.sabotage import Edit, add, alter, drop, write
from support.image.trees import scan_tar, stack
from support.rpm.rpmbuilds import CONFIG, DOC, GHOST, NO_REPLACE, Build, Shipped, a_file, a_folder, a_link
from support.rpm.rpmcomposed import compose, open_database, open_unpacker, plan_rpms
from support.rpm.rpmoracle import RpmRoot

pytestmark = pytest.mark.system


def _files(version: str) -> list[Shipped]:
    return [
        a_folder("/opt/one"),
        a_file("/opt/one/program", version, mode=0o755, capabilities="= cap_net_raw+ep"),
        a_file("/opt/one/name", version, inode=9),
        a_file("/opt/one/other", version, inode=9),
        a_link("/opt/one/link", f"program.{version}"),
        a_file("/etc/kept", version, flags=CONFIG | NO_REPLACE),
        a_file("/etc/saved", version, flags=CONFIG),
        a_file("/var/ghost", flags=GHOST),
        a_file("/usr/share/doc/one", version, flags=DOC),
        a_file("/opt/one/setuid", version, mode=0o4755, user="nobody-here"),
        a_file(f"/opt/one/only-{version}", version),
    ]


@dataclass
class Case:
    """An image with a package in it, upgraded."""

    folder: Path

    def prove(self, edit: Edit = lambda entries: entries) -> None:
        root = RpmRoot(self.folder / "root")
        scripts = {"postin": ("<lua>", 'posix.mkdir("/opt/made")\n')}
        tables = [a_file(f"/var/lib/rpm/{name}", flags=GHOST) for name in ("rpmdb.sqlite", "rpmdb.sqlite-shm")]
        installed = (Build("one", files=_files("1")), Build("rpm", files=tables))
        root.install([build.write(self.folder) for build in installed], "--excludedocs")
        for name in ("kept", "saved"):
            (root.path / "etc" / name).write_text("of the image")
        new = Build("one", version="2", files=_files("2"), scripts=scripts).write(self.folder)
        base = subprocess.run(
            ["tar", "--xattrs", "--xattrs-include=*", "-C", root.path, "-c", "."], check=True, capture_output=True
        ).stdout
        before = stack(base)
        planned = plan_rpms(before, [new])
        composed = compose(before, [new], self.folder / "scratch")
        assert open_unpacker(before).shipped(planned) == composed.packages
        layer = b"".join(plain_parts(edit(composed.changes.entries)))
        after = stack(base, layer)
        section = Section(package_type="rpm", updates=tuple(one.update for one in planned))
        evidence = Evidence(
            parts=(Part(section, open_database(before), open_database(after)),),
            before=before,
            after=after,
            index=scan_tar(layer),
            digest=after.digest,
            unchanged=composed.changes.unchanged,
            explanation=Explanation(packages={"rpm": composed.packages}, effects=composed.changes.effects),
        )
        check_content(evidence)
        check_extent(evidence)


def test_a_composed_upgrade_explains_itself(tmp_path: Path) -> None:
    Case(tmp_path).prove()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (write("opt/one/program", b"evil"), "opt/one/program"),
        (alter("opt/one/program", mode=0o4755), "opt/one/program"),
        (alter("opt/one/program", xattrs={}), "opt/one/program"),
        (drop("opt/one/program"), "opt/one/program"),
        (add("opt/one/more"), "opt/one/more"),
        (add("usr/bin/evil", mode=0o755), "usr/bin/evil"),
        (write("etc/kept.rpmnew", b"evil"), "etc/kept.rpmnew"),
        (write("etc/saved.rpmsave", b"evil"), "etc/saved.rpmsave"),
        (alter("opt/made", mode=0o777), "opt/made"),
    ],
)
def test_what_the_packages_don_t_say_is_refused(tmp_path: Path, edit: Edit, said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        Case(tmp_path).prove(edit)
