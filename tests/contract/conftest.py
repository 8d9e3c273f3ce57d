# SPDX-License-Identifier: Apache-2.0
"""
The solvers that every case runs against. A new one is one line in `SOLVERS` and a function beside it.

A function gets pytest's request, for fixtures of its own, and yields a `Solver` that resolves `BASE`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import pytest

from copacetic.buildkit.solver import BuildkitSolver
from copacetic.connect.address import parse_address
from copacetic.connect.route import find_routes
from copacetic.connect.settings import BuilderSettings
from copacetic.llb.solver import Solver
from support.builder.builder import BASE
from support.builder.worker import open_worker
from support.image.busybox import busybox_image

Factory = Callable[[pytest.FixtureRequest], AbstractContextManager[Solver]]


@contextmanager
def _buildkit(request: pytest.FixtureRequest) -> Iterator[Solver]:
    daemon = request.getfixturevalue("buildkit").daemon
    solver = BuildkitSolver(daemon.connect, daemon.address, limit=120)
    try:
        yield solver
    finally:
        solver.close()


@contextmanager
def _docker(request: pytest.FixtureRequest) -> Iterator[Solver]:
    """The BuildKit inside a Docker engine of Debian's, with the containerd image store."""
    engine = request.getfixturevalue("docker")
    (route,) = find_routes(parse_address(f"docker://{engine.host}"), BuilderSettings())
    solver = BuildkitSolver(route.connect, "docker", limit=120)
    try:
        yield solver
    finally:
        solver.close()


def _worker(*modes: str) -> Factory:
    """In the first of these modes that works for this user, or in the best one."""

    @contextmanager
    def make(request: pytest.FixtureRequest) -> Iterator[Solver]:
        folder = request.getfixturevalue("tmp_path_factory").mktemp("worker")
        with open_worker(folder, modes=modes, images={BASE: busybox_image()}) as solver:
            yield solver

    return make


SOLVERS: dict[str, Factory] = {
    "buildkit": _buildkit,
    "docker": _docker,
    "worker": _worker(),
}
if os.geteuid() == 0:
    SOLVERS["worker-namespace"] = _worker("all")
    SOLVERS["worker-chroot"] = _worker("chroot")

_NO_MOUNTS = "without mounts there is only a copy at the place"
_OLD = "Debian 13's Docker 26 is too old to know it"
EXCEPTIONS: Mapping[str, Mapping[str, str]] = {
    "docker": {
        "test_an_exit_code_that_is_expected_is_no_failure": _OLD,
        "test_directories_files_and_links_are_as_they_were_asked_for": _OLD,
    },
    "worker (chroot)": {
        "test_environment_directory_user_and_host_name_are_the_graph_s": "the host name is the container's",
        "test_another_filesystem_is_mounted_and_can_not_be_changed": _NO_MOUNTS,
        "test_what_is_written_into_a_tmpfs_stays_nowhere": _NO_MOUNTS,
        "test_a_tmpfs_is_as_big_as_it_may_be": _NO_MOUNTS,
        "test_a_secret_is_a_file_for_the_process_and_nowhere_afterwards": _NO_MOUNTS,
        "test_there_is_no_network_when_there_shall_be_none": "there is no /proc to see it in",
    },
    "worker (user namespace, one user)": {
        "test_environment_directory_user_and_host_name_are_the_graph_s": "there is no other user than root",
    },
}
"""What a solver can't do, by its own name for itself; docs/concepts/worker.md says the same."""


@pytest.fixture(
    params=[
        pytest.param(make, id=name, marks=[pytest.mark.system, pytest.mark.xdist_group(name)])
        for name, make in SOLVERS.items()
    ]
)
def solver(request: pytest.FixtureRequest) -> Iterator[Solver]:
    """A solver of the kind that is tested."""
    with request.param(request) as made:
        reason = EXCEPTIONS.get(made.capabilities().name, {}).get(request.node.originalname)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        yield made
