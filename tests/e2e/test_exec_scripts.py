# SPDX-License-Identifier: Apache-2.0
"""
Packages of our own on a real root: what their scripts may do, what is kept, and when something is run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from copacetic.oci.layout import LayoutSource
from support.builder.running import Patching, copa, open_builder
from support.deb.aptrepo import Deb, Repository, file, serve_repository
from support.deb.debian import build_root, need
from support.image.realimage import image_on
from support.image.trees import layer_paths
from support.value.plandocuments import section_of
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.whole, pytest.mark.xdist_group("exec-scripts")]

FOO = Deb(name="foo", version="1.0", files={"usr/bin/foo": file("old", 0o755)})
KINDS = ("worker", "buildkit")
plans_itself = pytest.mark.parametrize("address", ["buildkit"], indirect=True)
"""What only a builder that was named does."""


def upgrade(**more: Any) -> Deb:
    """The next version, with a script that has to be run."""
    files = {"usr/bin/foo": file("new", 0o755), **more.pop("files", {})}
    return replace(FOO, version="1.1", files=files, **{"scripts": RUNS, **more})


def script(*lines: str) -> dict[str, str]:
    return {"postinst": "\n".join(["#!/bin/sh", "set -e", *lines, ""])}


RUNS = script("wc -c /usr/bin/foo >/usr/share/foo.size")


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([upgrade()]) as served:
        yield served


@pytest.fixture(scope="module", params=KINDS)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    need(root=True)
    build_root("bookworm")
    with open_builder(request.param) as found:
        yield found


def test_a_script_that_only_running_can_do_is_run_and_auto_says_why(case: Patching, repository: Repository) -> None:
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO])

    run = case.patch(image)

    assert run.code == 0, run.err
    assert run.ran() == ["apt-get install 1 package"]
    assert case.plan["strategy"] == "exec"
    assert str(case.plan["strategyReason"]).startswith("foo: postinst: line 3")
    changed = case.changed()
    assert changed["usr/share/foo.size"] == "3 /usr/bin/foo\n"
    assert changed["usr/bin/foo"] == "new"


def test_a_script_has_no_network_starts_no_service_and_asks_nobody(case: Patching, repository: Repository) -> None:
    port = repository.address.rpartition(":")[2]
    deb = upgrade(
        files={
            "etc/init.d/foo": file("#!/bin/sh\ntouch /usr/share/started\n", 0o755),
        },
        scripts=script(
            f"if bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null; then echo yes; else echo no; fi "
            ">/usr/share/network",
            "invoke-rc.d foo start || true",
            "if read -r answer; then echo asked >/usr/share/input; fi",
            "env >/usr/share/environment",
        ),
    )
    repository.publish([deb])
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO])

    run = case.patch(image)

    assert run.code == 0, run.err
    changed = case.changed()
    assert changed["usr/share/network"] == "no\n"
    assert "usr/share/started" not in changed
    assert "usr/share/input" not in changed
    assert "DEBIAN_FRONTEND=noninteractive" in changed["usr/share/environment"]


def test_byte_code_that_a_script_compiles_anew_is_left_to_python(case: Patching, repository: Repository) -> None:
    """The folder for it is made anew, too, as Python's packages do. Of what changes it is gone, the rest stays."""
    lib, code = "usr/share/foo", "usr/share/foo/__pycache__/{}.cpython-311.pyc"
    compiles = [f"echo again >/{code.format(name)}" for name in ("same", "changes")]
    deb = upgrade(
        files={f"{lib}/same.py": file("same"), f"{lib}/changes.py": file("2")},
        scripts=script(f"rm -rf /{lib}/__pycache__", f"mkdir /{lib}/__pycache__", *compiles),
    )
    repository.publish([deb])
    old = replace(FOO, files={**FOO.files, f"{lib}/same.py": file("same"), f"{lib}/changes.py": file("1")})
    compiled = {code.format(name): "compiled" for name in ("same", "changes")}
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [old], more=compiled)

    run = case.patch(image, "--strategy", "exec")

    assert run.code == 0, run.err
    paths = layer_paths(case.folder / "out", "patched")
    assert {path for path in paths if path.startswith(f"{lib}/")} == {f"{lib}/changes.py", code.format("changes")}
    assert code.format("changes") not in case.changed(), "it is there, and not a whiteout"


