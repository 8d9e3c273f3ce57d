# SPDX-License-Identifier: Apache-2.0
"""Images and graphs made to break out, to hang or to confuse: one clear line, and nothing outside of the sandbox."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from demo.roots import CACHE

from contract.solving import AMD64, PATH, Recorder, exported, read, shell
from copacetic import llb
from copacetic.errors import ExecutionError, SolverError, VerificationError
from copacetic.llb.graph import Copy, MakeDirectory, MakeFile
from copacetic.llb.solver import Inputs
from copacetic.worker import WorkerSolver
from copacetic.worker.inside.remove import remove_tree
from support.builder.builder import BASE
from support.builder.worker import compile_c, open_worker
from support.image.busybox import busybox_image
from support.image.images import Image, MemorySource, TarItem, make_image, make_layer, make_tar, tar_file

pytestmark = pytest.mark.system
MODES = ["root", "all", "chroot"] if os.geteuid() == 0 else [""]


@pytest.fixture(params=MODES)
def solver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerSolver]:
    modes = [request.param] if request.param else []
    with open_worker(tmp_path / "worker", modes=modes, images={BASE: busybox_image()}) as worker:
        yield worker
    # Kept layers can be deeper than what cleans up after tests can go.
    remove_tree(str(tmp_path / "worker"))


def link(path: str, target: str) -> TarItem:
    return tar_file(path, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(path: str, target: str) -> TarItem:
    return tar_file(path, type=tarfile.LNKTYPE, linkname=target)


def directory(path: str, **more: Any) -> TarItem:
    return tar_file(path, type=tarfile.DIRTYPE, mode=0o755, **more)


def image_with(*layers: Sequence[TarItem]) -> tuple[llb.State, Inputs]:
    """Busybox with more layers."""
    return state_of(make_image([*busybox_image().layers, *(make_layer(make_tar(items)) for items in layers)]))


def state_of(image: Image) -> tuple[llb.State, Inputs]:
    state = llb.oci_layout("client/image", image.descriptor.digest, store="it")
    return state, Inputs(images={"it": MemorySource(image)})


def attempt(solver: WorkerSolver, state: llb.State, inputs: Inputs) -> str:
    """Solve, and return the error's one line, "" without one."""
    try:
        with solver.solve(state.marshal(AMD64), inputs, Recorder()):
            return ""
    except SolverError as error:
        assert "\n" not in str(error)
        assert "Traceback" not in str(error)
        return str(error)


def run(state: llb.State, script: str, **options: Any) -> llb.State:
    return state.run(["/bin/sh", "-c", script], env=PATH, network=llb.Network.NONE, name="run", **options).root


