# SPDX-License-Identifier: Apache-2.0
"""
Managers in front of rpm that run here, asked by a builder that was named: Debian's own, in a root of Debian's that has
rpm's database in place of dpkg's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.oci.manifest import OCI_LAYER
from support.builder.running import Patching, open_builder
from support.deb.debian import build_root, need
from support.image.images import Layer, describe, make_image, make_layer, make_tar, tar_file, write_layout
from support.image.trees import layer_paths
from support.rpm.rpmbuilds import Build, a_file
from support.rpm.rpmoracle import RpmRoot
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.soak]

OLD = Build("foo", files=[a_file("/usr/bin/foo", "old\n", mode=0o755)])
NEW = Build("foo", version="2", files=[a_file("/usr/bin/foo", "new\n", mode=0o755)])
STAYS = Build("bar", files=[a_file("/usr/bin/bar", "bar\n", mode=0o755)])
OS_RELEASE = 'NAME="Tests"\nID="fedora"\nVERSION_ID="42"\n'
MACROS = "%_dbpath /var/lib/rpm\n"
REPOSITORY = "[tests]\nname=tests\nbaseurl=file:///srv/repo\nenabled=1\ngpgcheck=0\nautorefresh=1\n"
FOLDERS = {"dnf": "etc/yum.repos.d", "zypper": "etc/zypp/repos.d"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    need("umoci", "rpm", "createrepo_c", root=True)
    with open_builder("buildkit") as found:
        yield found


@pytest.mark.parametrize("manager", FOLDERS)
def test_a_builder_upgrades_with_the_manager_that_the_image_has(case: Patching, manager: str) -> None:
    image = _image(case.folder, manager)

    refused = case.patch(image, "--no-host-repositories")
    run = case.patch(image, "--no-host-repositories", "--allow-unsigned-repository")

    assert refused.code != 0
    assert "without a signature, as the image has it" in refused.error
    assert run.code == 0, run.error
    assert [update["name"] for update in section_of(case.plan)["updates"]] == ["foo"]
    assert case.changed()["usr/bin/foo"] == "new\n"
    changed = layer_paths(case.folder / "out", "patched")
    assert {path for path in changed if not path.startswith("var/lib/rpm/")} == {"usr/bin/foo"}


def test_a_repository_that_dnf_would_pass_over_ends_the_run(case: Patching) -> None:
    image = _image(case.folder, "dnf", with_metadata=False)

    run = case.patch(image, "--no-host-repositories", "--allow-unsigned-repository")

    assert run.code != 0
    assert "repomd.xml" in run.error


def _image(folder: Path, manager: str, *, with_metadata: bool = True) -> str:
    tar = build_root("bookworm", packages=[manager, "rpm"], name=f"bookworm-{manager}", age=False)
    root, repository = folder / "database", folder / "repo"
    repository.mkdir()
    made = [build.write(folder) for build in (OLD, STAYS)]
    NEW.write(repository)
    if with_metadata:
        subprocess.run(["createrepo_c", "-q", repository], check=True)
    RpmRoot(root).install(made)
    files: dict[str, bytes | str] = {
        "etc/os-release": OS_RELEASE,
        "etc/rpm/macros": MACROS,
        f"{FOLDERS[manager]}/tests.repo": REPOSITORY,
    }
    files |= {f"srv/repo/{path.relative_to(repository)}": path.read_bytes() for path in repository.rglob("*.*")}
    files |= {f"var/lib/rpm/{path.name}": path.read_bytes() for path in (root / "var/lib/rpm").iterdir()}
    packed = [tar_file(f"usr/bin/{name}", f"{text}\n", mode=0o755) for name, text in (("foo", "old"), ("bar", "bar"))]
    gone = [tar_file("var/lib/.wh.dpkg")]
    plain = tar.read_bytes()
    layers = [
        Layer(describe(plain, OCI_LAYER), plain, plain),
        make_layer([*packed, *gone]),
        make_layer(make_tar(files)),
    ]
    write_layout(folder / "image", {"base": make_image(layers)})
    return f"oci:{folder / 'image'}:base"
