# SPDX-License-Identifier: Apache-2.0
"""The set of apk packages that comes out, with the real apk as the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from copacetic.apk import ApkTools
from copacetic.apk.dependency import Dependency, parse_dependencies
from copacetic.apk.stanza import ApkStanza
from copacetic.distro import Distro
from copacetic.repository.apk.offers import Universe
from copacetic.repository.apk.order import Step, order_changes
from copacetic.repository.apk.resolver import ApkResolver, Resolved
from copacetic.repository.apk.solve import Pins, Solution, UnsolvableError, solve, unmet
from copacetic.repository.apk.vendor import Vendors, vendor_of
from copacetic.updates import InstalledPackage, Origin, PackageKey, SkipReason, Wanted
from support.apk.apkoracle import alpine_root
from support.apk.apkrandom import Case, Change, Drawer, Judged, Row, judge, row
from support.value.values import wanted_fix

APK2 = ApkTools((2, 14, 4))


class RowSource:
    """Rows as a repository."""

    def __init__(self, rows: Sequence[Row], tag: str = "") -> None:
        self.tag = tag
        self._rows = tuple(rows)

    def rows(self, name: str) -> Iterator[Row]:
        return (one for one in self._rows if name == one["P"] or name in _names(one.get("p", "")))

    def rows_if(self, name: str) -> Iterator[Row]:
        return (one for one in self._rows if name in _names(one.get("i", "")))


def _names(text: str) -> list[str]:
    return [dependency.name for dependency in parse_dependencies(text)]


def package(fields: Mapping[str, str]) -> InstalledPackage:
    return InstalledPackage(
        name=fields["P"], version=fields["V"], architecture="x86_64", source_name=fields["P"],
        source_version=fields["V"], record=ApkStanza(fields),
    )  # fmt: skip


def resolve(
    installed: Sequence[Row],
    offered: Sequence[Row],
    world: str,
    *fixes: tuple[str, str],
    frozen: Mapping[PackageKey, str] | None = None,
    assumed: Sequence[Row] = (),
    tagged: Sequence[Row] = (),
) -> Resolved:
    """Ask for every update, or for fixes of (package, version)."""
    packages = {one["P"]: package(one) for one in (*installed, *assumed)}
    sources = [RowSource(offered), RowSource(tagged, "edge")]
    resolver = ApkResolver(
        [packages[one["P"]] for one in installed], [packages[one["P"]] for one in assumed],
        sources[: 1 + bool(tagged)], parse_dependencies(world), tools=APK2, frozen=frozen or {},
    )  # fmt: skip
    wanted = [wanted_fix(packages[name], version) for name, version in fixes]
    return resolver.resolve(wanted or [Wanted(package=packages[one["P"]]) for one in installed], exhaustive=not fixes)


def changes(resolved: Resolved) -> list[str]:
    return [f"{change.new.name}-{change.new.version}" for change in resolved.changes]


def reasons(resolved: Resolved) -> dict[str, tuple[SkipReason, str]]:
    return {skipped.package.name: (skipped.reason, skipped.detail) for skipped in resolved.skipped}


# -- everything ------------------------------------------------------------------------------------------------------


def test_the_newest_version_is_taken_and_what_it_needs_comes_first() -> None:
    installed = [row("a", "1-r0", D="b"), row("b", "1-r0")]
    offered = [row("a", "2-r0", D="b>=2 new"), row("b", "2-r0"), row("b", "3-r0"), row("new", "1-r0")]

    resolved = resolve(installed, offered, "a")

    assert changes(resolved) == ["b-3-r0", "new-1-r0", "a-2-r0"]
    assert resolved.skipped == ()


def test_apk_upgrades_itself_before_everything_else() -> None:
    installed = [row("a", "1-r0"), row("apk-tools", "1-r0", D="z"), row("z", "1-r0")]
    offered = [row("a", "2-r0"), row("apk-tools", "2-r0", D="z>=2-r0"), row("z", "2-r0"), row("z", "3-r0")]

    assert changes(resolve(installed, offered, "a apk-tools z")) == ["z-3-r0", "apk-tools-2-r0", "a-2-r0"]


def test_the_same_version_built_again_is_no_upgrade() -> None:
    assert changes(resolve([row("a", "1-r0")], [row("a", "1-r0", D="b"), row("b", "1-r0")], "a")) == []


def test_nothing_goes_down_when_the_image_is_newer_than_its_repository() -> None:
    installed = [row("a", "3-r0"), row("b", "1-r0")]

    assert changes(resolve(installed, [row("a", "2-r0"), row("b", "2-r0", D="a<3")], "a b")) == []


def test_what_comes_in_by_itself_does() -> None:
    installed = [row("a", "1-r0"), row("docs", "1-r0")]
    offered = [row("a", "2-r0"), row("a-doc", "2-r0", i="docs a=2-r0"), row("a-other", "2-r0", i="nothing a=2-r0")]

    assert changes(resolve(installed, offered, "a docs")) == ["a-2-r0", "a-doc-2-r0"]


def test_a_companion_follows_the_package_that_brought_it_in() -> None:
    installed = [row("busybox", "1-r0"), row("ssl", "1-r0"), row("ssl_client", "1-r0", i="busybox=1-r0 ssl")]
    offered = [row("busybox", "1-r7"), row("ssl_client", "1-r7", i="busybox=1-r7 ssl")]

    assert changes(resolve(installed, offered, "busybox ssl")) == ["busybox-1-r7", "ssl_client-1-r7"]


def test_a_pin_that_another_package_has_is_named_with_its_holder() -> None:
    installed = [row("openssl", "3.1.4-r5", D="libcrypto3=3.1.4-r5"), row("libcrypto3", "3.1.4-r5")]

    resolved = resolve(installed, [row("libcrypto3", "3.1.7-r0")], "openssl")

    assert changes(resolved) == []
    assert reasons(resolved) == {
        "libcrypto3": (
            SkipReason.DEPENDENCY,
            "3.1.7-r0 is offered, but openssl 3.1.4-r5 needs libcrypto3=3.1.4-r5, and no newer openssl is offered",
        )
    }


def test_a_pin_of_world_is_named() -> None:
    resolved = resolve([row("a", "1-r0")], [row("a", "2-r0")], "a=1-r0")

    assert reasons(resolved) == {"a": (SkipReason.DEPENDENCY, "2-r0 is offered, but etc/apk/world pins a=1-r0")}


def test_a_pin_further_away_is_found() -> None:
    installed = [row("app", "1-r0", D="lib<2"), row("lib", "1-r0"), row("tool", "1-r0", D="lib")]
    offered = [row("lib", "2-r0"), row("tool", "2-r0", D="lib>=2-r0")]

    detail = reasons(resolve(installed, offered, "app tool"))["tool"][1]

    assert detail == "2-r0 is offered, but tool 2-r0 needs lib>=2-r0: app 1-r0 needs lib<2, and no newer app is offered"


def test_a_virtual_package_that_needs_what_the_new_version_lacks_is_named() -> None:
    installed = [
        row(".php-rundeps", "20240101", D="so:libicuuc.so.74"),
        row("icu-libs", "74.2-r0", p="so:libicuuc.so.74=74.2"),
    ]
    offered = [row("icu-libs", "75.1-r0", p="so:libicuuc.so.75=75.1")]

    needs, stuck = ".php-rundeps 20240101 needs so:libicuuc.so.74", ", and no newer .php-rundeps is offered"

    resolved = resolve(installed, offered, ".php-rundeps icu-libs")

    assert changes(resolved) == []
    assert reasons(resolved) == {
        "icu-libs": (
            SkipReason.DEPENDENCY,
            f"75.1-r0 is offered, but {needs}, which icu-libs 75.1-r0 doesn't provide{stuck}",
        )
    }


def test_a_new_version_whose_need_nobody_offers_is_held_back() -> None:
    resolved = resolve([row("a", "1-r0")], [row("a", "2-r0", D="so:gone"), row("a", "1-r1")], "a")

    assert changes(resolved) == ["a-1-r1"]
    assert reasons(resolve([row("a", "1-r0")], [row("a", "2-r0", D="so:gone")], "a")) == {
        "a": (SkipReason.DEPENDENCY, "2-r0 is offered, but a 2-r0 needs so:gone, which no repository offers")
    }


def test_a_chain_of_thousands_of_packages_is_followed_to_its_end() -> None:
    count = 3_000
    installed = [row(f"p{n}", "1-r0", D=f"p{n + 1}" * (n < count - 1)) for n in range(count)]
    last = f"p{count - 1}"

    assert changes(resolve(installed, [row(last, "2-r0")], "p0")) == [f"{last}-2-r0"]


# -- nothing is removed ----------------------------------------------------------------------------------------------


def test_what_nobody_needs_any_more_stays_and_is_named() -> None:
    installed = [row("a", "1-r0", D="old"), row("old", "1-r0"), row("orphan", "1-r0")]

    resolved = resolve(installed, [row("a", "2-r0"), row("orphan", "2-r0")], "a")

    assert sorted(changes(resolved)) == ["a-2-r0", "orphan-2-r0"]
    assert resolved.notes == ("apk would remove old, orphan, as nothing needs them any more: they stay",)


def test_an_update_that_would_remove_a_package_is_refused_by_its_name() -> None:
    installed = [row("a", "1-r0"), row("mailer", "1-r0", D="")]
    offered = [row("a", "2-r0", D="!mailer")]

    resolved = resolve(installed, offered, "a")

    assert changes(resolved) == []
    assert "mailer" in reasons(resolved)["a"][1]


def test_a_rival_that_would_take_a_package_s_place_is_refused_by_name() -> None:
    installed = [row("a", "1-r0", D="so:x"), row("x-old", "1-r0", p="so:x=1")]
    offered = [row("a", "2-r0", D="so:x>=2"), row("x-new", "1-r0", p="so:x=2")]

    resolved = resolve(installed, offered, "a")

    assert changes(resolved) == []
    assert "x-old" in reasons(resolved)["a"][1]


OLD = (row("old", "1-r0"), row("z", "1-r0"), row("user", "1-r0", D="old"))
RENAMED = (row("new", "2-r0", p="old=2-r0"), row("z", "2-r0"))


@pytest.mark.parametrize("world", ["old z", "user z"])
def test_a_package_with_a_new_name_stays_and_keeps_no_other_back(world: str) -> None:
    resolved = resolve(OLD[: 3 if "user" in world else 2], RENAMED, world)

    assert changes(resolved) == ["z-2-r0"]
    assert resolved.notes == ("apk would remove old, as new 2-r0 is to take its place: it stays",)


def test_a_fix_that_has_another_name_names_it() -> None:
    resolved = resolve(OLD[:2], RENAMED, "old z", ("old", "2-r0"), ("z", "2-r0"))

    assert changes(resolved) == ["z-2-r0"]
    assert reasons(resolved)["old"][1] == (
        "2-r0 or later is needed, no newer version is offered; "
        "new 2-r0 is offered in its place, and old would have to be removed"
    )


@pytest.mark.system
def test_apk_does_put_the_new_name_in_the_place_of_the_old_one(tmp_path: Path) -> None:
    root = alpine_root("3.18.2", tmp_path / "root")
    (judged,) = judge(root, [Case(OLD[:2], RENAMED, ("old", "z"))], tmp_path / "cases")

    assert set(judged.changes) == {("old", "1-r0", None), ("new", None, "2-r0"), ("z", "1-r0", "2-r0")}


@pytest.mark.parametrize("fixes", [(), (("a", "2-r0"),)])
def test_an_update_that_takes_another_package_down_is_refused_by_its_name(fixes: tuple[tuple[str, str], ...]) -> None:
    installed = [row("a", "1-r0"), row("b", "2-r0")]

    resolved = resolve(installed, [row("a", "2-r0", D="b<2"), row("b", "1-r0")], "a b", *fixes)

    assert changes(resolved) == []
    assert reasons(resolved)["a"][1] == (
        "2-r0 is offered, but a 2-r0 needs b<2: b 2-r0 is installed, and would have to go down to 1-r0"
    )


# -- fixes -----------------------------------------------------------------------------------------------------------


def test_a_fix_takes_the_closest_version_that_is_enough_and_moves_nothing_else() -> None:
    installed = [row("a", "1-r0"), row("b", "1-r0")]
    offered = [row("a", "1-r1"), row("a", "1-r2"), row("a", "2-r0"), row("b", "2-r0")]

    assert changes(resolve(installed, offered, "a b", ("a", "1-r2"))) == ["a-1-r2"]


def test_a_fix_brings_what_it_needs_along() -> None:
    installed = [row("ssl", "1-r0", D="crypto=1-r0"), row("crypto", "1-r0"), row("app", "1-r0", D="ssl")]
    offered = [row("ssl", "1-r1", D="crypto=1-r1"), row("crypto", "1-r1"), row("app", "2-r0", D="ssl")]

    assert changes(resolve(installed, offered, "app", ("crypto", "1-r1"))) == ["crypto-1-r1", "ssl-1-r1"]


def test_a_fix_that_nobody_offers_is_named_with_the_newest_there_is() -> None:
    resolved = resolve([row("a", "1-r0"), row("b", "1-r0")], [row("a", "1-r1")], "a b", ("a", "2-r0"), ("b", "2-r0"))

    assert reasons(resolved) == {
        "a": (SkipReason.NO_CANDIDATE, "2-r0 or later is needed, the newest offered is 1-r1"),
        "b": (SkipReason.NO_CANDIDATE, "2-r0 or later is needed, no newer version is offered"),
    }


def test_a_fix_that_is_held_back_is_no_fix_though_others_are() -> None:
    installed = [row("a", "1-r0", D="b=1-r0"), row("b", "1-r0"), row("c", "1-r0")]

    resolved = resolve(installed, [row("b", "2-r0"), row("c", "2-r0")], "a c", ("b", "2-r0"), ("c", "2-r0"))

    assert changes(resolved) == ["c-2-r0"]
    assert list(reasons(resolved)) == ["b"]


def test_fixes_that_go_together_are_found_among_many_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = 0

    def counted(universe: Universe, world: Sequence[Dependency], preferences: Pins) -> Solution:
        nonlocal searches
        searches += 1
        return solve(universe, world, preferences)

    monkeypatch.setattr("copacetic.repository.apk.resolver.solve", counted)
    names = [f"n{number}" for number in range(400)]
    held = row("holder", "1-r0", D="n7=1-r0 n300=1-r0")
    installed = [held, *(row(name, "1-r0") for name in names)]
    fixes = [(name, "2-r0") for name in names]

    few = resolve(installed, [row(name, "2-r0") for name in names], " ".join(["holder", *names]), *fixes)
    assert len(few.changes) == 398
    assert sorted(reasons(few)) == ["n300", "n7"]
    assert searches < 60

    searches = 0
    held["D"] = " ".join(f"{name}=1-r0" for name in names)
    none = resolve(installed, [row(name, "2-r0") for name in names], " ".join(["holder", *names]), *fixes)
    assert changes(none) == []
    assert len(none.skipped) == 400
    assert searches < 300


def test_a_frozen_package_neither_moves_nor_comes_in_and_who_needs_it_says_so() -> None:
    installed = [row("a", "1-r0", D="b"), row("b", "1-r0"), row("c", "1-r0")]
    offered = [row("a", "2-r0", D="b>=2-r0"), row("b", "2-r0"), row("c", "2-r0", D="new"), row("new", "1-r0")]
    frozen = {
        PackageKey("b", "x86_64"): "needs execution (post-upgrade)",
        PackageKey("new", "x86_64"): "needs execution (post-install)",
    }

    resolved = resolve(installed, offered, "a c", frozen=frozen)

    assert changes(resolved) == []
    assert reasons(resolved) == {
        "a": (
            SkipReason.DEPENDENCY,
            "2-r0 is offered, but a 2-r0 needs b>=2-r0: b needs execution (post-upgrade)",
        ),
        "c": (
            SkipReason.DEPENDENCY,
            "2-r0 is offered, but c 2-r0 needs new: new needs execution (post-install)",
        ),
    }


# -- odd images ------------------------------------------------------------------------------------------------------


def test_what_was_unmet_before_keeps_nobody_back() -> None:
    installed = [row("a", "1-r0", D="lost so:x"), row("b", "1-r0", p="so:x=1")]

    assert changes(resolve(installed, [row("a", "2-r0", D="lost so:x")], "a missing")) == ["a-2-r0"]


@pytest.mark.parametrize("fixes", [(), (("z", "2-r0"),)])
@pytest.mark.parametrize("wish", ["a=1-r0", "a<2", "!a"])
def test_what_world_asks_for_in_vain_keeps_no_other_package_back(wish: str, fixes: tuple[tuple[str, str], ...]) -> None:
    installed = [row("a", "2-r0"), row("z", "1-r0")]

    resolved = resolve(installed, [row("a", "1-r0"), row("a", "3-r0"), row("z", "2-r0")], f"{wish} z", *fixes)

    assert changes(resolved) == ["z-2-r0"]
    assert resolved.notes == (f"etc/apk/world asks for {wish}, which the image doesn't meet",)
    if not fixes:
        verb = "pins" if "=" in wish else "asks for"
        assert reasons(resolved)["a"][1] == f"3-r0 is offered, but etc/apk/world {verb} {wish}"


def test_what_world_asks_for_and_lacks_comes_in_when_it_can() -> None:
    installed = [row("z", "1-r0")]

    assert changes(resolve(installed, [row("n", "1-r0"), row("z", "2-r0")], "n z")) == ["n-1-r0", "z-2-r0"]
    assert changes(resolve(installed, [row("n", "1-r0", D="gone"), row("z", "2-r0")], "n z")) == ["z-2-r0"]


def test_a_hidden_package_serves_others_and_can_t_be_fixed() -> None:
    glibc = row("glibc", "2.38-r1", p="so:libc.so.6=6")
    installed = [row("openssl", "1-r0", D="so:libc.so.6")]
    offered = [row("openssl", "2-r0", D="so:libc.so.6"), row("glibc", "2.40-r0", p="so:libc.so.6=6")]

    everything = resolve(installed, offered, "glibc openssl", assumed=[glibc])
    fix = resolve(installed, offered, "glibc openssl", ("glibc", "2.40-r0"), assumed=[glibc])

    assert changes(everything) == ["openssl-2-r0"]
    assert changes(fix) == []
    assert reasons(fix)["glibc"][0] is SkipReason.UNSUPPORTED


def test_a_new_version_that_needs_more_of_a_hidden_package_says_where_that_is() -> None:
    glibc = row("glibc", "2.38-r1")
    offered = [row("openssl", "2-r0", D="glibc>=2.40"), row("glibc", "2.40-r0")]

    resolved = resolve([row("openssl", "1-r0", D="glibc")], offered, "openssl", assumed=[glibc])

    assert changes(resolved) == []
    assert "glibc" in reasons(resolved)["openssl"][1]


def test_a_tagged_repository_serves_only_what_world_asks_for_with_its_tag() -> None:
    installed = [row("a", "1-r0"), row("b", "1-r0")]
    tagged = [row("a", "2-r0"), row("b", "2-r0")]

    resolved = resolve(installed, [], "a@edge b", tagged=tagged)

    assert changes(resolved) == ["a-2-r0"]
    assert reasons(resolved)["b"][1] == (
        "2-r0 is offered, but it is only in the tagged repository @edge, which etc/apk/world doesn't ask for"
    )


@pytest.mark.parametrize("fixes", [(), (("a", "2-r0"),)])
def test_what_a_tagged_package_needs_may_come_from_its_repository(fixes: tuple[tuple[str, str], ...]) -> None:
    installed = [row("a", "1-r0", D="b"), row("b", "1-r0"), row("c", "1-r0"), row("d", "1-r0")]
    tagged = [row("a", "2-r0", D="b>=2 d n"), row("b", "2-r0"), row("c", "2-r0"), row("d", "2-r0"), row("n", "1-r0")]

    resolved = resolve(installed, installed, "a@edge c", *fixes, tagged=tagged)

    assert changes(resolved) == ["b-2-r0", "n-1-r0", "a-2-r0"], "and nothing that is good enough as it is"


def test_a_contradiction_that_was_there_before_keeps_nobody_back() -> None:
    installed = [row("a", "1-r0"), row("b", "1-r0", D="!a")]

    assert changes(resolve(installed, [row("a", "2-r0")], "a b")) == ["a-2-r0"]


def test_an_image_in_which_two_packages_are_one_name_is_left_as_it_is() -> None:
    installed = [row("a", "1-r0", p="so:x=1"), row("b", "1-r0", p="so:x=1")]

    resolved = resolve(installed, [row("a", "2-r0", p="so:x=1")], "a b")

    assert changes(resolved) == []
    assert reasons(resolved)["a"][1] == "the installed packages and etc/apk/world contradict each other"


# -- the real apk ----------------------------------------------------------------------------------------------------


@pytest.mark.system
@pytest.mark.parametrize("rich", [False, True], ids=["plain", "rich"])
@pytest.mark.parametrize("count", [200, pytest.param(4_000, marks=pytest.mark.soak)])
def test_random_repositories_give_the_set_that_apk_upgrade_gives(count: int, rich: bool, tmp_path: Path) -> None:
    root = alpine_root("3.18.2", tmp_path / "root")
    drawer = Drawer(2024 + rich, rich=rich)
    judged = judge(root, [drawer.case() for _ in range(count)], tmp_path / "cases")

    outcomes = Counter(_outcome(one) for one in judged if not one.code)

    # apk does not backtrack, and has rules of thumb of its own: a few sets differ, and are consistent too.
    assert sum(outcomes.values()) >= count // 6
    assert outcomes["another set"] <= 0.02 * sum(outcomes.values())
    assert outcomes["same set, other order"] <= 0.06 * sum(outcomes.values())
    assert set(outcomes) <= {"same", "same set, other order", "another set"}


@pytest.mark.system
@pytest.mark.parametrize("count", [200, pytest.param(4_000, marks=pytest.mark.soak)])
def test_of_a_tagged_repository_comes_what_apk_takes_from_it(count: int, tmp_path: Path) -> None:
    root = alpine_root("3.20.3", tmp_path / "root")
    drawer = Drawer(77, rich=False)
    judged = judge(root, [drawer.tagged_case() for _ in range(count)], tmp_path / "cases")

    outcomes = Counter(_outcome(one) for one in judged if not one.code)

    assert sum(outcomes.values()) >= count // 4
    assert outcomes["another set"] <= 0.04 * sum(outcomes.values())
    assert set(outcomes) <= {"same", "same set, other order", "another set"}


def _outcome(judged: Judged) -> str:
    world = parse_dependencies(" ".join(judged.case.world))
    sources = [RowSource(judged.case.after), RowSource(judged.case.tagged, "edge")][: 1 + bool(judged.case.tagged)]
    universe = Universe(judged.installed, sources, world, scheme="apk2")
    try:
        solution = solve(universe, world, Pins())
    except UnsolvableError:
        return "unsolved"
    if unmet(universe, list(solution.chosen.values()), world):
        return "inconsistent"
    steps = order_changes(universe, solution, world)
    ours = [_change(step) for step in steps]
    if ours == list(judged.changes):
        return "same"
    return "same set, other order" if set(ours) == set(judged.changes) else "another set"


def _change(step: Step) -> Change:
    offer = step.new or step.old
    assert offer is not None
    return offer.name, step.old.version if step.old else None, step.new.version if step.new else None


@pytest.mark.system
def test_random_upgrades_remove_nothing_lower_nothing_and_leave_nothing_unmet(tmp_path: Path) -> None:
    root = alpine_root("3.18.2", tmp_path / "root")
    drawer = Drawer(7, rich=True)
    judged = judge(root, [drawer.case() for _ in range(200)], tmp_path / "cases")

    for one in judged:
        resolved = resolve(one.installed, one.case.after, " ".join(one.case.world))
        result = {fields["P"]: fields for fields in one.installed}
        for change in resolved.changes:
            result[change.new.name] = dict(change.new.fields)
        world = parse_dependencies(" ".join(one.case.world))
        universe = Universe(list(result.values()), [], world, scheme="apk2")
        assert universe.unmet == {"": frozenset()}
        assert all(change.old is None or change.new.version > change.old.version for change in resolved.changes)
        if not one.code and all(old is None or (new or "") > old for _, old, new in one.changes):
            assert len(resolved.changes) >= len(one.changes) - 1, "what apk upgrades is upgraded"


# -- vendors ---------------------------------------------------------------------------------------------------------

KEYS = {"alpine-devel@lists.alpinelinux.org-58199dcc.rsa.pub": "", "nginx_signing.rsa.pub": "nginx_signing"}


def test_a_key_tells_whose_a_repository_is() -> None:
    distro = Distro.parse(b"ID=alpine\n")
    for key, vendor in KEYS.items():
        assert vendor_of(Origin(uri="http://a.example/x", suite="", component="", signed_by=key), distro) == vendor
    assert vendor_of(Origin(uri="http://a.example/x", suite="", component=""), distro) == "a.example"


@pytest.mark.parametrize(
    ("ours", "theirs", "world", "allowed", "expected"),
    [
        ([], [row("web", "1"), row("web", "2")], "web", (), ["web-2"]),
        ([row("web", "3")], [row("web", "1"), row("web", "2")], "web", (), ["web-2"]),
        ([row("web", "3")], [row("web", "1")], "web", (), []),
        ([row("web", "3")], [row("web", "1")], "web", ("w*",), ["web-3"]),
        ([row("web", "2")], [row("web", "3")], "web", (), ["web-2"]),
        ([], [row("web", "3")], "web", (), ["web-3"]),
    ],
)  # fmt: skip
def test_a_package_goes_on_with_its_vendor(
    ours: list[Row], theirs: list[Row], world: str, allowed: tuple[str, ...], expected: list[str]
) -> None:
    """Installed is version 1; the distribution's repository comes first, a vendor's second."""
    installed = [package(row("web", "1"))]
    resolver = ApkResolver(
        installed, [], [RowSource(ours), RowSource(theirs)], parse_dependencies(world), tools=APK2, frozen={},
        vendors=Vendors(("", "vendor"), allowed),
    )  # fmt: skip

    resolved = resolver.resolve([Wanted(package=installed[0])], exhaustive=True)

    assert changes(resolved) == expected
    if not expected:
        assert reasons(resolved)["web"] == (
            SkipReason.VENDOR,
            "3 is offered by the distribution, and the installed one is vendor's: --allow-vendor-change web takes it",
        )
