# SPDX-License-Identifier: Apache-2.0
"""Real Alpine and Wolfi images, upgraded by a real apk in the worker and in BuildKit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

import pytest

from copacetic.errors import PackageError, about_package
from copacetic.oci.layout import LayoutSource
from copacetic.unpack.apk.unpacker import ApkUnpacker
from copacetic.unpack.shipped import ShippedPackage
from copacetic.updates import FetchedPackage
from support.apk.apkoracle import alpine_image, alpine_image_on, alpine_root, differences, upgrade
from support.apk.apkrepo import ApkRepository, public_pem
from support.apk.apkreversion import newer
from support.apk.apks import Apk
from support.builder.running import Patching, open_builder
from support.deb.debian import need
from support.deb.debs import directory, file, symlink
from support.image.images import fixture, skopeo, umoci
from support.image.trees import layer_paths
from support.server.served import Served, serve
from support.value.plandocuments import section_of
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("exec-apk")]

KINDS = ("worker", "buildkit")
plans_itself = pytest.mark.parametrize("address", ["buildkit"], indirect=True)
"""What only a builder that was named does."""
FOO = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)})
RUNS = {"post-upgrade": "#!/bin/sh\nset -e\nwc -c /usr/bin/foo >/usr/share/foo.size\n"}
NEW = replace(FOO, version="2-r0", files={"usr/bin/foo": file("new", 0o755)}, scripts=RUNS)


@pytest.fixture(scope="module", params=KINDS)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    need("umoci", root=True)
    with open_builder(request.param) as found:
        yield found


@pytest.fixture
def repository() -> Iterator[ApkRepository]:
    served = ApkRepository()
    with serve(served):
        yield served


# -- the image's own apk -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "folder", "updates", "different"),
    [
        ("3.10.2", "repo-3.10.9", 8, ["lib/apk/db/scripts.tar"]),  # where this apk writes the time of its run
        ("3.20.3", "repo-3.20.6", 6, []),
    ],
)
def test_the_tree_is_the_one_that_apk_leaves_after_one_run(
    case: Patching, release: str, folder: str, updates: int, different: Sequence[str]
) -> None:
    path = fixture(f"alpine/{folder}")
    real = alpine_root(release, case.folder / "real")
    assert upgrade(real, path).code == 0
    if different:
        time.sleep(1.1)  # so that both runs have times of their own
    served = Served()
    served.add_folder(path)
    with serve(served):
        keys = [f"--key={key}" for key in path.glob("*.rsa.pub")]
        image = alpine_image(release, case.folder / "image")
        if image.startswith("docker"):
            skopeo("copy", "--quiet", image, f"oci:{case.folder / 'image'}:base")
            image = f"oci:{case.folder / 'image'}:base"
        run = case.patch(image, "--strategy", "exec", "--repository", served.address, *keys)

    assert run.code == 0, run.err
    assert run.ran() == [f"apk upgrade of {updates} packages"]
    assert len(section_of(case.plan)["updates"]) == updates
    assert [line.partition(":")[0] for line in differences(real, case.unpacked())] == list(different)


def test_a_script_that_only_running_can_do_is_run_without_a_network(case: Patching, repository: ApkRepository) -> None:
    port = repository.address.rpartition(":")[2]
    asks = f"if nc -w 2 127.0.0.1 {port} </dev/null; then echo yes; else echo no; fi >/usr/share/network"
    repository.publish([replace(NEW, scripts={"post-upgrade": f"{RUNS['post-upgrade']}{asks}\n"})])
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [FOO])

    run = case.patch(image)

    assert run.code == 0, run.err
    assert run.ran() == ["apk upgrade of 1 package"]
    assert repository.requests.count(repository.index_path) == 1
    assert case.plan["strategy"] == "exec"
    assert str(case.plan["strategyReason"]).startswith("foo: post-upgrade: line 3")
    changed = case.changed()
    assert changed["usr/share/foo.size"] == "3 /usr/bin/foo\n"
    assert changed["usr/share/network"] == "no\n"
    assert layer_paths(case.folder / "out", "patched") == {
        "lib/apk/db/installed",
        "lib/apk/db/scripts.tar",
        "usr/bin/foo",
        "usr/share/foo.size",
        "usr/share/network",
    }


def test_byte_code_that_a_script_compiles_anew_is_left_to_python(case: Patching, repository: ApkRepository) -> None:
    source, code = "usr/share/foo/same.py", "usr/share/foo/__pycache__/same.cpython-312.pyc"
    script = f"rm -rf /usr/share/foo/__pycache__; mkdir /usr/share/foo/__pycache__; echo again >/{code}\n"
    new = replace(NEW, files={**NEW.files, source: file("same")})
    repository.publish([replace(new, scripts={"post-upgrade": f"{RUNS['post-upgrade']}{script}"})])
    old = replace(FOO, files={**FOO.files, source: file("same")})
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [old], more={code: b"compiled"})

    run = case.patch(image)

    assert run.code == 0, run.err
    assert "usr/share/foo.size" in case.changed()
    assert not [path for path in layer_paths(case.folder / "out", "patched") if path.startswith("usr/share/foo/")]


in_the_worker = pytest.mark.parametrize("address", ["worker"], indirect=True)


@in_the_worker
def test_a_script_makes_room_for_what_has_no_place_before_it_ran(case: Patching, repository: ApkRepository) -> None:
    """As alpine-baselayout does for its links in /var, which were folders; its folders in /dev no run shows."""
    old = replace(FOO, files={**FOO.files, "srv/state/x": file("1"), "dev/foo": directory()})
    new = {**NEW.files, "srv/state": symlink("../var/state"), "dev/foo": directory(), "dev/bar": directory()}
    room = {**RUNS, "pre-upgrade": "#!/bin/sh\nrm -rf /srv/state\n"}
    repository.publish([replace(NEW, files=new, scripts=room)])
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [old])

    run = case.patch(image, "--strategy", "exec")

    assert run.code == 0, run.error
    assert "srv/state" in layer_paths(case.folder / "out", "patched")
    assert (case.unpacked() / "dev/bar").is_dir()


@in_the_worker
def test_a_fault_that_shows_only_after_a_run_is_left_out_of_another_run(
    case: Patching, repository: ApkRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Apk(name="bad", version="1-r0", files={"usr/share/bad": file("1")})
    repository.publish([NEW, replace(bad, version="2-r0")])
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [FOO, bad])
    shipped = ApkUnpacker.shipped

    def find_a_fault(unpacker: ApkUnpacker, packages: Sequence[FetchedPackage]) -> tuple[ShippedPackage, ...]:
        for package in packages:
            if package.update.candidate.name == "bad":
                with about_package(package.update.key):
                    raise PackageError("bad 2-r0: no good")
        return shipped(unpacker, packages)

    monkeypatch.setattr(ApkUnpacker, "shipped", find_a_fault)
    run = case.patch(image, "--strategy", "exec", "--ignore-errors")

    assert run.code == 0, run.error
    assert [update["name"] for update in section_of(case.plan)["updates"]] == ["foo"]
    (skipped,) = section_of(case.plan)["skipped"]
    assert (skipped["name"], skipped["reason"], skipped["detail"]) == ("bad", "broken", "bad 2-r0: no good")
    assert case.changed()["usr/share/foo.size"] == "3 /usr/bin/foo\n"


def test_a_script_that_fails_is_named_and_nothing_is_published(case: Patching, repository: ApkRepository) -> None:
    """Where apk has upgraded the package all the same."""
    repository.publish([replace(NEW, scripts={"post-upgrade": f"{RUNS['post-upgrade']}echo odd >&2; exit 7\n"})])
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [FOO])

    run = case.patch(image)

    assert run.code == 1
    assert "apk upgrade of 1 package" in run.error
    assert "foo-2-r0.post-upgrade: script exited with error 7" in run.error
    assert not (case.folder / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("echo EVIL >/usr/bin/getent", "usr/bin/getent of musl-utils, which the plan leaves alone, would be changed"),
        ("rm /usr/bin/getent", "usr/bin/getent of musl-utils, which the plan leaves alone, would be taken away"),
        ("cp /bin/busybox /usr/evil; chmod 4755 /usr/evil", "usr/evil is setuid now, and no package ships it so"),
        ("chmod 4755 /bin/busybox", "bin/busybox of busybox, which the plan leaves alone, would be changed"),
        (": >/usr/bin/.wh.getent", "usr/bin/"),
        ("mkdir /usr/bin/.wh..wh..opq", "'usr/bin/.wh..wh..opq'"),
    ],
)
def test_a_script_that_lays_hands_on_what_isnt_its_package_s_is_refused_by_name(
    case: Patching, repository: ApkRepository, line: str, message: str
) -> None:
    repository.publish([replace(NEW, scripts={"post-upgrade": f"{RUNS['post-upgrade']}{line}\n"})])
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [FOO])

    run = case.patch(image, "--strategy", "exec")

    assert run.code == 5, run.err
    assert message in run.error
    assert not (case.folder / "out").exists()


def test_a_repository_that_moved_on_is_seen_and_one_that_didnt_runs_nothing(
    case: Patching, repository: ApkRepository
) -> None:
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [FOO], more={"srv/for": case.address.encode()})
    found, ran = [], []
    for number, version in enumerate(("2-r0", "3-r0", "3-r0")):
        repository.publish([replace(NEW, version=version, files={"usr/bin/foo": file(version, 0o755)})])
        run = case.patch(image, cache=f"cache-{number}", tag=str(number))
        assert run.code == 0, run.err
        found.append(case.changed(str(number))["usr/bin/foo"])
        ran.append(len(run.ran()))

    assert found == ["2-r0", "3-r0", "3-r0"]
    assert ran == ([1, 1, 0] if case.address.startswith("unix") else [1, 1, 1])  # the worker keeps no results
    digests = [LayoutSource(case.folder / "out", tag).root()[0].digest for tag in "012"]
    assert digests[1] == digests[2]


# -- a tooling image's apk -----------------------------------------------------------------------------------


def test_a_wolfi_image_without_apk_and_shell_is_upgraded_by_a_tooling_images_apk(
    case: Patching, repository: ApkRepository
) -> None:
    skopeo("copy", "--quiet", f"oci:{fixture('images/apko/out')}", f"oci:{case.folder / 'image'}:base")
    umoci("unpack", "--image", f"{case.folder / 'image'}:base", case.folder / "base")
    apk = newer(case.folder / "base/rootfs", "glibc", "lib/libBrokenLocale.so.1")
    repository.publish([apk])
    (case.folder / repository.key_name).write_bytes(public_pem(repository.key))
    flags = ["--repository", repository.url, f"--key={case.folder / repository.key_name}"]
    image, tooling = f"oci:{case.folder / 'image'}:base", alpine_image("3.20.3", case.folder / "tooling")

    run = case.patch(image, "--strategy", "exec", "--tooling-image", tooling, *flags)
    assert run.code == 0, run.err
    notes = case.outcome["notes"]
    assert case.patch(image, "--strategy", "unpack", *flags, tag="composed").code == 0

    assert run.ran() == ["apk --root upgrade of 1 package"]
    assert "glibc:x86_64: trigger was not run, for the image has no shell" in notes
    ours, composed = case.unpacked(), case.unpacked("composed")
    assert (ours / "lib/libBrokenLocale.so.1").read_bytes() == b"\x7fELF but not quite"
    # apk writes every record anew, and no script can run, so the linker's cache stays as it is.
    different = [line.partition(":")[0] for line in differences(composed, ours)]
    assert different == ["etc/ld.so.cache", "lib/apk/db/installed"]
    assert {path for path in layer_paths(case.folder / "out", "patched") if "/apk/" in path} == {
        "lib/apk/db/installed",
        "lib/apk/db/scripts.tar",
        "lib/apk/db/triggers",
    }


# -- upgrades that only the builder can plan -----------------------------------------------------------------


def only_inside(case: Patching, folder: str) -> str:
    """An image whose repository is a folder of its own, which nobody reads from the outside."""
    path = fixture(f"alpine/{folder}")
    files = {f"srv/{file.relative_to(path)}": file.read_bytes() for file in path.rglob("*") if file.is_file()}
    keys = {f"etc/apk/keys/{key.name}": key.read_bytes() for key in path.glob("*.rsa.pub")}
    more = {**files, **keys, "etc/apk/repositories": b"/srv\n"}
    return alpine_image_on("3.19.1", case.folder / "image", ApkRepository(), [], more=more)


@plans_itself
def test_a_builder_that_was_named_upgrades_from_a_repository_that_it_alone_reaches(case: Patching) -> None:
    run = case.patch(only_inside(case, "repo-3.19.4"), "--no-host-repositories")

    assert run.code == 0, run.err
    assert run.ran() == ["apk update and upgrade"]
    assert "the builder upgrades by itself" in str(case.plan["strategyReason"])
    assert len(section_of(case.plan)["updates"]) == 5
    assert not [path for path in layer_paths(case.folder / "out", "patched") if path.startswith("var/cache")]


@plans_itself
def test_a_fix_that_apk_leaves_out_is_missed_though_apk_is_content(case: Patching) -> None:
    row = {"VulnerabilityID": "CVE-1", "PkgName": "libcrypto3", "InstalledVersion": "3.1.4-r5",
           "FixedVersion": "3.1.7-r0", "Severity": "HIGH"}  # fmt: skip
    results = [{"Class": "os-pkgs", "Type": "alpine", "Vulnerabilities": [row]}]
    report = case.folder / "report.json"
    report.write_text(json.dumps({"SchemaVersion": 2, "Results": results}))

    run = case.patch(only_inside(case, "repo-3.19.4"), "--no-host-repositories", "-r", report)

    assert run.ran() == ["apk update and upgrade"]
    assert run.code == 4
    assert "libcrypto3 3.1.4-r5 can't be updated" in run.error
    assert not (case.folder / "out").exists()
