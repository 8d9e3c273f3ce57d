# SPDX-License-Identifier: Apache-2.0
"""Real distributions' packages, with what dnf made of the same request as the judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.universe import RpmRules
from support.image.images import fixture
from support.rpm.rpmreal import real_installed, real_offers
from support.rpm.rpmscenes import resolve

ROOTS = {
    "el9": ("alma9-20220706-aarch64.tar.xz", "repo-9.3", "aarch64"),
    "al2023-hollow": ("root.tar.xz", "repo", "x86_64"),
    "mariner2-hollow": ("root.tar.xz", "repo", "x86_64"),
}


def file_name(offer: RpmOffer) -> str:
    return f"{offer.name}-{offer.evr.rpartition(':')[2]}.{offer.architecture}.rpm"


@pytest.mark.parametrize("name", ROOTS)
def test_updating_a_distributions_root_gives_what_dnf_makes_of_it(name: str, tmp_path: Path) -> None:
    root, repository, architecture = ROOTS[name]
    folder = fixture(f"rpm/{name}")

    outcome = resolve(
        real_installed(folder / root, tmp_path),
        real_offers(folder / repository),
        rules=RpmRules(architecture=architecture),
    )

    names = [file_name(change.new) for change in outcome.resolved.changes]
    assert sorted(names) == sorted((folder / "upgrades").read_text().split())
    assert not outcome.skipped


def test_one_fix_of_a_distribution_brings_what_is_built_with_it_and_nothing_else(tmp_path: Path) -> None:
    folder = fixture("rpm/al2023-hollow")
    installed = real_installed(folder / "root.tar.xz", tmp_path)
    offers = list(real_offers(folder / "repo"))

    for wanted, new in (
        ({"expat": "2.5.0-1.amzn2023.0.2.1"}, ["expat"]),
        ({"curl-minimal": "8.0.1-1.amzn2023.0.1.1"}, ["curl-minimal", "libcurl-minimal"]),
        ({"glibc-common": "2.34-52.amzn2023.0.3.1"}, ["glibc", "glibc-common", "glibc-minimal-langpack"]),
    ):
        outcome = resolve(installed, offers, wanted)
        assert sorted(change.new.name for change in outcome.resolved.changes) == new