def test_configuration_files_that_were_changed_stay_and_holds_hold(case: Patching, repository: Repository) -> None:
    def with_conf(deb: Deb, text: str) -> Deb:
        return replace(deb, files={**deb.files, "etc/foo.conf": file(text)}, conffiles=["/etc/foo.conf"])

    held = Deb(name="held", version="1.0", files={"usr/share/held": file("old")})
    repository.publish([with_conf(upgrade(), "shipped 2"), replace(held, version="2.0")])
    old = with_conf(FOO, "shipped 1")
    image = image_on(
        build_root("bookworm"), case.folder / "layout", repository, [old, held], held=["held"],
        more={"etc/foo.conf": "changed in the image"},
    )  # fmt: skip

    run = case.patch(image)

    assert run.code == 0, run.err
    changed = case.changed()
    assert "etc/foo.conf" not in changed, "it stays as it was"
    assert changed["etc/foo.conf.dpkg-dist"] == "shipped 2"
    assert "usr/share/held" not in changed
    (skipped,) = section_of(case.plan)["skipped"]
    assert (skipped["name"], skipped["reason"]) == ("held", "held")


def test_names_and_labels_that_a_shell_would_read_are_only_names(case: Patching, repository: Repository) -> None:
    odd = ("usr/share/$(touch pwned)", "usr/share/`id`;echo", "usr/share/a b'c\"d|e&f")
    deb = upgrade(files={path: file("x") for path in odd})
    repository.publish([deb])
    image = image_on(
        build_root("bookworm"), case.folder / "layout", repository, [FOO],
        labels={"$(touch /pwned)": "`touch /pwned`; touch /pwned"},
    )  # fmt: skip

    run = case.patch(image)

    assert run.code == 0, run.err
    changed = case.changed()
    assert all(changed[path] == "x" for path in odd)
    assert not [path for path in changed if path.endswith("pwned")]


def test_a_script_that_fails_is_named_with_its_last_words_and_nothing_is_published(
    case: Patching, repository: Repository
) -> None:
    repository.publish(
        [
            upgrade(
                scripts=script(
                    "wc -c /usr/bin/foo >/usr/share/foo.size",
                    "echo 'the disk of \x1b[31mthis\x1b[0m image is odd' >&2",
                    "exit 7",
                )
            )
        ]
    )
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO])

    run = case.patch(image)

    assert run.code == 1
    assert "apt-get install 1 package" in run.error
    assert "foo package post-installation script subprocess returned error exit status 7" in run.error
    assert "\x1b" not in run.err
    assert not (case.folder / "out").exists()
    assert copa(case.capsys, "patch", "-i", image, "--to", f"oci:{case.folder / 'out'}:x", "--no-cache",
                     "--strategy", "unpack", "--ignore-errors").code == 0  # fmt: skip


def test_a_report_decides_what_is_installed(case: Patching, repository: Repository) -> None:
    bar = Deb(name="bar", version="1.0", files={"usr/share/bar": file("old")})
    repository.publish([upgrade(), replace(bar, version="1.1", files={"usr/share/bar": file("new")})])
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO, bar])
    row = {"VulnerabilityID": "CVE-1", "PkgName": "foo", "InstalledVersion": "1.0", "FixedVersion": "1.1"}
    results = [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [row | {"Severity": "HIGH"}]}]
    report = case.folder / "report.json"
    report.write_text(json.dumps({"SchemaVersion": 2, "Results": results}))

    run = case.patch(image, "-r", str(report))

    assert run.code == 0, run.err
    changed = case.changed()
    assert changed["usr/bin/foo"] == "new"
    assert "usr/share/bar" not in changed
    assert [f["vulnerabilityId"] for f in case.outcome["findings"]["closed"]] == ["CVE-1"]


def test_an_image_without_apt_is_upgraded_by_its_dpkg(case: Patching, repository: Repository) -> None:
    image = image_on(
        build_root("bookworm"), case.folder / "layout", repository, [FOO], more={"usr/bin/.wh.apt-get": ""}
    )

    run = case.patch(image)

    assert run.code == 0, run.err
    assert run.ran() == ["dpkg --install 1 package"]
    assert case.changed()["usr/share/foo.size"] == "3 /usr/bin/foo\n"


def test_dpkg_alone_installs_first_what_others_need_before_they_are_unpacked(
    case: Patching, repository: Repository
) -> None:
    """`dpkg --install` of all at once is refused."""
    base = Deb(name="zbase", version="1.0", architecture="amd64")
    newer_base = replace(
        base, version="1.1", scripts={"postinst": "#!/bin/sh\nset -e\nexpr 1 + 1 > /usr/share/zbase\n"}
    )
    first = replace(upgrade(), fields={**upgrade().fields, "Pre-Depends": "zbase (>= 1.1)"})
    repository.publish([first, newer_base])
    image = image_on(
        build_root("bookworm"), case.folder / "layout", repository, [FOO, base], more={"usr/bin/.wh.apt-get": ""}
    )

    run = case.patch(image)

    assert run.code == 0, run.err
    assert run.ran() == ["dpkg --install 2 packages in 2 groups"]
    assert case.changed()["usr/share/foo.size"] == "3 /usr/bin/foo\n"
    assert case.changed()["usr/share/zbase"] == "2\n"


