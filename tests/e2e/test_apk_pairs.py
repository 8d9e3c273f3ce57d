# SPDX-License-Identifier: Apache-2.0
"""
Two real releases of one branch: the older image, patched in both ways, is what its own apk makes of it with the
newer one's packages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from support.apk.apkoracle import Run, alpine_image, alpine_root, differences, run_in, upgrade
from support.apk.apkrepo import ApkRepository, public_pem
from support.apk.apkreversion import repack_all
from support.apk.apks import write_repository
from support.deb.debian import need
from support.image.images import assert_valid_image, umoci
from support.server.served import serve
from support.value.plandocuments import section_of

pytestmark = pytest.mark.system

PAIRS = {"3.23.5": "3.23.6", "3.23.5 with openrc": "3.23.6 with openrc"}
STRATEGIES = ("unpack", "exec")


@dataclass(frozen=True, slots=True)
class Pair:
    """One image, patched in both ways and upgraded by its own apk."""

    folder: Path
    repository: Path
    real: Path
    run: Run
    outcomes: dict[str, dict[str, Any]]

    def unpacked(self, strategy: str) -> Path:
        root = self.folder / f"root-{strategy}"
        if not root.exists():
            umoci("unpack", "--image", f"{self.folder / 'layout'}:{strategy}", root)
        return root / "rootfs"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("3.23.5", marks=pytest.mark.xdist_group("pair")),
        pytest.param("3.23.5 with openrc", marks=[pytest.mark.soak, pytest.mark.xdist_group("pair with openrc")]),
    ],
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    need("umoci", root=True)
    folder = tmp_path_factory.mktemp("pair")
    apks = repack_all(alpine_root(PAIRS[request.param], folder / "newer"), without=["linux-virt"])
    repository = write_repository(folder / "repository", apks)
    real = alpine_root(request.param, folder / "real")
    run = upgrade(real, repository, ("--allow-untrusted", "upgrade"))
    assert run.code == 0, run.output
    image, served = alpine_image(request.param, folder / "layout"), ApkRepository()
    key = folder / served.key_name
    key.write_bytes(public_pem(served.key))
    outcomes = {}
    with serve(served):
        served.publish(apks)
        for strategy in STRATEGIES:
            file = folder / f"{strategy}.json"
            code = main(
                ["patch", "-i", image, "--to", f"oci:{folder / 'layout'}:{strategy}", "--strategy", strategy, "-q",
                 "--addr", "worker://", "--repository", served.url, f"--keyring={key}", "-o", str(file),
                 "--cache-dir", str(folder / "cache")]
            )  # fmt: skip
            assert code == 0
            [outcomes[strategy]] = json.loads(file.read_text())["platforms"]
    return Pair(folder, repository, real, run, outcomes)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_packages_are_those_that_apk_upgrades_in_its_order(pair: Pair, strategy: str) -> None:
    plan = pair.outcomes[strategy]["plan"]

    assert plan["strategy"] == strategy
    assert [update["name"] for update in section_of(plan)["updates"]] == [name for _, name in pair.run.commits]
    assert {"apk-tools", "libapk"} <= {name for _, name in pair.run.commits}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_tree_and_the_database_are_those_that_apk_makes(pair: Pair, strategy: str) -> None:
    assert differences(pair.real, pair.unpacked(strategy)) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_result_is_a_valid_image_with_one_layer_more(pair: Pair, strategy: str) -> None:
    layers = assert_valid_image(pair.folder / "layout", strategy)["layers"]

    assert layers[:-1] == assert_valid_image(pair.folder / "layout", "base")["layers"]


def test_both_ways_give_the_same_layer(pair: Pair) -> None:
    assert pair.outcomes["exec"]["layer"]["digest"] == pair.outcomes["unpack"]["layer"]["digest"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_apk_finds_nothing_wrong_and_nothing_to_do(pair: Pair, strategy: str) -> None:
    root = pair.unpacked(strategy)
    audits = [run_in(tree, "apk audit --system").output for tree in (pair.real, root)]
    options = "--repositories-file /dev/null --allow-untrusted -X /mnt --no-cache"
    again = run_in(root, f"apk {options} upgrade -s", binds={"mnt": pair.repository})

    assert audits[0] == audits[1]
    assert (again.code, again.commits) == (0, ())
