# SPDX-License-Identifier: Apache-2.0
"""What a program in the sandbox can't do, tried by programs that want to."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.solving import AMD64, PATH, Recorder, read, shell
from copacetic import llb
from copacetic.errors import SolverError
from copacetic.llb.graph import MakeFile
from copacetic.llb.solver import Inputs, Solver
from support.builder.builder import BASE
from support.builder.running import running_with
from support.builder.worker import compile_c, open_worker
from support.image.busybox import busybox_image
from support.image.images import Image, make_image, make_layer, tar_file

pytestmark = pytest.mark.system
MODES = ["root", "all", "chroot"] if os.geteuid() == 0 else [""]
amd64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="these are amd64's")
NAMESPACES = [mode for mode in MODES if mode != "chroot"]


@pytest.fixture(params=MODES)
def solver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Solver]:
    """A worker in every mode that root can have."""
    with open_worker(tmp_path, modes=[request.param] if request.param else [], images={BASE: busybox_image()}) as it:
        yield it


namespaces_only = pytest.mark.parametrize("solver", NAMESPACES, indirect=True)


def output(solver: Solver, script: str, **options: object) -> str:
    return read(solver, shell(f"({script}) > /out 2>&1 || true", **options).root, "out")[0]  # type: ignore[arg-type]


def test_it_has_fewer_capabilities_than_docker_s_and_gains_none(solver: Solver) -> None:
    program = compile_c("""
        #include <stdio.h>
        #include <sys/prctl.h>
        int main(void) {
            for (int number = 0; prctl(PR_CAPBSET_READ, number) >= 0; number++)
                if (prctl(PR_CAPBSET_READ, number)) printf("%d ", number);
            printf("nnp=%d\\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        }""")
    numbers, _, rest = _run_compiled(solver, program).rpartition(" ")

    docker_s_without_mknod_and_net_raw = {0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31}
    assert {int(number) for number in numbers.split()} <= docker_s_without_mknod_and_net_raw
    assert rest == "nnp=1\n"


def _run_compiled(solver: Solver, program: bytes, **options: object) -> str:
    tool = llb.scratch().file(MakeFile(path="/tool", data=program, mode=0o755))
    mounts = [llb.Bind(dest="/tool", source=tool, selector="/tool")]
    return read(solver, shell("/tool > /tmp/out 2>&1 || true", mounts=mounts, **options).root, "tmp/out")[0]  # type: ignore[arg-type]


FORBIDDEN = """
    #define _GNU_SOURCE
    #include <errno.h>
    #include <sched.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/ioctl.h>
    #include <sys/mount.h>
    #include <sys/ptrace.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static void tell(const char *name, long result) { printf("%s %s\\n", name, result < 0 ? strerror(errno) : "WORKED"); }
    int main(void) {
        tell("mount", mount("none", "/tmp", "tmpfs", 0, ""));
        tell("umount", umount2("/proc", MNT_DETACH));
        tell("unshare", unshare(CLONE_NEWUSER));
        tell("clone", syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0));
        tell("clone3", syscall(SYS_clone3, 0, 0));
        tell("setns", setns(0, 0));
        tell("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
        tell("keyctl", syscall(SYS_keyctl, 0, -3, 1));
        tell("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -4));
        tell("bpf", syscall(SYS_bpf, 0, 0, 0));
        tell("perf_event_open", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
        tell("io_uring", syscall(SYS_io_uring_setup, 1, 0));
        tell("userfaultfd", syscall(SYS_userfaultfd, 0));
        tell("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, 0, 0));
        tell("init_module", syscall(SYS_init_module, "", 0, ""));
        tell("TIOCSTI", ioctl(0, TIOCSTI, "x"));
        tell("open_tree", syscall(428, -100, "/", 1));
        tell("fsopen", syscall(430, "tmpfs", 0));
        tell("open_tree_attr", syscall(467, -100, "/", 1, 0, 0));
        tell("tomorrow", syscall(600, 0));
        tell("name_to_handle_at", syscall(SYS_name_to_handle_at, -100, "/", 0, 0, 0));
        tell("fixed-addresses", syscall(SYS_personality, 0x0040000));
        tell("executable-pages", syscall(SYS_personality, 0x0400000 | 8));
    }"""


def test_no_door_of_the_kernel_is_open(solver: Solver) -> None:
    lines = _run_compiled(solver, compile_c(FORBIDDEN)).splitlines()

    assert len(lines) == 23
    refused = {"Operation not permitted", "Function not implemented"}
    assert [line for line in lines if line.partition(" ")[2] not in refused] == []


@amd64_only
def test_the_32_bit_calls_are_no_way_around(solver: Solver) -> None:
    program = compile_c("""
        #include <stdio.h>
        static long call(long number, long first) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(0), "d"(0), "S"(0) : "memory");
            return result;
        }
        int main(void) {
            int numbers[] = {21, 22, 52, 310, 346, 26, 288, 286, 357, 336, 425, 128, 117};
            for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) printf("%ld ", call(numbers[i], 0));
            printf("%ld %ld\\n", call(120, 0x10000000), call(20, 0) > 0 ? 1l : 0l);
        }""")

    *refused, clone, worked = _run_compiled(solver, program).split()

    assert set(refused[:-1]) == {"-1"}, "something was not refused"
    assert (clone, worked) == ("-1", "1")


@amd64_only
def test_the_x32_numbers_are_no_way_around(solver: Solver) -> None:
    program = compile_c("""
        #include <errno.h>
        #include <stdio.h>
        #include <string.h>
        #include <unistd.h>
        int main(void) { long r = syscall(0x40000000 + 272, 0x10000000); printf("%s\\n", r < 0 ? strerror(errno) : "WORKED"); }
        """)

    assert _run_compiled(solver, program) == "Function not implemented\n"


def test_a_setuid_program_gains_nothing(solver: Solver) -> None:
    program = compile_c('#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("%d\\n", geteuid()); }')
    image = make_image([*busybox_image().layers, make_layer([tar_file("bin/become", program, mode=0o4755)])])
    script = "cp /bin/become /tmp/copy; /bin/become; /tmp/copy"
    with _of(solver, image) as (state, inputs):
        if solver.capabilities().labels["mode"] == "single":
            pytest.skip("there is only one user")
        run = state.run(["/bin/sh", "-c", f"({script}) > /tmp/out"], env=PATH, user="daemon", network=llb.Network.NONE)
        assert read(solver, run.root, "tmp/out", inputs=inputs) == ["1\n1\n"]


class _of:  # noqa: N801 - reads as a phrase
    """An image of the caller's, for the worker."""

    def __init__(self, _solver: Solver, image: Image) -> None:
        from support.image.images import MemorySource

        self._state = llb.oci_layout("client/image", image.descriptor.digest, store="it")
        self._inputs = Inputs(images={"it": MemorySource(image)})

    def __enter__(self) -> tuple[llb.State, Inputs]:
        return self._state, self._inputs

    def __exit__(self, *exc: object) -> None:
        pass


@namespaces_only
def test_a_read_only_mount_stays_read_only(solver: Solver, tmp_path: Path) -> None:
    other = llb.scratch().file(MakeFile(path="/f", data=b"x"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/f").write_text("mine")
    script = "for d in /a /b; do mount -o remount,rw $d; echo y > $d/f; rm $d/f; touch $d/g; chmod 777 $d; ls $d; cat $d/f; done"
    mounts = [llb.Bind(dest="/a", source=other), llb.Bind(dest="/b", source=llb.local("mine"))]
    inputs = Inputs(directories={"mine": tmp_path / "mine"})
    state = shell(f"set +e; ({script}) > /out 2>/dev/null; true", mounts=mounts).root

    assert read(solver, state, "out", inputs=inputs) == ["f\nxf\nmine"]


@namespaces_only
def test_nothing_of_this_machine_is_seen_or_reached(solver: Solver, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    script = (
        f"cat {secret}; cat /proc/1/root{secret}; ls /proc | grep -c '^[0-9]'; kill -9 {os.getpid()}; "
        "for f in sys/kernel/hostname sysrq-trigger; do echo b > /proc/$f && echo WROTE; done; "
        "mount | grep -v -e ^overlay -e ^proc -e ^tmpfs -e ^devtmpfs -e ^devpts -e ^none -e ^udev"
    )

    found = output(solver, script)

    assert "s3cret" not in found
    assert "WROTE" not in found
    processes = next(int(line) for line in found.splitlines() if line.isdigit())
    assert processes <= 6


@namespaces_only
def test_what_the_kernel_shows_is_read_only_and_what_is_root_s_is_empty(solver: Solver) -> None:
    """Modes are set to what they are: in /proc they are the whole machine's, so that a hole would be left behind."""
    script = """
        for f in $(find /proc -maxdepth 1 -type f); do
            if test ! -r $f; then echo "unreadable $f"; fi
            if (: >> $f) 2> /dev/null; then echo "written $f"; fi
            chmod $(stat -c %a $f) $f 2> /dev/null && echo "changed $f"
        done
        for d in sys bus irq fs tty driver acpi pressure 1 self self/net/; do
            for f in $(find /proc/$d -type f -perm -200 2> /dev/null); do
                if (: >> $f) 2> /dev/null; then echo "written $f"; fi
            done
        done
        for f in /proc/self/net/dev /proc/sys/kernel/hostname /proc; do
            chmod $(stat -c %a $f) $f 2> /dev/null && echo "changed $f"
        done
        for f in keys kmsg kcore slabinfo timer_list kpagecount vmallocinfo; do
            test ! -e /proc/$f || test "$(head -c 1 /proc/$f | wc -c)" = 0 || echo "shown $f"
        done
        tr -d '\\000' < /proc/1/cmdline"""

    assert output(solver, script) == ""


def test_nothing_is_open_but_input_and_output(solver: Solver) -> None:
    program = compile_c("""
        #include <fcntl.h>
        #include <stdio.h>
        int main(void) { for (int fd = 0; fd < 4096; fd++) if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd); }""")

    assert _run_compiled(solver, program) == "0 1 2 "


def test_there_is_no_way_out_by_chroot(solver: Solver) -> None:
    program = compile_c("""
        #include <stdio.h>
        #include <sys/stat.h>
        #include <unistd.h>
        int main(void) {
            mkdir("/tmp/inner", 0755);
            chroot("/tmp/inner");
            for (int i = 0; i < 64; i++) if (chdir("..")) break;
            chroot(".");
            printf("%s\\n", access("/old/file", F_OK) == 0 || access("/../old/file", F_OK) == 0 ? "inside" : "OUTSIDE");
        }""")

    assert _run_compiled(solver, program) == "inside\n"


@pytest.mark.parametrize("network", [llb.Network.NONE, llb.Network.SANDBOX])
def test_there_are_sockets_of_few_families(solver: Solver, network: llb.Network) -> None:
    program = compile_c("""
        #include <errno.h>
        #include <stdio.h>
        #include <sys/socket.h>
        int main(void) {
            for (int family = 0; family < 64; family++) for (int kind = 1; kind < 11; kind++) {
                if (socket(family, kind, 0) >= 0 || errno == EPERM) printf("%d ", family), kind = 11;
            }
            for (int protocol = 1; protocol < 32; protocol++)
                if (socket(AF_NETLINK, SOCK_RAW, protocol) >= 0) printf("netlink-%d ", protocol);
            for (int family = 2; family < 64; family++) {
                int pair[2];
                if (socketpair(family, SOCK_SEQPACKET, 0, pair) >= 0) printf("pair-%d ", family);
            }
            printf("\\n");
        }""")

    allowed = (
        {1} if solver.capabilities().labels["mode"] == "chroot" and network is llb.Network.NONE else {1, 2, 10, 16}
    )
    families = _run_compiled(solver, program, network=network).split()
    assert {1} <= {int(family) for family in families} <= allowed


@amd64_only
@pytest.mark.parametrize("network", [llb.Network.NONE, llb.Network.SANDBOX])
def test_the_old_way_to_sockets_leads_to_none(solver: Solver, network: llb.Network) -> None:
    program = compile_c("""
        #include <stdio.h>
        static int arguments[4];
        static long call(long what, int family, int kind) {
            long result;
            arguments[0] = family, arguments[1] = kind;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(102L), "b"(what), "c"(arguments) : "memory");
            return result;
        }
        int main(void) { printf("%ld %ld %ld\\n", call(1, 40, 1), call(1, 1, 1), call(8, 30, 5)); }""")

    assert _run_compiled(solver, program, network=network) == "-97 -97 -97\n", "not EAFNOSUPPORT"


def test_there_is_no_network_without_one(solver: Solver) -> None:
    program = compile_c("""
        #include <arpa/inet.h>
        #include <stdio.h>
        #include <sys/socket.h>
        int main(void) {
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x08080808)};
            int raw = socket(AF_PACKET, SOCK_RAW, 0), inet = socket(AF_INET, SOCK_DGRAM, 0);
            struct sockaddr_ll { int x; };
            printf("%s\\n", inet >= 0 && connect(inet, (struct sockaddr *)&to, sizeof to) == 0 ? "REACHED" : "nothing");
            printf("%s\\n", socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? "local" : "NONE");
            (void)raw;
        }""")

    assert _run_compiled(solver, program) == "nothing\nlocal\n"


def test_processes_that_were_left_in_the_background_end_with_the_program(solver: Solver, tmp_path: Path) -> None:
    token = str(7_000_000 + os.getpid())
    script = f"(setsid sleep {token} &) ; (setsid nohup sleep {token} > /dev/null 2>&1 &); sleep 0.1"
    with solver.solve(shell(script).root.marshal(AMD64), Inputs(), Recorder()):
        pass

    assert running_with(token) == []


def test_the_worker_never_runs_python_of_the_image(solver: Solver) -> None:
    """The helper is Python, and for a moment the image's root is its own, with more rights than the program gets."""
    places = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), f"{sys.base_prefix}/lib/python3", "/tmp"}
    poison = "open('/srv/owned', 'w').write('owned')\n"
    names = sorted(sys.stdlib_module_names | {"encodings/__init__", "encodings/idna", "site", "sitecustomize"})
    items = [tar_file(f"{place.strip('/')}/{name}.py", poison) for place in places for name in names]
    image = make_image([*busybox_image().layers, make_layer(items)])

    with _of(solver, image) as (state, inputs):
        cases = [
            state.run(["/bin/true"], env=PATH, network=llb.Network.NONE).root,
            state.run(["/bin/sh", "-c", "chown 3:4 /srv"], env=PATH, network=llb.Network.NONE).root,
            state.run(["/bin/nothing"], env=PATH, network=llb.Network.NONE).root,
            state.run(["/bin/true"], env=PATH, user="nobody-here", network=llb.Network.NONE).root,
            state.run(["/bin/true"], env=PATH, cwd="/bin/true/x", network=llb.Network.NONE).root,
        ]
        for case in cases:
            try:
                with solver.solve(case.marshal(AMD64), inputs, Recorder()) as result:
                    assert result.filesystem.lookup("srv/owned") is None
            except SolverError as error:
                assert "owned" not in str(error)
                assert "import" not in str(error).lower()


def test_device_directories_of_the_image_are_hidden(solver: Solver) -> None:
    image = make_image(
        [*busybox_image().layers, make_layer([tar_file("dev/null", "no device"), tar_file("dev/x", "x")])]
    )

    with _of(solver, image) as (state, inputs):
        script = (
            "echo gone > /dev/null; test -c /dev/null && cat /dev/null > /out; test -c /dev/zero; echo y > /dev/new"
        )
        run = state.run(["/bin/sh", "-ec", script], env=PATH, network=llb.Network.NONE)
        with solver.solve(llb.diff(state, run.root).marshal(AMD64), inputs, Recorder()) as result:
            changed = {path for path, entry in result.filesystem.walk() if entry.type.value == "file"}

    assert changed == {"out"}


def test_the_seccomp_numbers_are_libseccomp_s() -> None:
    import ctypes
    import ctypes.util

    from copacetic.worker.inside import seccomp

    name = ctypes.util.find_library("seccomp")
    if name is None:
        pytest.skip("libseccomp is not installed")
    library = ctypes.CDLL(name)
    columns = {"x86_64": 0, "i386": 1, "aarch64": 2, "arm": 3, "ppc64le": 4, "s390x": 5}

    for call, row in seccomp.NUMBERS.items():
        for kind, column in columns.items():
            real = library.seccomp_syscall_resolve_name_arch(seccomp._AUDIT[kind], call.encode())
            # A negative number stands for a call that a machine doesn't have, or that it also has in another way.
            assert real == row[column] or (real < 0 and (row[column] is None or call.startswith("socket"))), (
                call,
                kind,
            )
    for call, number in {**seccomp._NEW_CALLS, "clone3": seccomp._CLONE3}.items():
        for kind in columns:
            assert library.seccomp_syscall_resolve_name_arch(seccomp._AUDIT[kind], call.encode()) == number, call
