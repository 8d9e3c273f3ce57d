# SPDX-License-Identifier: Apache-2.0
"""Device nodes: none is made in the sandbox, wherever, and those that are there are changed for nobody."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from contract.solving import read, shell
from copacetic import llb
from copacetic.llb.graph import MakeFile, Mount
from copacetic.llb.solver import Inputs, Solver
from copacetic.worker.inside.nodes import NODES
from copacetic.worker.inside.seccomp import OwnerRule, Sockets, build_filter
from support.builder.builder import BASE
from support.builder.worker import compile_c, open_worker
from support.image.busybox import busybox_image

pytestmark = pytest.mark.system
MODES = ["root", "all", "chroot"] if os.geteuid() == 0 else [""]
NAMESPACES = [mode for mode in MODES if mode != "chroot"]


@pytest.fixture(params=MODES)
def solver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Solver]:
    """A worker in every mode that its user can have."""
    with open_worker(tmp_path, modes=[request.param] if request.param else [], images={BASE: busybox_image()}) as it:
        yield it


namespaces_only = pytest.mark.parametrize("solver", NAMESPACES, indirect=True)

MOUNTS: list[Mount] = [
    llb.Bind(dest="/bound", source=llb.scratch().file(MakeFile(path="/f", data=b"x"))),
    llb.Bind(dest="/written", source=llb.scratch().file(MakeFile(path="/f", data=b"x")), readonly=False),
    llb.Bind(dest="/mine", source=llb.local("mine")),
    llb.Tmpfs(dest="/memory"),
    llb.Secret(dest="/secret", id="s"),
]
MAKE = """
    #define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <sys/sysmacros.h>
    #include <unistd.h>
    static void tell(const char *how, const char *path, long made) {
        if (made >= 0) printf("%s made %s\\n", how, path);
        int handle = open(path, O_RDONLY | O_NONBLOCK);
        if (handle >= 0) printf("%s OPENED %s\\n", how, path);
        unlink(path);
    }
    int main(int count, char **places) {
        for (int i = 1; i < count; i++) for (int block = 0; block < 2; block++) {
            char path[4200];
            mode_t mode = (block ? S_IFBLK : S_IFCHR) | 0666;
            dev_t device = block ? makedev(7, 0) : makedev(1, 3);
            snprintf(path, sizeof path, "%s/made-here", places[i]);
    #ifdef SYS_mknod
            tell("mknod", path, syscall(SYS_mknod, path, mode, device));
    #endif
            tell("mknodat", path, syscall(SYS_mknodat, AT_FDCWD, path, mode, device));
            int folder = open(places[i], O_RDONLY | O_DIRECTORY);
            tell("beside", path, syscall(SYS_mknodat, folder, "made-here", mode | 0xffffffff00000000, device));
            close(folder);
    #ifdef __x86_64__
            long made;
            static char low[4200] __attribute__((section(".data")));
            strcpy(low, path);
            __asm__ volatile("int $0x80" : "=a"(made) : "a"(14L), "b"(low), "c"((long)mode), "d"((long)device) : "memory");
            tell("32 bits", path, made);
    #endif
        }
        printf("tried %d\\n", count - 1);
    }"""


def _run(solver: Solver, program: bytes, script: str, tmp_path: Path) -> str:
    (tmp_path / "mine").mkdir()
    tool = llb.scratch().file(MakeFile(path="/tool", data=program, mode=0o755))
    mounts = [*MOUNTS, llb.Bind(dest="/tool", source=tool, selector="/tool")]
    inputs = Inputs(directories={"mine": tmp_path / "mine"}, secrets={"s": b"word"})
    return read(solver, shell(f"({script}) > /out 2>&1", mounts=mounts).root, "out", inputs=inputs)[0]


def test_no_device_is_made_or_opened_in_any_place(solver: Solver, tmp_path: Path) -> None:
    script = (
        "places=$(cut -d' ' -f5 /proc/self/mountinfo 2>/dev/null || true); mkdir /tmp/inner; "
        "/tool / /tmp /tmp/inner /srv /dev /dev/shm /written /memory $places"
    )

    *made, tried = _run(solver, compile_c(MAKE), script, tmp_path).splitlines()

    assert made == []
    assert int(tried.removeprefix("tried ")) >= (8 if solver.capabilities().labels["mode"] == "chroot" else 25)


@namespaces_only
def test_every_mount_refuses_devices_but_the_six_and_the_terminals(solver: Solver, tmp_path: Path) -> None:
    rows = [line.split() for line in _run(solver, b"", "cat /proc/self/mountinfo", tmp_path).splitlines()]

    places = {row[4] for row in rows}
    assert places >= {"/", "/proc", "/dev", "/dev/shm", "/bound", "/written", "/mine", "/memory", "/secret"}
    open_to_devices = {row[4] for row in rows if "nodev" not in row[5].split(",")}
    assert open_to_devices == {*(f"/dev/{name}" for name in NODES), *places & {"/dev/pts"}}
    assert {row[4] for row in rows if "nosuid" not in row[5].split(",")} == set()


def test_what_is_done_to_a_node_is_done_to_no_node_of_this_machine(solver: Solver) -> None:
    nodes = [Path("/dev", name) for name in NODES if Path("/dev", name).exists()]
    before = {node: _seen(node) for node in nodes}
    # Nothing here would harm a machine where it worked.
    script = (
        "for n in null zero full random urandom tty; do chmod 0766 /dev/$n; chown 0:7 /dev/$n; touch -d @1000 /dev/$n; "
        "setfattr -n trusted.mark -v x /dev/$n; done; for f in /proc/*; do [ -c $f ] && chmod 0766 $f; done; true"
    )

    read(solver, shell(f"set +e; ({script}) 2> /dev/null; true > /out").root, "out")

    try:
        assert {node: _seen(node) for node in nodes} == before
    finally:
        for node in nodes if os.geteuid() == 0 else ():
            node.chmod(stat.S_IMODE(before[node].mode))
            os.chown(node, before[node].uid, before[node].gid)


class _Seen(NamedTuple):
    mode: int
    uid: int
    gid: int
    time: int
    attributes: tuple[str, ...]


def _seen(node: Path) -> _Seen:
    info = node.stat()
    return _Seen(info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, tuple(os.listxattr(node)))


def test_the_nodes_work_as_everywhere(solver: Solver) -> None:
    script = """
        echo gone > /dev/null; echo gone >> /dev/null; test -z "$(cat /dev/null)"
        for n in zero random urandom full; do test $(head -c 5 /dev/$n | wc -c) = 5; done
        if echo x > /dev/full; then exit 3; fi
        stat -c '%a %u:%g %F' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty > /out"""

    [text] = read(solver, shell(script).root, "out")

    owner = "65534:65534" if solver.capabilities().labels["mode"] in {"ids", "single"} else "0:0"
    assert {line.replace(owner, "root") for line in text.splitlines()} == {"666 root character special file"}


def test_the_files_that_no_device_is_are_made(solver: Solver) -> None:
    program = compile_c("""
        #include <stdio.h>
        #include <sys/socket.h>
        #include <sys/stat.h>
        #include <sys/un.h>
        int main(void) {
            struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/s"};
            printf("%d %d %d %d\\n", mknod("/tmp/f", S_IFREG | 0644, 0), mknod("/tmp/p", S_IFIFO | 0644, 0),
                   mkfifo("/tmp/q", 0644), bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof name));
        }""")
    tool = llb.scratch().file(MakeFile(path="/tool", data=program, mode=0o755))
    mounts = [llb.Bind(dest="/tool", source=tool, selector="/tool")]

    assert read(solver, shell("/tool > /out", mounts=mounts).root, "out") == ["0 0 0 0\n"]


def test_the_filter_fits_for_every_kind_of_machine() -> None:
    for machine in ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x"):
        for owners in get_args(OwnerRule):
            for sockets in get_args(Sockets):
                program = build_filter(machine, owners=owners, sockets=sockets)
                assert program is not None
                assert len(program) % 8 == 0
