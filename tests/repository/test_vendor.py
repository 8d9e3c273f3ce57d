# SPDX-License-Identifier: Apache-2.0
"""Whose packages replace whose, and what becomes of the others when one repository can't be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from copacetic.distro import Distro
from copacetic.errors import RepositoryError, UnreachableError
from copacetic.repository import open_repository
from copacetic.repository.vendor import is_own_name, tags_of
from copacetic.updates import Resolution, SkipReason
from support.deb.aptimage import Image, changes
from support.deb.aptrepo import Deb, Repository, serve_repository
from support.value.replacing import replace

VENDOR = {"Origin": "Vendor", "Label": "Vendor"}
DEBIAN = {"Origin": "Debian", "Label": "Debian"}


def deb(name: str, version: str, **fields: str) -> Deb:
    return Deb(name=name, version=version, architecture="amd64", fields=fields)


@contextmanager
def repositories(
    offers: Mapping[str, tuple[Mapping[str, str], Sequence[Deb]]],
) -> Iterator[dict[str, Repository]]:
    """Serve repositories, by suite: what their Release says, and what they offer."""
    with ExitStack() as stack:
        served = {}
        for suite, (release, debs) in offers.items():
            served[suite] = stack.enter_context(serve_repository([]))
            served[suite].suite = suite.rpartition("@")[2]
            served[suite].publish(debs, release=release)
        yield served


def image(
    tmp_path: Path, served: Mapping[str, Repository], *installed: Deb, pins: str = "", **settings: object
) -> Image:
    first = next(iter(served.values()))
    more = {
        "etc/apt/sources.list": "".join(f"{one.definition}\n" for one in served.values()),
        "etc/apt/preferences": pins,
        **{f"etc/apt/trusted.gpg.d/{n}.gpg": one.certificate for n, one in enumerate(served.values())},
    }
    return Image(tmp_path, first, *installed, more=more, **settings)  # type: ignore[arg-type]


def left(resolution: Resolution) -> dict[str, tuple[SkipReason, str]]:
    return {skipped.package.name: (skipped.reason, skipped.detail) for skipped in resolution.skipped}


WEB = {
    "bookworm-security": (DEBIAN, [deb("webd", "1.22.1-9+deb12u4")]),
    "bookworm": (VENDOR, [deb("webd", "1.22.0-1~vendor"), deb("webd", "1.24.0-1~vendor")]),
}
PINNED = "Package: *\nPin: release o=Vendor\nPin-Priority: 900\n"


@pytest.mark.parametrize("pins", ["", PINNED, "Package: webd\nPin: release o=Vendor\nPin-Priority: 1001\n"])
@pytest.mark.parametrize("fixes", [[], [("webd", "1.22.1-9+deb12u3")]])
def test_a_vendors_package_is_replaced_by_the_vendors(tmp_path: Path, pins: str, fixes: list[tuple[str, str]]) -> None:
    with repositories(WEB) as served:
        resolution = image(tmp_path, served, deb("webd", "1.22.0-1~vendor"), pins=pins).resolve(*fixes)
    assert changes(resolution) == {"webd": "1.24.0-1~vendor"}


def test_another_vendors_package_is_left_by_name_and_taken_where_the_user_says_so(tmp_path: Path) -> None:
    offers = {**WEB, "bookworm": (VENDOR, [deb("webd", "1.22.0-1~vendor")])}
    with repositories(offers) as served:
        installed = deb("webd", "1.22.0-1~vendor")
        for fixes in ([], [("webd", "1.22.1-9+deb12u3")]):
            resolution = image(tmp_path, served, installed).resolve(*fixes)
            assert changes(resolution) == {}
            assert left(resolution) == {
                "webd": (
                    SkipReason.VENDOR,
                    (
                        "1.22.1-9+deb12u4 is offered by the distribution, and the installed one is vendor's: "
                        "--allow-vendor-change webd takes it"
                    ),
                )
            }
            allowed = image(tmp_path, served, installed, allow_vendor_change=("web*",)).resolve(*fixes)
            assert changes(allowed) == {"webd": "1.22.1-9+deb12u4"}
        pins = "Package: webd\nPin: release o=Debian\nPin-Priority: 990\n"
        assert changes(image(tmp_path, served, installed, pins=pins).resolve()) == {"webd": "1.22.1-9+deb12u4"}


@pytest.mark.parametrize("fixes", [[], [("curl", "7.88.1-10+deb12u2")]])
def test_the_distributions_package_stays_the_distributions(tmp_path: Path, fixes: list[tuple[str, str]]) -> None:
    offers = {
        "bookworm-security": (DEBIAN, [deb("curl", "7.88.1-10+deb12u5")]),
        "bookworm": (VENDOR, [deb("curl", "8.9.1-1~vendor")]),
    }
    with repositories(offers) as served:
        for installed in ("7.88.1-10+deb12u1", "7.88.1-10"):
            resolution = image(tmp_path, served, deb("curl", installed)).resolve(*fixes)
            assert changes(resolution) == {"curl": "7.88.1-10+deb12u5"}


def test_a_vendors_package_that_nobody_else_has_goes_on(tmp_path: Path) -> None:
    """The repository has the newest version alone."""
    offers = {
        "bookworm-security": (DEBIAN, [deb("curl", "7.88.1-10+deb12u5")]),
        "bookworm": (VENDOR, [deb("agent", "2.0"), deb("postgresql-15", "15.8-1.pgdg120+1")]),
        "x@bookworm-updates": (DEBIAN, [deb("postgresql-15", "15.9-0+deb12u1")]),
    }
    with repositories(offers) as served:
        installed = [deb("agent", "1.0"), deb("postgresql-15", "15.4-1.pgdg120+1")]
        resolution = image(tmp_path, served, *installed).resolve()
    assert changes(resolution) == {"agent": "2.0", "postgresql-15": "15.8-1.pgdg120+1"}


def test_what_a_record_says_of_its_origin_counts(tmp_path: Path) -> None:
    offers = {"bookworm-security": (DEBIAN, [deb("webd", "2.0-1")]), "bookworm": (VENDOR, [deb("other", "1")])}
    with repositories(offers) as served:
        resolution = image(tmp_path, served, deb("webd", "1.0-1", Origin="Vendor")).resolve()
    assert left(resolution)["webd"][0] is SkipReason.VENDOR


def test_a_likely_change_of_the_vendor_is_noted(tmp_path: Path) -> None:
    """The vendor's repository is gone from the sources."""
    theirs = deb("varnish", "6.0.13-1~bookworm", Maintainer="Varnish <packages@varnish.example>")
    ours = deb("varnish", "7.1.1-2", Maintainer="Debian <pkg-varnish@lists.alioth.debian.org>")
    with repositories({"bookworm-security": (DEBIAN, [ours])}) as served:
        resolution = image(tmp_path, served, theirs).resolve()
        same = image(tmp_path, served, replace(theirs, version="7.1.1-1")).resolve()
    assert changes(resolution) == {"varnish": "7.1.1-2"}
    assert resolution.notes == (
        (
            "varnish 6.0.13-1~bookworm becomes 7.1.1-2: its maintainer was of varnish.example and is of debian.org, "
            "and no repository has the installed version, which may be another vendor's"
        ),
    )
    assert same.notes == ()


