# SPDX-License-Identifier: Apache-2.0
"""File operations, merges and differences."""

from __future__ import annotations

from pathlib import Path

from contract.solving import AMD64, Recorder, base, exported, read, shell, tree
from copacetic import llb
from copacetic.llb.graph import Copy, MakeDirectory, MakeFile
from copacetic.llb.solver import Inputs, Solver


def test_directories_and_files_are_as_they_were_asked_for(solver: Solver) -> None:
    state = llb.scratch().file(
        MakeDirectory(path="/a/b", parents=True, mode=0o750),
        MakeFile(path="/a/b/f", data=b"text\n", mode=0o600),
    )

    found = tree(solver, state)

    assert found["a/b"] == "directory 750 0:0"
    assert found["a/b/f"] == "file 600 0:0 text\n"


def test_a_file_that_a_graph_carries_is_of_the_epoch(solver: Solver) -> None:
    state = llb.scratch().file(MakeFile(path="/f", data=b""))

    with solver.solve(state.marshal(AMD64), Inputs(), Recorder()) as result:
        entry = result.filesystem.lookup("f")

    assert entry is not None
    assert entry.mtime == 0


def test_a_directory_is_copied_with_owners_and_modes(solver: Solver) -> None:
    state = llb.scratch().file(Copy(source=base(), path="/var/lib", dest="/copy"))

    assert tree(solver, state)["copy/data"] == "file 640 7:8 data\n"


def test_the_contents_of_a_directory_are_copied_into_another_one(solver: Solver) -> None:
    state = base().file(Copy(source=base(), path="/old", dest="/srv", contents_only=True))

    assert set(tree(solver, state, below="srv")) == {"srv/file", "srv/other"}


def test_a_file_copied_into_a_directory_keeps_its_name(solver: Solver) -> None:
    state = base().file(Copy(source=base(), path="/old/file", dest="/srv/"))

    assert read(solver, state, "srv/file") == ["old\n"]


def test_the_uppermost_filesystem_of_a_merge_wins(solver: Solver) -> None:
    lower = llb.scratch().file(MakeFile(path="/f", data=b"lower"), MakeFile(path="/only-lower", data=b""))
    upper = llb.scratch().file(MakeFile(path="/f", data=b"upper"), MakeFile(path="/only-upper", data=b""))

    found = tree(solver, llb.merge([lower, upper]))

    assert set(found) == {"f", "only-lower", "only-upper"}
    assert found["f"].endswith("upper")


def test_a_difference_removes_from_what_it_is_merged_with(solver: Solver) -> None:
    changed = shell("rm /old/file; echo new > /new").root
    other = base().file(MakeFile(path="/old/third", data=b"third"))

    found = tree(solver, llb.merge([other, llb.diff(base(), changed)]), below="old")

    assert set(found) == {"old/other", "old/third"}


def test_a_difference_between_strangers_is_computed(solver: Solver) -> None:
    lower = llb.scratch().file(MakeFile(path="/same", data=b"x"), MakeFile(path="/gone", data=b"x"))
    upper = llb.scratch().file(MakeFile(path="/same", data=b"x"), MakeFile(path="/added", data=b"x"))

    found = tree(solver, llb.merge([lower, llb.diff(lower, upper)]))

    assert set(found) == {"same", "added"}


def test_an_exported_difference_holds_the_changes_and_nothing_of_the_base(solver: Solver, tmp_path: Path) -> None:
    changed = base().file(MakeFile(path="/srv/new", data=b"new"))

    paths = exported(solver, llb.diff(base(), changed), tmp_path / "layers")

    assert {path for path in paths if path not in {"", ".", "srv"}} == {"srv/new"}


def test_an_exported_difference_of_a_process_is_what_the_process_did(solver: Solver, tmp_path: Path) -> None:
    script = "echo x > /srv/new; rm -r /old; mkdir /old; echo y > /old/fresh; chmod 700 /etc/passwd"

    paths = exported(solver, llb.diff(base(), shell(script).root), tmp_path / "layers")

    assert {"srv/new", "old/fresh", "etc/passwd"} <= set(paths)
    assert not {path for path in paths if path.startswith(("bin", "var", "dev", "proc", "sys"))}
    hidden = {path for path in paths if ".wh." in path}
    assert hidden in ({"old/.wh..wh..opq"}, {"old/.wh.file", "old/.wh.other"})


def test_a_process_that_changes_nothing_exports_nothing(solver: Solver, tmp_path: Path) -> None:
    paths = exported(solver, llb.diff(base(), shell("true").root), tmp_path / "layers")

    assert [path for path in paths if path not in {"", "."}] == []


def test_names_with_blanks_quotes_and_newlines_come_through(solver: Solver, tmp_path: Path) -> None:
    names = ["a b", "it's", '"', "$(x)", "new\nline", "ünïcode", "-rf", "*"]
    state = llb.scratch().file(*(MakeFile(path=f"/{name}", data=name.encode()) for name in names))

    found = tree(solver, state)

    assert {path: text.rpartition(" 0:0 ")[2] for path, text in found.items()} == {name: name for name in names}
    assert set(exported(solver, state, tmp_path / "layers")) == set(names)
