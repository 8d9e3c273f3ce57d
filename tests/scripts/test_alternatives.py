# SPDX-License-Identifier: Apache-2.0
"""Generic names for programs, against the real update-alternatives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.alternatives import plan_alternative
from copacetic.scripts.settled import is_settled
from support.deb.composed import apply_changes, copy_root
from support.deb.debian import need
from support.deb.oracle import differences

PROGRAMS = ["/usr/bin/vi.one", "/usr/bin/vi.two", "/usr/bin/vi.three"]
MANUALS = ["/usr/share/man/vi.one.1.gz", "/usr/share/man/vi.two.1.gz"]


def empty_root(root: Path) -> Path:
    for folder in ("var/lib/dpkg/alternatives", "etc/alternatives", "usr/bin", "usr/share/man", "var/log"):
        (root / folder).mkdir(parents=True)
    for path in (*PROGRAMS, *MANUALS):
        (root / path[1:]).touch()
    return root


def run_real(root: Path, *words: str) -> None:
    subprocess.run(
        ["update-alternatives", "--root", root, "--quiet", *words],
        check=words[0] != "--auto",  # of a name that isn't one
        capture_output=True,
    )


def run_ours(root: Path, *words: str) -> None:
    tree = TreeBuilder(DirectoryFilesystem(root))
    edits = plan_alternative(tree, words)
    assert edits is not None
    for edit in edits:
        edit.apply(tree, mtime=0)
    apply_changes(tree.finish(), root)
    assert is_settled(TreeBuilder(DirectoryFilesystem(root)), ["update-alternatives", *words]) is True


def install(program: str, priority: int, *slave: str) -> tuple[str, ...]:
    words = ("--install", "/usr/bin/vi", "vi", program, str(priority))
    return (*words, "--slave", "/usr/share/man/vi.1.gz", "vi.1.gz", *slave) if slave else words


INSTALLS = st.builds(
    lambda program, priority, slave: install(program, priority, *slave),
    st.sampled_from(PROGRAMS),
    st.sampled_from([5, 10, 50]),
    st.sampled_from([(), *((path,) for path in MANUALS), ("/usr/share/man/absent.1.gz",)]),
)
REMOVES = st.sampled_from(PROGRAMS).map(lambda path: ("--remove", "vi", path))
AUTOS = st.sampled_from([("--auto", "vi"), ("--auto", "/usr/bin/vi"), ("--auto", "none")])


@pytest.mark.system
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.one_of(INSTALLS, INSTALLS, REMOVES, AUTOS), min_size=1, max_size=5), manual=st.booleans())
def test_the_result_is_the_real_tools(calls: list[tuple[str, ...]], manual: bool, tmp_path: Path) -> None:
    need("update-alternatives")
    shutil.rmtree(tmp_path)
    real = empty_root(tmp_path / "real")
    run_real(real, *install(PROGRAMS[0], 20))
    run_real(real, *install(PROGRAMS[1], 10))
    if manual:
        run_real(real, "--set", "vi", PROGRAMS[1])
    ours = copy_root(real, tmp_path / "ours")

    for words in calls:
        run_real(real, *words)
        run_ours(ours, *words)

    assert differences(real, ours) == []


@pytest.mark.system
def test_a_program_under_the_generic_name_stays(tmp_path: Path) -> None:
    need("update-alternatives")
    real = empty_root(tmp_path / "real")
    (real / "usr/bin/vi").write_text("by hand")
    ours = copy_root(real, tmp_path / "ours")

    run_real(real, *install(PROGRAMS[0], 20))
    run_ours(ours, *install(PROGRAMS[0], 20))

    assert differences(real, ours) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "vi", "/usr/bin/vi.one"),
        ("--set-selections",),
        ("--install", "/usr/bin/vi", "vi", "/usr/bin/vi.one", "high"),
        ("--install", "/usr/bin/vi", "vi", "/usr/bin/absent", "5"),
        ("--install", "/usr/bin/vi", "../vi", "/usr/bin/vi.one", "5"),
        ("--install", "/usr/bin/vi"),
    ],
)
def test_what_is_not_modelled_is_left_to_the_tool(words: tuple[str, ...], tmp_path: Path) -> None:
    root = empty_root(tmp_path / "root")

    assert plan_alternative(TreeBuilder(DirectoryFilesystem(root)), words) is None