@pytest.mark.parametrize(
    ("name", "is_own"),
    [("Debian", True), ("Debian Backports", True), ("Freexian", True), ("Ubuntu", False), ("nginx", False)],
)
def test_a_repository_is_the_distributions_by_its_name(name: str, is_own: bool) -> None:
    assert is_own_name(name, Distro.parse(b"ID=debian\n")) is is_own
    assert is_own_name(name, Distro.parse(b"ID=hardened\nID_LIKE=debian\n")) is is_own


def test_words_in_versions_are_vendors() -> None:
    assert tags_of("15.4-1.pgdg120+1") == {"pgdg"}
    assert tags_of("1:8.2.10+dfsg-1~bpo12+1") == set()


# -- pins ------------------------------------------------------------------------------------------------------------


def test_a_pin_on_what_was_not_fetched_is_seen(tmp_path: Path) -> None:
    """The fix in the security suite is not apt's candidate."""
    offers = {
        "bookworm-security": (DEBIAN, [deb("foo", "1.0-1+deb12u1")]),
        "x@bookworm-updates": ({**DEBIAN, "Suite": "stable-updates"}, [deb("foo", "1.0-2")]),
    }
    pins = "Package: foo\nPin: release a=stable-updates\nPin-Priority: 995\n"
    with repositories(offers) as served:
        asked = [("foo", "1.0-1+deb12u1")]
        assert changes(image(tmp_path, served, deb("foo", "1.0-1")).resolve(*asked)) == {"foo": "1.0-1+deb12u1"}
        assert changes(image(tmp_path, served, deb("foo", "1.0-1"), pins=pins).resolve(*asked)) == {"foo": "1.0-2"}


def test_what_is_never_taken_is_not_fetched(tmp_path: Path) -> None:
    offers = {"bookworm-security": (DEBIAN, [deb("foo", "2")]), "other": (VENDOR, [deb("foo", "3")])}
    with repositories(offers) as served:
        served["other"].files.clear()
        pins = 'Package: *\nPin: release a=other\nPin-Priority: never\n\nPackage: *\nPin: origin "localhost"\nPin-Priority: never\n'
        sources = served["other"].definition.replace("127.0.0.1", "localhost")
        made = Image(
            tmp_path, served["bookworm-security"], deb("foo", "1"),
            more={"etc/apt/sources.list": f"{served['bookworm-security'].definition}\n{sources}\n", "etc/apt/preferences": pins},
        )  # fmt: skip
        assert changes(made.resolve()) == {"foo": "2"}
        assert served["other"].requests == []


