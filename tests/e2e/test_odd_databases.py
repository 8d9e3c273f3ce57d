# SPDX-License-Identifier: Apache-2.0
"""Databases of dpkg as people have them: interrupted installations, and records that dpkg only warns of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import copacetic
from copacetic.errors import NeedsExecutionError
from copacetic.repository import RepositorySettings
from copacetic.request import Strategy
from copacetic.updates import FindingStatus
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.image.images import Image, make_image, make_layer, open_layers
from support.value.values import HERE

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="2.0-1", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})
BAR = Deb(name="bar", version="1.0-1", architecture="amd64", files={"usr/bin/bar": file("old", 0o755)})
BAR2 = Deb(name="bar", version="2.0-1", architecture="amd64", files={"usr/bin/bar": file("new", 0o755)})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2, BAR2]) as served:
        yield served


def altered(repository: Repository, alter: Callable[[str], str]) -> Image:
    """An image with foo and bar, and its `status` as somebody left it."""
    image = debian_image(repository, [FOO, BAR])
    from support.deb.aptrepo import installed_files

    status = str(installed_files([FOO, BAR])["var/lib/dpkg/status"])
    return make_image([*image.layers, make_layer({"var/lib/dpkg/status": alter(status)})])


def in_state(name: str, state: str) -> Callable[[str], str]:
    def alter(status: str) -> str:
        stanzas = status.split("\n\n")
        return "\n\n".join(
            stanza.replace("install ok installed", f"install ok {state}") if f"Package: {name}\n" in stanza else stanza
            for stanza in stanzas
        )

    return alter


def record(**fields: str) -> Callable[[str], str]:
    values = {"Package": "vendorx", "Status": "install ok installed", "Version": "1.0", "Architecture": "all"} | fields
    text = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in values.items())
    return lambda status: status + text + "\n"


def report(path: Path, *names: str) -> Path:
    rows = [
        {"VulnerabilityID": f"CVE-{name}", "PkgName": name, "InstalledVersion": "1.0-1", "FixedVersion": "2.0-1"}
        for name in names
    ]
    results = [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": rows}]
    path.write_text(json.dumps({"SchemaVersion": 2, "Metadata": {"OS": {"Family": "debian"}}, "Results": results}))
    return path


def plan(tmp_path: Path, image: Image, **request: Any) -> copacetic.Plan:
    asked = copacetic.PatchRequest(image=write_image(tmp_path / "in", image), **request)
    (made,) = copacetic.plan(
        asked, settings=copacetic.Settings(cache_dir=tmp_path / "cache", repository=RepositorySettings(reach=HERE))
    ).plans
    return made


@pytest.mark.parametrize("state", ["unpacked", "half-configured", "half-installed"])
def test_what_dpkg_left_unfinished_is_there(tmp_path: Path, repository: Repository, state: str) -> None:
    image = altered(repository, in_state("foo", state))

    made = plan(tmp_path, image, reports=(report(tmp_path / "r.json", "foo", "bar"),), strategy=Strategy.UNPACK)

    assert [m.status for m in made.matched or ()] == [FindingStatus.FIXABLE, FindingStatus.FIXABLE]
    assert [update.candidate.name for update in made.updates] == ["bar"]
    (skipped,) = made.skipped
    assert (skipped.package.name, skipped.detail) == (
        "foo",
        f"state: 1.0-1 is {state}, and only its package manager can finish that",
    )
    assert f"foo 1.0-1 is {state}: its files are there, and dpkg has to finish it" in made.notes


def test_a_fix_for_what_is_unfinished_is_refused_by_name(tmp_path: Path, repository: Repository) -> None:
    image = altered(repository, in_state("foo", "half-configured"))
    request = copacetic.PatchRequest(
        image=write_image(tmp_path / "in", image), destination=f"oci:{tmp_path / 'out'}:1",
        reports=(report(tmp_path / "r.json", "foo"),), strategy=Strategy.UNPACK,
    )  # fmt: skip
    with pytest.raises(NeedsExecutionError, match="foo 1.0-1 can't be updated: state: 1.0-1 is half-configured"):
        copacetic.patch(
            request,
            settings=copacetic.Settings(cache_dir=tmp_path / "cache", repository=RepositorySettings(reach=HERE)),
        )
    assert not (tmp_path / "out").exists()


def test_what_is_unfinished_counts_for_those_that_depend_on_it(tmp_path: Path) -> None:
    needs = Deb(name="needs", version="1.0-1", architecture="amd64", fields={"Depends": "foo (>= 1.0)"})
    newer = Deb(name="needs", version="2.0-1", architecture="amd64", fields={"Depends": "foo (>= 1.0)"})
    with serve_repository([newer]) as served:
        image = debian_image(served, [FOO, needs])
        from support.deb.aptrepo import installed_files

        status = in_state("foo", "half-configured")(str(installed_files([FOO, needs])["var/lib/dpkg/status"]))
        made = plan(tmp_path, make_image([*image.layers, make_layer({"var/lib/dpkg/status": status})]))
    assert [update.candidate.name for update in made.updates] == ["needs"]


def test_inspection_says_how_far_dpkg_came(tmp_path: Path, repository: Repository) -> None:
    location = write_image(tmp_path / "in", altered(repository, in_state("foo", "unpacked")))
    found = copacetic.inspect(
        location, settings=copacetic.Settings(cache_dir=tmp_path / "cache", repository=RepositorySettings(reach=HERE))
    )
    rows = json.loads(found.to_json())["platforms"][0]["inventories"][0]["packages"]
    assert {row["name"]: row["state"] for row in rows} == {"foo": "unpacked", "bar": None}


@pytest.mark.parametrize(
    ("alter", "note"),
    [
        (record(Package="vendor_x"), ""),
        (record(Package="VendorX"), ""),
        (record(Depends="gone (1.0-1)"), ""),
        (record(Version="1.0_2"), ""),
        (record(Version="1.0@2"), ""),
        (record(Depends="${misc:Depends}"), "var/lib/dpkg/status: vendorx: Depends: not a relation: '${misc:Depends}'"),
        (record(Provides="a b"), "var/lib/dpkg/status: vendorx: Provides: not a relation: 'a b'"),
        (record(Conffiles="\n odd"), ""),
    ],
)  # fmt: skip
def test_a_vendors_odd_record_stays_as_it_is(
    tmp_path: Path, repository: Repository, alter: Callable[[str], str], note: str
) -> None:
    image = altered(repository, alter)
    location, out = write_image(tmp_path / "in", image), tmp_path / "out"
    request = copacetic.PatchRequest(image=location, destination=f"oci:{out}:1")

    outcome = copacetic.patch(
        request, settings=copacetic.Settings(cache_dir=tmp_path / "cache", repository=RepositorySettings(reach=HERE))
    )

    (platform,) = outcome.platforms
    assert platform.plan is not None
    assert [update.candidate.name for update in platform.plan.updates] == ["bar", "foo"]
    assert [n for n in platform.plan.notes if note and n.startswith(note)] or not note
    (fs,) = open_layers(f"oci:{out}:1", tmp_path / "read")
    status = fs.read("var/lib/dpkg/status", limit=1 << 20).decode()
    assert alter("").strip() in status


@pytest.mark.parametrize(
    ("odd", "reason"),
    [({"Version": "1.0_2"}, "no newer version is offered"), ({}, "Depends: not a relation: '${x}'")],
)
def test_an_odd_record_that_should_change_is_left_by_name(tmp_path: Path, odd: dict[str, str], reason: str) -> None:
    newer = Deb(
        name="vendorx", version="2.0-1", architecture="amd64", fields={} if odd else {"Depends": "${x}"},
        files={"usr/bin/x": file("new")},
    )  # fmt: skip
    with serve_repository([FOO2, BAR2, newer]) as served:
        image = altered(served, record(Architecture="amd64", **odd))
        made = plan(tmp_path, image, reports=(report(tmp_path / "r.json", "vendorx", "foo"),))
    assert [update.candidate.name for update in made.updates] == ["foo"]
    if odd:
        assert [m.status for m in made.matched or ()] == [FindingStatus.UNKNOWN, FindingStatus.FIXABLE]
    else:
        assert reason in made.skipped[0].detail
