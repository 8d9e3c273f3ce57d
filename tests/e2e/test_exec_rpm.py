# SPDX-License-Identifier: Apache-2.0
"""A real CentOS 7, upgraded by its own rpm, and by another image's where it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.builder.running import Patching, open_builder
from support.deb.debian import need
from support.image.images import fixture
from support.rpm.centos import UPDATES, centos_image, centos_root, rpm_in, snapshot, updates, upgrade
from support.server.served import Served, serve
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("exec-rpm")]

RANDOM = re.compile(r"etc/openldap/certs/.*|etc/pki/nssdb/.*|etc/pki/ca-trust/extracted/java/cacerts")
"""Made by scriptlets with random numbers, or with the time in it."""
OWN_LOGS = ("var/cache/ldconfig/aux-cache", "run/", "tmp/", "var/tmp/", "usr/sbin/policy-rc.d")


@pytest.fixture(scope="module", params=["worker", pytest.param("buildkit", marks=pytest.mark.soak)])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    need("umoci", "rpm", root=True)
    with open_builder(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def repository() -> Iterator[str]:
    served = Served()
    served.add_folder(fixture(UPDATES))
    with serve(served):
        yield served.address


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What rpm leaves when it is called by hand."""
    need("rpm", root=True)
    root = centos_root(tmp_path_factory.mktemp("real") / "root")
    upgrade(root)
    return root


def test_the_tree_is_the_one_that_rpm_leaves(case: Patching, repository: str, real: Path) -> None:
    run = case.patch(centos_image(case.folder / "image"), "--strategy", "exec", "--repository", repository)

    assert run.code == 0, run.error
    assert run.ran() == [f"rpm -U {len(updates())} packages"]
    assert len(section_of(case.plan)["updates"]) == len(updates())
    root = case.unpacked()
    assert not list(root.glob("var/lib/rpm/__db.*"))
    assert differences(real, root) == []
    assert rpm_in(root, "-qa | sort") == rpm_in(real, "-qa | sort")
    assert rpm_in(root, "-Va") == rpm_in(real, "-Va")


def test_another_image_s_rpm_does_it_where_an_image_has_none(case: Patching, repository: str, real: Path) -> None:
    tooling = centos_image(case.folder / "tooling")
    image = centos_image(case.folder / "image", without=["usr/bin/rpm"])
    flags = ("--strategy", "exec", "--repository", repository, "--tooling-image", tooling)
    refused = case.patch(image, *flags[:4])
    run = case.patch(image, *flags)

    assert refused.code != 0
    assert run.code == 0, run.error
    assert run.ran() == [f"rpm --root -U {len(updates())} packages"]
    assert differences(real, case.unpacked()) == []


def differences(real: Path, ours: Path) -> list[str]:
    expected, actual = snapshot(real), snapshot(ours)
    return [
        f"{path}: expected {expected.get(path)}, got {actual.get(path)}"
        for path in sorted(expected.keys() | actual.keys())
        if expected.get(path) != actual.get(path) and not path.startswith(OWN_LOGS) and not RANDOM.fullmatch(path)
    ]