# -- repositories that can't be used ---------------------------------------------------------------------------------


def broken(served: Mapping[str, Repository], how: str) -> None:
    other = served["other"]
    if how == "gone":
        other.files.clear()
    elif how == "key":
        other.key = type(other)().key
        other.publish(release=VENDOR)
        other.files["dists/other/InRelease"] = b"-----BEGIN PGP SIGNED MESSAGE-----\nnot signed\n"
    else:
        other.files = {path: data for path, data in other.files.items() if path.endswith(("Release", "deb"))}


THIRD = {
    "bookworm-security": (DEBIAN, [deb("foo", "2")]),
    "x@bookworm-updates": (DEBIAN, [deb("bar", "2")]),
    "other": (VENDOR, [deb("agent", "2")]),
}


@pytest.mark.parametrize("how", ["gone", "key", "index"])
def test_one_repository_of_somebody_else_that_can_t_be_used_stops_only_what_needs_it(tmp_path: Path, how: str) -> None:
    installed = [deb("foo", "1"), deb("bar", "1"), deb("agent", "1")]
    with repositories(THIRD) as served:
        broken(served, how)
        here = image(tmp_path, served, *installed)

        by_report = here.resolve(("foo", "2"), ("bar", "2"))

        assert changes(by_report) == {"foo": "2", "bar": "2"}
        (note,) = by_report.notes
        assert note.startswith(f"{served['other'].address} other is left out: ")
        with pytest.raises(RepositoryError) as caught:
            here.resolve(("foo", "2"), ("agent", "2"))
        assert "--ignore-errors goes on without it" in str(caught.value.hint)
        with pytest.raises(RepositoryError):
            here.resolve()
        tolerant = open_repository(replace(here.context, tolerant=True))
        from copacetic.updates import Wanted

        found = tolerant.resolve([Wanted(package=package) for package in here.installed], exhaustive=True)
        assert changes(found) == {"foo": "2", "bar": "2"}
        assert found.notes == by_report.notes
        for one in served.values():
            one.files.clear()
        with pytest.raises(RepositoryError, match="has no Release file"):
            open_repository(replace(here.context, tolerant=True)).resolve(
                [Wanted(package=package) for package in here.installed], exhaustive=True
            )


def test_a_suite_of_the_distribution_that_can_t_be_used_is_an_error(tmp_path: Path) -> None:
    with repositories(THIRD) as served:
        served["bookworm-security"].files.clear()
        with pytest.raises((RepositoryError, UnreachableError), match="bookworm-security has no Release file"):
            image(tmp_path, served, deb("foo", "1"), deb("bar", "1")).resolve(("bar", "2"))


def test_a_suite_that_is_sold_besides_is_not_the_distribution_s(tmp_path: Path) -> None:
    """Images keep its address, and pin what it has, long after they have lost the login for it."""
    offers = {
        "bookworm-security": THIRD["bookworm-security"],
        "other@bookworm-infra-security": (VENDOR, [deb("agent", "2")]),
    }
    with repositories(offers) as served:
        (sold,) = (one for one in served.values() if one.suite.endswith("infra-security"))
        sold.files.clear()
        found = image(tmp_path, served, deb("foo", "1"), deb("agent", "1")).resolve(("foo", "2"))

        assert changes(found) == {"foo": "2"}
        (note,) = found.notes
        assert note.startswith(f"{sold.address} bookworm-infra-security is left out: ")


PLAIN = {"stable": (DEBIAN, [deb("foo", "2")]), "other": (VENDOR, [deb("agent", "2")])}


@pytest.mark.parametrize("own", ["sources.list", "sources.list.d/debian.sources"])
def test_where_no_suite_tells_the_distribution_s_are_in_the_files_that_it_ships(tmp_path: Path, own: str) -> None:
    with repositories(PLAIN) as served:
        first = served["stable"]
        text = (
            first.definition
            if own == "sources.list"
            else f"Types: deb\nURIs: {first.address}\nSuites: stable\nComponents: main\n"
        )
        more: dict[str, bytes | str] = {
            "etc/apt/sources.list": "",
            f"etc/apt/{own}": text,
            "etc/apt/sources.list.d/other.list": served["other"].definition,
            **{f"etc/apt/trusted.gpg.d/{n}.gpg": one.certificate for n, one in enumerate(served.values())},
        }
        here = Image(tmp_path, first, deb("foo", "1"), deb("agent", "1"), more=more)
        served["other"].files.clear()

        found = here.resolve(("foo", "2"))

        assert changes(found) == {"foo": "2"}
        (note,) = found.notes
        assert note.startswith(f"{served['other'].address} other is left out: ")
        first.files.clear()
        with pytest.raises(RepositoryError, match="stable has no Release file") as caught:
            Image(tmp_path / "again", first, deb("foo", "1"), deb("agent", "1"), more=more).resolve(("agent", "2"))
        assert "--ignore-errors goes on without it" in str(caught.value.hint)