LAYERS = {
    "climbs": ([tar_file("a/../../../escaped", "x")], "climbs"),
    "a link out of the root, then through it": (
        [link("out", "{outside}"), tar_file("out/escaped", "x")], ""),
    "a link upwards, then through it": (
        [link("up", "../../../../../../../../../../../../../..{outside}"), tar_file("up/escaped", "x")], ""),
    "links of links": (
        [link("one", "{outside}"), link("two", "one"), link("three", "two/"), tar_file("three/escaped", "x")], ""),
    "a link in place of a directory": (
        [directory("d"), link("d", "{outside}"), tar_file("d/escaped", "x")], ""),
    "a hard link out of the root": ([hard_link("h", "..{outside}/victim")], "climbs"),
    "a hard link through a link": (
        [link("out", "{outside}"), hard_link("h", "out/victim")], "not there"),
    "a hard link to a link, then written": (
        [link("s", "{outside}/victim"), hard_link("h", "s"), tar_file("h", "overwritten")], ""),
    "a whiteout of the parent": ([tar_file("a/.wh...", "")], "no name"),
    "a whiteout through a link": ([link("out", "{outside}"), tar_file("out/.wh.victim", "")], ""),
    "an opaque link": ([link("out", "{outside}"), tar_file("out/.wh..wh..opq", "")], ""),
    "a loop of links": ([link("l1", "l2"), link("l2", "l1"), tar_file("l1/x", "x")], "symbolic links"),
    "the root is a file": ([tar_file("./", "x", type=tarfile.SYMTYPE, linkname="{outside}")], "not a directory"),
    "a name that is too long": ([tar_file("n" * 300, "x")], "a name of more than 255 bytes"),
    "a directory that is a hard link": ([directory("d"), hard_link("h", "d")], "directory"),
    "a device that is a whiteout": ([tar_file("bin/sh", type=tarfile.CHRTYPE)], ""),
    "a disk": ([tar_file("disk", type=tarfile.BLKTYPE, mode=0o666)], ""),
    "an empty link": ([tar_file("l", type=tarfile.SYMTYPE, linkname="")], "no target"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_reaches_nothing_outside_of_its_directory(solver: WorkerSolver, name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("unharmed")
    items, message = LAYERS[name]
    for member, _ in items:
        member.linkname = member.linkname.replace("{outside}", str(outside))

    state, inputs = image_with(items)
    said = attempt(solver, state, inputs)

    assert message in said if message else said == ""
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "unharmed"
    assert (outside / "victim").stat().st_nlink == 1
    assert attempt(solver, run(*image_with([])[:1], "true"), image_with([])[1]) == "", (
        "the worker is of no use any more"
    )


def test_attributes_of_overlayfs_in_a_layer_mean_nothing(solver: WorkerSolver) -> None:
    items = []
    for namespace in ("trusted", "user"):
        for name, value in (
            ("redirect", "/old"),
            ("opaque", "y"),
            ("metacopy", ""),
            ("origin", "x"),
            ("whiteout", "y"),
        ):
            item = directory(f"{namespace}-{name}")
            item[0].pax_headers = {f"SCHILY.xattr.{namespace}.overlay.{name}": value}
            items.append(item)
        whole = directory("old")
        whole[0].pax_headers = {f"SCHILY.xattr.{namespace}.overlay.opaque": "y"}
        items.append(whole)
    state, inputs = image_with(items)

    assert read(
        solver, run(state, "ls /old > /out; ls /trusted-redirect /user-redirect >> /out"), "out", inputs=inputs
    ) == ["file\nother\n/trusted-redirect:\n\n/user-redirect:\n"]


def test_ten_thousand_nested_directories_in_a_layer_are_one_line(solver: WorkerSolver) -> None:
    state, inputs = image_with([tar_file("/".join("d" * 10_000), "x")])

    assert "a path of" in attempt(solver, state, inputs)


def test_directories_as_deep_as_may_be_are_unpacked_run_and_removed(solver: WorkerSolver) -> None:
    deep = "/".join(["d"] * 255)
    state, inputs = image_with(
        [tar_file(f"{deep}/f", "deep")], [tar_file("d/.wh..wh..opq", ""), tar_file(f"{deep}/g", "")]
    )

    with solver.solve(run(state, "true").marshal(AMD64), inputs, Recorder()) as result:
        assert result.filesystem.lookup(f"{deep}/g") is not None
        assert result.filesystem.lookup(f"{deep}/f") is None


def test_ten_thousand_nested_directories_of_a_program_are_one_line_and_are_removed(
    solver: WorkerSolver, tmp_path: Path
) -> None:
    program = compile_c("""
        #include <sys/stat.h>
        #include <unistd.h>
        int main(void) { for (int i = 0; i < 10000; i++) if (mkdir("d", 0755) || chdir("d")) return 1; return 0; }""")
    tool = llb.scratch().file(MakeFile(path="/nest", data=program, mode=0o755))
    state = shell(
        "exec /nest", cwd="/srv", name="nest", mounts=[llb.Bind(dest="/nest", source=tool, selector="/nest")]
    ).root

    with pytest.raises(SolverError, match="a path of"):
        exported(solver, state, tmp_path / "layers")


@pytest.mark.parametrize("place", ["proc", "dev"])
@pytest.mark.parametrize("kind", ["link", "relative link", "file"])
def test_a_place_of_the_sandbox_that_is_no_directory_is_refused(solver: WorkerSolver, place: str, kind: str) -> None:
    item = {
        "link": link(place, "/etc"),
        "relative link": link(place, "../../../../../etc"),
        "file": tar_file(place, "x"),
    }[kind]
    state, inputs = image_with([item])

    assert f"/{place} is no directory" in attempt(solver, run(state, "true"), inputs)


def test_mounts_follow_the_image_s_links_inside_the_image(solver: WorkerSolver) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    outside = Path(tempfile.mkdtemp(prefix="outside-", dir=CACHE))  # temporary files may be in /dev, which is hidden
    state, inputs = image_with([link("a link", str(outside)), link("tmp2", "/../../../tmp"), link("data", "old")])
    mounts = [
        llb.Tmpfs(dest="/a link/deep"),
        llb.Bind(dest="/tmp2/m", source=llb.scratch().file(MakeFile(path="/f", data=b"in tmp"))),
        llb.Bind(dest="/data/file", source=llb.scratch().file(MakeFile(path="/f", data=b"over")), selector="/f"),
        llb.Secret(dest="/a link/secret", id="s"),
    ]
    inputs = Inputs(images=inputs.images, secrets={"s": b"word"})
    script = f"touch '/a link/deep/x'; cat /tmp/m/f /old/file {outside}/secret > /out"

    [text] = read(solver, run(state, script, mounts=mounts), "out", inputs=inputs)

    assert text == "in tmpoverword"
    assert list(outside.iterdir()) == []
    outside.rmdir()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([link("bin/sh", "/../../../bin/true2")], "'/bin/sh' can't be executed"),
        ([tar_file(".wh.bin", "")], "'/bin/sh' is not in the image"),
        ([tar_file("bin/sh", "#!/no/such/interpreter\n", mode=0o755)], "interpreter"),
        ([tar_file("bin/sh", b"\x7fELF" + bytes(60), mode=0o755)], "can't be executed"),
        ([tar_file("bin/sh", "text", mode=0o644)], "can't be executed"),
        ([directory("bin/sh")], "can't be executed"),
        ([tar_file("bin/sh", type=tarfile.FIFOTYPE, mode=0o755)], "can't be executed"),
        ([link("bin/sh", "sh")], "can't be executed"),
    ],
)
def test_a_shell_that_is_none_is_named(solver: WorkerSolver, items: list[TarItem], message: str) -> None:
    state, inputs = image_with(items)

    assert message in attempt(solver, run(state, "true"), inputs)


@pytest.mark.parametrize(
    "item",
    [
        tar_file("etc/passwd", type=tarfile.FIFOTYPE),
        link("etc/passwd", "/dev/zero"),
        link("etc/passwd", "passwd"),
        tar_file("etc/passwd", ":::::::\nx:x:-1:99999999999:::\n\0\xff\n" * 1000),
        directory("etc/passwd"),
    ],
    ids=["a pipe", "endless", "a loop", "garbage", "a directory"],
)
def test_broken_accounts_are_no_accounts(solver: WorkerSolver, item: TarItem) -> None:
    state, inputs = image_with([tar_file("etc/.wh.passwd", "")], [item])

    assert attempt(solver, run(state, "true"), inputs) == ""
    assert "no user 'daemon'" in attempt(solver, run(state, "true", user="daemon"), inputs)


@pytest.mark.parametrize("user", ["99999999999999", "-1", "root:nogroup9", "a b", "../etc", "0:4294967295"])
def test_a_user_that_is_none_is_refused(solver: WorkerSolver, user: str) -> None:
    state, inputs = image_with([])

    assert "run: " in attempt(solver, run(state, "true", user=user), inputs)


def test_file_operations_stay_inside(solver: WorkerSolver, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("unharmed")
    state, inputs = image_with(
        [link("out", str(outside)), link("up", "../../../../../.." + str(outside)), link("abs", "/old")]
    )
    changed = state.file(
        MakeDirectory(path="/out/made", parents=True),
        MakeFile(path="/out/made/f", data=b"inside"),
        MakeFile(path="/abs/new", data=b"new"),
        MakeFile(path="/up/victim", data=b"other"),
        Copy(source=state, path="/out", dest="/copied"),
        Copy(source=state, path="/old", dest="/out/made/copied"),
    )

    with solver.solve(changed.marshal(AMD64), inputs, Recorder()) as result:
        fs = result.filesystem
        assert fs.read("old/new", limit=9) == b"new"
        assert fs.read(f"{outside}/made/f", limit=9) == b"inside"
        assert fs.read(f"{outside}/made/copied/file", limit=9) == b"old\n"
        copied = fs.lookup("copied", follow=False)
        assert copied is not None
        assert copied.target == str(outside)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("victim", "unharmed")]


@pytest.mark.parametrize("made", ["touch /bin/.wh.sh", "mkdir -p /usr/.wh..wh..opq", "mkdir /.wh.x && touch /.wh.x/y"])
def test_a_program_cant_take_files_away_by_a_name(solver: WorkerSolver, tmp_path: Path, made: str) -> None:
    state, inputs = image_with()
    graph = llb.diff(state, shell(made, on=state).root).marshal(AMD64)

    with pytest.raises(VerificationError, match=r"\.wh\."):
        solver.export(graph, inputs, Recorder(), folder=tmp_path)


def test_a_bomb_is_stopped(solver: WorkerSolver, monkeypatch: pytest.MonkeyPatch) -> None:
    from copacetic.oci import layerstream

    monkeypatch.setattr(layerstream, "MAX_LAYER_SIZE", 1 << 20)
    state, inputs = image_with([tar_file("zeros", bytes(2 << 20))])

    assert "more than" in attempt(solver, state, inputs)


def test_a_program_that_fails_tells_its_last_words_without_control_characters(solver: WorkerSolver) -> None:
    state, inputs = image_with([])

    said = attempt(solver, run(state, "printf 'first\\nbad \\033[31mred\\007 \\377 end\\n'; exit 3"), inputs)

    assert "failed with exit code 3" in said
    assert "\x1b" not in said
    assert "red" in said


@pytest.mark.parametrize("script", ["kill -SEGV $$", "kill -9 $$"])
def test_a_program_that_is_killed_is_said_to_be(solver: WorkerSolver, script: str) -> None:
    state, inputs = image_with([])

    assert "was killed by signal" in attempt(solver, run(state, script), inputs)


def test_a_fork_bomb_ends_with_its_time(tmp_path: Path) -> None:
    from copacetic.worker.execution import Limits

    for mode in MODES:
        modes = [mode] if mode else []
        with open_worker(
            tmp_path / mode, modes=modes, images={BASE: busybox_image()}, limits=Limits(seconds=1.5)
        ) as worker:
            script = "while true; do (while true; do sleep 1; done) & sleep 0.01; done"
            started = time.monotonic()
            with pytest.raises(ExecutionError, match="did not end within 1.5 seconds"):
                read(worker, shell(script, name="bomb").root, "out")
            assert time.monotonic() - started < 30
