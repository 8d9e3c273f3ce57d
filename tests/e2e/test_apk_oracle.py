# SPDX-License-Identifier: Apache-2.0
"""Real Alpine images: what `copa patch` makes is what the image's own `apk upgrade` makes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from support.apk.apkoracle import Run, alpine_image, alpine_root, differences, run_in, upgrade
from support.deb.debian import need
from support.image.images import assert_valid_image, fixture, skopeo, umoci
from support.server.served import Served, serve
from support.value.plandocuments import section_of

pytestmark = pytest.mark.system

REPORT = {
    "SchemaVersion": 2,
    "ArtifactName": "alpine",
    "Metadata": {"OS": {"Family": "alpine", "Name": "3.19.1"}},
    "Results": [
        {
            "Target": "alpine",
            "Class": "os-pkgs",
            "Type": "alpine",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2024-34459",
                    "PkgName": "libxml2",
                    "InstalledVersion": "2.11.7-r0",
                    "FixedVersion": "2.11.8-r0",
                    "Severity": "HIGH",
                }
            ],
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, the repository that has news for it, and what comes of that."""

    release: str
    repository: str
    updates: int
    arguments: Sequence[str] = ("upgrade",)
    report: bool = False


PAIRS = {
    "3.10.2": Pair("3.10.2", "repo-3.10.9", 8),
    "3.18.2": Pair("3.18.2", "repo-3.18.9", 9),
    "3.20.3": Pair("3.20.3", "repo-3.20.6", 6),
    "3.22.0": Pair("3.22.0", "repo-3.22.1", 4),
    "3.19.1": Pair("3.19.1", "repo-3.19.4", 5),
    "3.19.1, signed by Alpine": Pair("3.19.1", "repo-3.19-signed", 1, ("upgrade", "libxml2"), report=True),
}


@dataclass(frozen=True, slots=True)
class Patched:
    """One image, patched by us and upgraded by its own apk."""

    pair: Pair
    run: Run
    real: Path
    ours: Path
    layout: Path
    plan: dict[str, Any]


def script_time(root: Path) -> str:
    """Return the time that an old apk has put on its scripts: that of its run."""
    with tarfile.open(root / "lib/apk/db/scripts.tar") as tar:
        return str(int(next(iter(tar)).mtime))


@pytest.fixture(scope="module", params=[pytest.param(p, marks=pytest.mark.xdist_group(f"apk {p}")) for p in PAIRS])
def patched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Patched:
    need("skopeo", "umoci", root=True)
    pair = PAIRS[request.param]
    work = tmp_path_factory.mktemp("alpine")
    folder = fixture(f"alpine/{pair.repository}")
    real = alpine_root(pair.release, work / "real")
    own_keys = not list(folder.glob("*.rsa.pub"))
    run = upgrade(real, folder, pair.arguments, own_keys=own_keys)
    assert run.code == 0, run.output
    image, layout = alpine_image(pair.release, work / "image"), work / "patched"
    (work / "report.json").write_text(json.dumps(REPORT))
    served = Served()
    served.add_folder(folder)
    with serve(served), pytest.MonkeyPatch.context() as patch:
        # Old versions of apk write the time of their run into the database.
        patch.setenv("SOURCE_DATE_EPOCH", script_time(real))
        arguments = ["-i", image, "--repository", served.address, "--cache-dir", str(work / "cache"), "-q"]
        arguments += [f"--keyring={key}" for key in folder.glob("*.rsa.pub")]
        arguments += ["-r", str(work / "report.json")] if pair.report else []
        assert main(["plan", *arguments, "--format", "json", "-o", str(work / "plan.json")]) == 0
        target = f"docker-archive:{work}/patched.tar" if image.startswith("docker") else f"oci:{layout}:patched"
        assert main(["patch", *arguments, "--to", target]) == 0
    if image.startswith("docker"):  # umoci knows no manifest of Docker's
        skopeo("copy", "--quiet", target, f"oci:{layout}:patched")
    ours = work / "ours"
    umoci("unpack", "--image", f"{layout}:patched", ours)
    plan = json.loads((work / "plan.json").read_text())["plans"][0]
    return Patched(pair, run, real, ours / "rootfs", layout, plan)


def test_the_packages_are_those_that_apk_upgrades_in_its_order(patched: Patched) -> None:
    assert [update["name"] for update in section_of(patched.plan)["updates"]] == [
        name for _, name in patched.run.commits
    ]
    assert len(patched.run.commits) == patched.pair.updates


def test_the_tree_and_the_database_are_those_that_apk_makes(patched: Patched) -> None:
    assert differences(patched.real, patched.ours) == []


def test_nothing_needs_execution(patched: Patched) -> None:
    verdicts = [script for update in section_of(patched.plan)["updates"] for script in update["scripts"]]

    assert all(script["verdict"] != "needs-execution" and script["reason"] for script in verdicts)


def test_the_image_has_one_layer_more_without_what_running_leaves_behind(patched: Patched) -> None:
    layers = assert_valid_image(patched.layout, "patched")["layers"]
    top = patched.layout / "blobs" / layers[-1]["digest"].replace(":", "/")
    with tarfile.open(top) as tar:
        names = set(tar.getnames())

    assert len(layers) == 2
    assert not names & {"lib/apk/db/lock", "lib/apk/exec", "var/cache/apk", "var/log/apk.log", "dev", "proc", "tmp"}


def test_apk_finds_nothing_wrong_and_nothing_to_do(patched: Patched) -> None:
    folder = fixture(f"alpine/{patched.pair.repository}")
    names = [update["name"] for update in section_of(patched.plan)["updates"]]
    keys = "" if patched.pair.report else "--keys-dir /mnt "
    options = f"{keys}--repositories-file /dev/null -X /mnt --no-cache"
    upgrade_again = f"apk {options} {' '.join(patched.pair.arguments)} -s"
    audits = [run_in(root, "apk audit --system").output for root in (patched.real, patched.ours)]
    known = run_in(patched.ours, f"apk info -e {' '.join(names)}")
    again = run_in(patched.ours, upgrade_again, binds={"mnt": folder})

    assert audits[0] == audits[1]
    assert known.output.split() == names
    assert again.code == 0
    assert again.commits == ()
