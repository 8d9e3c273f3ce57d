# SPDX-License-Identifier: Apache-2.0
"""What a graph takes from outside: the ssh agent, secrets, files from the network, directories, images by name."""

from __future__ import annotations

import hashlib
import http.server
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.solving import AMD64, read, shell, tree
from copacetic import llb
from copacetic.cache import Cache
from copacetic.errors import SolverError
from copacetic.http import HttpClient, HttpSettings
from copacetic.llb.graph import Mount
from copacetic.llb.solver import Inputs
from copacetic.oci import Digest
from copacetic.worker import WorkerSettings, WorkerSolver
from support.builder import BASE
from support.busybox import busybox_image
from support.debian import need
from support.images import MemorySource
from support.worker import compile_c, open_worker

pytestmark = pytest.mark.system
MODES = ["root", "all", "chroot"] if os.geteuid() == 0 else [""]


@pytest.fixture(params=MODES)
def solver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerSolver]:
    modes = [request.param] if request.param else []
    with open_worker(tmp_path / "worker", modes=modes, images={BASE: busybox_image()}) as worker:
        yield worker


@contextmanager
def echo_agent(path: Path) -> Iterator[None]:
    """Something that listens like an agent, and says everything back in upper case."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(4096):
                        connection.sendall(data.upper())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


TALK = """
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/un.h>
    #include <unistd.h>
    int main(void) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path, getenv("SSH_AUTH_SOCK"), sizeof to.sun_path - 1);
        int handle = socket(AF_UNIX, SOCK_STREAM, 0);
        char answer[64] = "";
        if (connect(handle, (struct sockaddr *)&to, sizeof to)) { puts("refused"); return 0; }
        write(handle, "hello", 5);
        shutdown(handle, SHUT_WR);
        read(handle, answer, 63);
        puts(answer);
    }"""


def test_the_ssh_agent_is_reached_and_leaves_nothing(solver: WorkerSolver, tmp_path: Path) -> None:
    tool = llb.scratch().file(llb.graph.MakeFile(path="/tool", data=compile_c(TALK), mode=0o755))
    mounts: list[Mount] = [
        llb.Bind(dest="/tool", source=tool, selector="/tool"),
        llb.Ssh(dest="/run/agent", mode=0o600),
    ]
    script = "/tool > /out; stat -c '%a %u %F' $SSH_AUTH_SOCK >> /out; echo $SSH_AUTH_SOCK >> /out"
    execution = shell(script, mounts=mounts)

    with echo_agent(tmp_path / "agent"):
        inputs = Inputs(ssh_agent=tmp_path / "agent")
        assert read(solver, execution.root, "out", inputs=inputs) == ["HELLO\n600 0 socket\n/run/agent\n"]
        found = tree(solver, llb.diff(llb.image(BASE), execution.root), inputs=inputs)

    assert not [path for path in found if path.startswith("run/")]


def test_the_real_ssh_agent_answers(solver: WorkerSolver, tmp_path: Path) -> None:
    need("ssh-agent", "ssh-add", "ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    path = tmp_path / "real"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            pass
        environment = {"SSH_AUTH_SOCK": str(path), "PATH": os.environ["PATH"]}
        subprocess.run(["ssh-add", "-q", tmp_path / "key"], env=environment, check=True)
        # The request for identities, and from its answer the type and the number of them.
        program = compile_c(
            TALK.replace('"hello", 5', '"\\0\\0\\0\\1\\13", 5')
            .replace("puts(answer)", 'printf("%d %d", answer[4], answer[8])')
            .replace("shutdown(handle, SHUT_WR);", "")
        )
        tool = llb.scratch().file(llb.graph.MakeFile(path="/tool", data=program, mode=0o755))
        mounts: list[Mount] = [llb.Bind(dest="/tool", source=tool, selector="/tool"), llb.Ssh(dest="/run/agent")]

        assert read(solver, shell("/tool > /out", mounts=mounts).root, "out", inputs=Inputs(ssh_agent=path)) == ["12 1"]
    finally:
        agent.terminate()
        agent.wait()


def test_an_agent_that_is_not_there_fails_unless_it_is_optional(solver: WorkerSolver, tmp_path: Path) -> None:
    needed = shell("true", mounts=[llb.Ssh(dest="/run/agent")]).root
    optional = shell(
        'test -z "$SSH_AUTH_SOCK" || test ! -e $SSH_AUTH_SOCK; echo fine > /out',
        mounts=[llb.Ssh(dest="/run/agent", optional=True)],
    ).root

    with pytest.raises(SolverError, match="no ssh agent"):
        read(solver, needed, "out")
    with pytest.raises(SolverError, match="does not answer"):
        read(solver, needed, "out", inputs=Inputs(ssh_agent=tmp_path / "none"))
    assert read(solver, optional, "out") == ["fine\n"]


@contextmanager
def web(files: dict[str, bytes]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_from_the_network_is_checked(tmp_path: Path) -> None:
    data = b"downloaded" * 10_000
    right, wrong = Digest.of(data), Digest("sha256", hashlib.sha256(b"other").hexdigest())
    with web({"/f": data}) as address, HttpClient(HttpSettings(retries=0)) as http:
        worker = WorkerSolver(WorkerSettings(cache=Cache(tmp_path), http=http))
        try:
            good = llb.http(f"{address}/f", checksum=right, filename="named", mode=0o600)
            found = tree(worker, good)
            assert found == {"named": f"file 600 0:0 {data.decode()}"}
            for state, message in (
                (llb.http(f"{address}/f", checksum=wrong, filename="x"), "has the digest"),
                (llb.http(f"{address}/none", checksum=right, filename="x"), "status 404"),
                (llb.http("http://127.0.0.1:1/x", checksum=right, filename="x"), "127.0.0.1:1"),
                (llb.http(f"{address}/f", checksum=right, filename="../../x"), "unusable"),
            ):
                with pytest.raises(SolverError, match=message):
                    tree(worker, state)
        finally:
            worker.close()


def test_a_directory_s_owners_become_root_and_devices_stay_out(solver: WorkerSolver, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/f").write_text("x")
    (folder / "sub").chmod(0o2770)
    if os.geteuid() == 0:
        os.chown(folder / "sub/f", 7, 8)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        found = tree(solver, llb.local("d"), inputs=Inputs(directories={"d": folder}))

    assert found == {"sub": "directory 2770 0:0", "sub/f": "file 644 0:0 x"}


def test_an_image_that_leads_to_another_digest_is_refused(solver: WorkerSolver) -> None:
    image = busybox_image()
    state = llb.oci_layout("client/image", Digest("sha256", "0" * 64), store="it")

    with pytest.raises(SolverError, match="leads to"):
        read(solver, state, "old/file", inputs=Inputs(images={"it": MemorySource(image)}))


def test_a_name_whose_image_has_changed_is_solved_again(tmp_path: Path) -> None:
    from support.images import make_image, make_layer

    current = {"it": make_image([make_layer({"f": "one"})])}
    worker = WorkerSolver(
        WorkerSettings(cache=Cache(tmp_path), open_image=lambda name: MemorySource(current["it"], name))
    )
    try:
        state = llb.image("registry.example/image:1")
        assert read(worker, state, "f") == ["one"]
        current["it"] = make_image([make_layer({"f": "two"})])
        assert read(worker, state, "f") == ["two"]
    finally:
        worker.close()


def test_a_private_cache_is_nobody_else_s_meanwhile(tmp_path: Path) -> None:
    private = llb.CacheMount(dest="/cache", id="p", sharing=llb.CacheSharing.PRIVATE)
    found: list[str] = []
    with open_worker(tmp_path, images={BASE: busybox_image()}) as worker:

        def use(number: int) -> None:
            script = f"ls /cache > /out; touch /cache/{number}; sleep 1; ls /cache >> /out"
            found.extend(read(worker, shell(script, mounts=[private]).root, "out"))

        threads = [threading.Thread(target=use, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(found) == ["1\n", "2\n"]


def test_proxies_are_seen_by_the_program_and_name_resolution_only_with_a_network(solver: WorkerSolver) -> None:
    proxy = llb.graph.ProxyEnv(http="http://proxy:1", no="localhost")
    script = "env | grep -i proxy | sort > /out; test -s /etc/resolv.conf && echo resolves >> /out || true"
    with_network = shell(script, proxy=proxy, network=llb.Network.SANDBOX).root
    without = shell("test -e /etc/resolv.conf && echo resolves > /out || echo alone > /out").root

    assert read(solver, with_network, "out") == [
        "HTTP_PROXY=http://proxy:1\nNO_PROXY=localhost\nhttp_proxy=http://proxy:1\nno_proxy=localhost\nresolves\n"
    ]
    assert read(solver, without, "out") == ["alone\n"]


def test_a_host_name_is_found_in_the_hosts_file(solver: WorkerSolver) -> None:
    assert "127.0.0.1\tlocalhost here\n" in read(solver, shell("cat /etc/hosts > /out", hostname="here").root, "out")[0]


def test_capabilities_name_the_sandbox(solver: WorkerSolver) -> None:
    found = solver.capabilities()

    assert found.name.startswith("worker (")
    assert found.merge_diff
    assert AMD64 in found.platforms or found.platforms[0].architecture != "amd64"
    assert found.labels["mode"] in {"root", "all", "chroot", "ids", "single"}
