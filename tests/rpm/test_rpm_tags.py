# SPDX-License-Identifier: Apache-2.0
"""Numbers of tags, as rpmbuild gives them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from copacetic.rpm import RpmPackage, tags
from support.deb.debian import need

SPEC = """Name: y
Version: 1
Release: 1
Summary: x
License: x
BuildArch: noarch
%description
x
%pretrans -e
PRETRANS
%pre -e
PREIN
%post -e
POSTIN
%preun -e
PREUN
%postun -e
POSTUN
%posttrans -e
POSTTRANS
%triggerin -e -- foo > 1
TRIGGER_SCRIPTS
%filetriggerin -e -P 77 -- /usr/lib
FILE_TRIGGER_SCRIPTS
%transfiletriggerin -e -P 78 -- /usr/share
TRANSACTION_FILE_TRIGGER_SCRIPTS
%files
"""
FLAGS = [line.split()[0] for line in SPEC.splitlines() if line.isupper()]


def test_scripts_stand_under_their_tags(tmp_path: Path) -> None:
    need("rpmbuild")
    (tmp_path / "y.spec").write_text(SPEC)
    environment = {**os.environ, "HOME": str(tmp_path)}
    built = subprocess.run(
        ["rpmbuild", "--quiet", "--define", f"_topdir {tmp_path}", "-bb", tmp_path / "y.spec"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    with next(tmp_path.rglob("*.rpm")).open("rb") as file:
        header = RpmPackage.read(file).header

    for name in FLAGS:
        assert header.text(getattr(tags, name)) == name
        which = f"{name.removesuffix('S')}_FLAGS" if name.endswith("SCRIPTS") else f"{name}_FLAGS"
        assert header.numbers(getattr(tags, which)) == (1,), which
        program = f"{name.removesuffix('_SCRIPTS')}_PROGRAM" + ("S" if name.endswith("SCRIPTS") else "")
        assert header.text(getattr(tags, program)) == "/bin/sh"
    assert header.texts(tags.TRIGGER_NAMES) == ("foo",)
    assert header.texts(tags.FILE_TRIGGER_NAMES) == ("/usr/lib",)
    assert header.numbers(tags.FILE_TRIGGER_PRIORITIES) == (77,)
    assert header.texts(tags.TRANSACTION_FILE_TRIGGER_NAMES) == ("/usr/share",)
    assert header.numbers(tags.TRANSACTION_FILE_TRIGGER_PRIORITIES) == (78,)
    assert header.numbers(tags.FILE_TRIGGER_INDEXES) == header.numbers(tags.TRIGGER_INDEXES) == (0,)