def test_marks_of_packages_stay_as_they_are(case: Patching, repository: Repository) -> None:
    marks = "Package: foo\nArchitecture: amd64\nAuto-Installed: 1\n\n"
    image = image_on(
        build_root("bookworm"), case.folder / "layout", repository, [FOO], more={"var/lib/apt/extended_states": marks}
    )

    assert case.patch(image).code == 0
    assert "var/lib/apt/extended_states" not in case.changed()


# -- freshness -------------------------------------------------------------------------------------------------------


def newer(version: str) -> Deb:
    return replace(upgrade(), version=version, files={"usr/bin/foo": file(version, 0o755)})


def test_a_repository_that_moved_on_is_seen_and_one_that_didnt_runs_nothing(
    case: Patching, repository: Repository, address: str
) -> None:
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO], labels={"test": address})
    found, ran = [], []
    for number, version in enumerate(("1.1", "1.2", "1.2")):
        repository.publish([newer(version)])
        run = case.patch(image, cache=f"cache-{number}", tag=str(number))
        assert run.code == 0, run.err
        found.append(case.changed(str(number))["usr/bin/foo"])
        ran.append(len(run.ran()))

    assert found == ["1.1", "1.2", "1.2"]
    expected = [1, 1, 0] if address.startswith("unix") else [1, 1, 1]  # the worker keeps no results between runs
    assert ran == expected
    digests = [LayoutSource(case.folder / "out", tag).root()[0].digest for tag in "012"]
    assert digests[1] == digests[2]


@plans_itself
def test_a_builder_that_plans_itself_sees_a_repository_that_moved_on(case: Patching, repository: Repository) -> None:
    repository.files["mirrors.txt"] = f"{repository.address}/\n".encode()
    source = repository.definition.replace(repository.address, f"mirror+{repository.address}/mirrors.txt")
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO], source=source)
    for version in ("1.1", "1.2"):
        repository.publish([newer(version)])
        run = case.patch(image, "--no-host-repositories", cache=f"cache-{version}", tag=version)
        assert run.code == 0, run.err
        assert run.ran() == ["apt-get update and upgrade"]
        assert "the builder upgrades by itself" in str(case.plan["strategyReason"])
        assert case.changed(version)["usr/bin/foo"] == version


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["echo EVIL >/usr/bin/passwd"], "usr/bin/passwd of passwd, which the plan leaves alone, would be changed"),
        (["rm /usr/bin/chsh"], "usr/bin/chsh of passwd, which the plan leaves alone, would be taken away"),
        (["cp /usr/bin/id /usr/share/evil", "chmod u+s /usr/share/evil"], "usr/share/evil is setuid now"),
        (["touch /usr/bin/.wh.passwd"], "usr/bin/"),
        (["mkdir /usr/share/.wh..wh..opq"], ".wh..wh..opq'"),
        (["echo '#!/bin/true' >/var/lib/dpkg/info/bash.prerm"], "var/lib/dpkg/info/bash.prerm"),
    ],
)
def test_a_script_that_lays_hands_on_what_isnt_its_package_s_is_refused_by_name(
    case: Patching, repository: Repository, lines: Sequence[str], message: str
) -> None:
    repository.publish([upgrade(scripts=script(*lines))])
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO])

    run = case.patch(image, "--strategy", "exec")

    assert run.code == 5, run.err
    assert message in run.err
    assert not (case.folder / "out").exists()


def test_what_scripts_may_do_is_done_and_named(case: Patching, repository: Repository) -> None:
    lines = (
        "chmod 2755 /usr/bin/foo",
        "echo '# of foo' >>/etc/pam.conf",
        "echo 'Defaults' >/etc/foo.local",
        "update-alternatives --install /usr/bin/f f /usr/bin/foo 10",
        "adduser --system --quiet foo",
    )
    repository.publish([upgrade(scripts=script(*lines))])
    image = image_on(build_root("bookworm"), case.folder / "layout", repository, [FOO])

    run = case.patch(image, "--strategy", "exec")

    assert run.code == 0, run.err
    left, edited, granted = case.outcome["notes"]
    assert left.startswith("scripts left what no package has: ")
    assert "etc/foo.local" in left
    assert edited == "scripts changed the configuration of other packages: etc/pam.conf"
    assert granted == "scripts gave their packages' files rights that they aren't packed with: usr/bin/foo"
