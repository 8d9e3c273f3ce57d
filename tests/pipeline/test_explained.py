# SPDX-License-Identifier: Apache-2.0
"""The proof of extent, rule by rule, on a layer and a database that say what a test lets them say."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from copacetic.errors import RAN_HINT, VerificationError
from copacetic.inventory import PackageDatabase
from copacetic.oci.change import NamedEffect
from copacetic.oci.filesystem import Entry, FileType
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.pipeline.prove.extent import check_extent
from copacetic.unpack.shipped import Explanation, ShippedPackage, ShippedPath
from copacetic.updates import InstalledPackage, PackageKey, PlannedUpdate, Section
from support.image.images import TarItem, make_tar, tar_file
from support.image.trees import scan_tar, stack
from support.value.values import candidate, installed

DEMO, OTHER = installed("demo", "1"), installed("other", "1")
DATABASE = "var/lib/db"


@dataclass
class Listed:
    """A database with a file for each package, and what it says of paths."""

    packages_: tuple[InstalledPackage, ...]
    lists: Mapping[str, Sequence[str]]
    diverted: Mapping[str, str]
    configuration: Collection[str]
    granted: Mapping[str, tuple[int, int, int]]

    def packages(self) -> tuple[InstalledPackage, ...]:
        return self.packages_

    def files(self, package: InstalledPackage) -> Sequence[str]:
        return self.lists.get(package.name, ())

    def place(self, path: str, package: str) -> str:
        return self.diverted.get(path, path)

    def describes(self, path: str, packages: Collection[str]) -> bool | None:
        folder, _, name = path.rpartition("/")
        listed = {f"{package.name}-{package.version}": package.name for package in self.packages_}
        return listed[name] in packages if folder == DATABASE and name in listed else None

    def is_configuration(self, path: str, package: InstalledPackage) -> bool:
        return path in self.configuration

    def grants(self, path: str, owner: tuple[int, int, int]) -> bool:
        return self.granted.get(path) == owner


@dataclass
class Layer:
    """An image, and a layer that updates `demo` from 1 to 2 and leaves `other` alone."""

    image: Sequence[TarItem] = ()
    brings: Sequence[TarItem] = ()
    ships: Sequence[ShippedPath] = ()
    """What demo 2 says that it has."""
    scripts: str = ""
    more: Sequence[ShippedPackage] = ()
    """Other packages of the plan."""
    effects: Mapping[str, NamedEffect] | None = field(default_factory=dict)
    at_hand: bool = True
    listed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    before: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the image's database lists, where that is something else."""
    diverted: Mapping[str, str] = field(default_factory=dict)
    """In the result."""
    configuration: Collection[str] = ()
    granted: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    aside: Listed | None = None
    """A database of which the plan changes no package."""

    def check(self) -> tuple[str, ...]:
        base, layer = make_tar(self.image), make_tar(self.brings)
        new = installed("demo", "2")
        before = Listed((DEMO, OTHER), self.before or self.listed, {}, self.configuration, self.granted)
        after = Listed((new, OTHER), self.listed, self.diverted, self.configuration, self.granted)
        update = PlannedUpdate(installed=DEMO, candidate=candidate("demo", "2"))
        demo = ShippedPackage(
            key=new.key, label="demo 2", paths=tuple(self.ships), scripts=self.scripts, suffixes=(".new",)
        )
        parts = [Part(Section(package_type="deb", updates=(update,)), database(before), database(after))]
        if self.aside is not None:
            parts.append(Part(Section(package_type="apk"), database(self.aside), database(self.aside)))
        result = stack(base, layer)
        return check_extent(
            Evidence(
                parts=tuple(parts),
                before=stack(base),
                after=result,
                index=scan_tar(layer),
                digest=result.digest,
                explanation=Explanation(
                    packages={"deb": (demo, *self.more)} if self.at_hand else None, effects=self.effects
                ),
            )
        )

    def refused(self) -> str:
        with pytest.raises(VerificationError) as caught:
            self.check()
        return str(caught.value)


def database(listed: Listed) -> PackageDatabase:
    return cast(PackageDatabase, listed)


def folder(path: str, mode: int = 0o755, **more: Any) -> TarItem:
    return tar_file(path, type=tarfile.DIRTYPE, mode=mode, **more)


def link(path: str, target: str) -> TarItem:
    return tar_file(path, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def gone(path: str) -> TarItem:
    above, _, name = path.rpartition("/")
    return tar_file(f"{above}/.wh.{name}", mode=0)


def says(path: str, content: str = "", mode: int = 0o644, **more: Any) -> ShippedPath:
    values: dict[str, Any] = {"type": FileType.FILE, "sha256": hashlib.sha256(content.encode()).hexdigest(), **more}
    return ShippedPath(path=path, mode=mode, uid=0, gid=0, **values)


def says_folder(path: str, mode: int = 0o755) -> ShippedPath:
    return says(path, mode=mode, type=FileType.DIRECTORY, sha256="")


def says_link(path: str, target: str) -> ShippedPath:
    return says(path, mode=0o777, type=FileType.SYMLINK, sha256="", target=target)


def done(content: str, mode: int = 0o644) -> NamedEffect:
    """That a script made a file."""
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return NamedEffect("a script", Entry(type=FileType.FILE, mode=mode, size=len(content), sha256=sha256))


TAKEN = NamedEffect("a script", None)
UNEXPLAINED = "is in the new layer, and no package, database or script of the plan explains it"


# -- what packages ship and the layer doesn't have -----------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "problem"), [([], "is missing in the result"), ([tar_file("opt/a", "b")], "has another content than in")]
)
def test_a_file_that_the_layer_lacks_has_to_be_in_the_image_as_the_package_says(
    there: Sequence[TarItem], problem: str
) -> None:
    assert Layer(there, ships=[says("opt/a", "a")]).refused().startswith(f"demo 2: opt/a {problem}")
    assert Layer([tar_file("opt/a", "a")], ships=[says("opt/a", "a")]).check() == ()


def test_a_file_that_the_database_gives_to_another_package_is_held_against_that_one() -> None:
    listed = {"demo": ["opt/b"]}
    image = [tar_file("opt/b", "b")]

    assert Layer(image, ships=[says("opt/a", "a"), says("opt/b", "b")], listed=listed).check() == ()
    assert "opt/b has another content" in Layer(image, ships=[says("opt/b", "x")], listed=listed).refused()


def test_a_link_that_the_layer_lacks_is_in_the_image_itself() -> None:
    image = [tar_file("opt/b"), link("opt/a", "b")]

    assert Layer(image, ships=[says_link("opt/a", "b")]).check() == ()


def test_configuration_that_somebody_has_taken_away_stays_away() -> None:
    assert Layer(ships=[says("etc/a", "a", is_configuration=True)]).check() == ()


@pytest.mark.parametrize(
    ("there", "may_stay"),
    [
        ([folder("opt/a")], True),
        ([folder("opt/b"), link("opt/a", "b")], True),
        ([tar_file("opt/b"), link("opt/a", "b")], False),
        ([link("opt/a", "nowhere")], False),
        ([tar_file("opt/a")], False),
    ],
)
def test_where_a_package_has_a_link_only_a_folder_stays(there: Sequence[TarItem], may_stay: bool) -> None:
    layer = Layer(there, ships=[says_link("opt/a", "c")])

    if may_stay:
        assert layer.check() == ()
    else:
        assert layer.refused().startswith("demo 2: opt/a ")


@pytest.mark.parametrize(
    ("effects", "scripts", "may_be_gone"),
    [
        ({"opt/a": TAKEN}, "", True),
        ({"opt/a": done("a")}, "rm opt/a", False),
        ({"opt/b": TAKEN}, "rm opt/a", False),
        (None, "rm /opt/a", True),
        (None, "rm /opt/b", False),
    ],
)
def test_what_a_package_ships_is_missing_only_where_a_script_took_it(
    effects: Mapping[str, NamedEffect] | None, scripts: str, may_be_gone: bool
) -> None:
    layer = Layer(ships=[says("opt/a", "a")], effects=effects, scripts=scripts)

    if may_be_gone:
        assert layer.check() == ()
    else:
        assert layer.refused() == "demo 2: opt/a is missing in the result"


def test_what_the_old_version_had_and_the_image_no_more_stays_away_where_scripts_were_run() -> None:
    old = {"demo": ["opt/a"]}

    assert Layer(ships=[says("opt/a", "a")], effects=None, before=old).check() == ()
    assert "is missing" in Layer(ships=[says("opt/a", "a")], before=old).refused()
    taken = Layer([tar_file("opt/a", "a")], [gone("opt/a")], [says("opt/a", "a")], effects=None, before=old)
    assert "is missing" in taken.refused()


def test_an_error_says_that_a_script_did_it_only_where_one_was_run() -> None:
    hints = []
    nothing: Mapping[str, NamedEffect] = {}
    for effects in (nothing, None):
        with pytest.raises(VerificationError) as caught:
            Layer(ships=[says("opt/a")], effects=effects).check()
        hints.append(caught.value.hint)

    assert hints == [VerificationError.hint, RAN_HINT]


# -- folders -------------------------------------------------------------------------------------------------

NEW = says("opt/new/deep/a", "a")
ABOVE = [folder("opt"), folder("opt/new"), folder("opt/new/deep"), tar_file("opt/new/deep/a", "a")]


def test_folders_come_with_what_is_in_them_wherever_there_was_none() -> None:
    assert Layer(brings=ABOVE, ships=[NEW]).check() == ()
    assert Layer([tar_file("opt/new/b")], ABOVE, [NEW]).check() == (), "the image has entries for none of them"


def test_a_folder_above_one_that_stays_comes_as_well() -> None:
    brings = [folder("opt"), folder("opt/d"), tar_file("opt/d/a", "a")]

    assert Layer([folder("opt/d")], brings, [says("opt/d/a", "a")]).check() == ()


@pytest.mark.parametrize(
    ("item", "path"),
    [
        (folder("opt/empty"), "opt/empty"),
        (folder("opt/new", 0o700), "opt/new"),
        (folder("opt/new", 0o1777), "opt/new"),
        (folder("opt/new", uid=7), "opt/new"),
        (folder("opt/new", gid=7), "opt/new"),
        (folder("opt/new", uid=7, gid=7), "opt/new"),
        (folder("opt/new", pax_headers={"SCHILY.xattr.user.x": "1"}), "opt/new"),
    ],
)
def test_a_new_folder_that_is_empty_or_an_odd_one_needs_an_explanation(item: TarItem, path: str) -> None:
    brings = [one for one in ABOVE if one[0].name != path]

    assert Layer(brings=[*brings[:1], item, *brings[1:]], ships=[NEW]).refused() == f"{path} {UNEXPLAINED}"


def test_a_folder_that_the_image_has_in_so_many_words_is_no_new_one() -> None:
    assert Layer([folder("opt/new", 0o700)], ABOVE, [NEW]).refused() == f"opt/new {UNEXPLAINED}"


def test_of_several_packages_that_share_a_folder_one_is_enough_to_explain_it() -> None:
    more = ShippedPackage(key=PackageKey("more", "amd64"), label="more 1", paths=(says_folder("opt/d", 0o700),))

    assert Layer(brings=[folder("opt/d", 0o700)], ships=[says_folder("opt/d")], more=[more]).check() == ()
    assert Layer(brings=[folder("opt/d", 0o711)], ships=[says_folder("opt/d")], more=[more]).refused() == (
        "opt/d has the mode 0711 instead of 0755"
    )


@pytest.mark.parametrize("ships", [[], [says_folder("opt/d")]])
def test_a_record_may_give_a_folder_another_owner_and_nothing_else(ships: Sequence[ShippedPath]) -> None:
    def layer(item: TarItem, *granted: int) -> Layer:
        grants = {"opt/d": (granted[0], granted[1], granted[2])}
        return Layer(brings=[item], ships=ships, granted=grants)

    assert layer(folder("opt/d", 0o700, uid=7), 7, 0, 0o700).check() == ()
    assert layer(folder("opt/d", 0o700, uid=7), 7, 0, 0o755).refused().startswith("opt/d ")
    odd = folder("opt/d", 0o700, uid=7, pax_headers={"SCHILY.xattr.user.x": "1"})
    assert layer(odd, 7, 0, 0o700).refused().startswith("opt/d ")
    assert layer(tar_file("opt/d", mode=0o700, uid=7), 7, 0, 0o700).refused().startswith("opt/d ")


# -- rows that nobody ships ----------------------------------------------------------------------------------


def test_a_link_of_the_image_is_not_what_it_leads_to() -> None:
    image = [tar_file("opt/file", "same"), link("opt/link", "file")]

    assert Layer(image, [tar_file("opt/link", "same")]).refused() == f"opt/link {UNEXPLAINED}"
    assert Layer(image, [link("opt/link", "file")]).check() == ()


@pytest.mark.parametrize(
    ("effect", "problem"),
    [
        (done("made"), ""),
        (done("other"), "is not what came of a script"),
        (done("made", 0o600), "is not what came of a script"),
        (TAKEN, "is not what came of a script"),
    ],
)
def test_what_a_script_made_is_what_it_was_to_make(effect: NamedEffect, problem: str) -> None:
    layer = Layer(brings=[tar_file("opt/made", "made")], effects={"opt/made": effect})

    if problem:
        assert layer.refused() == f"opt/made {problem}"
    else:
        assert layer.check() == ()


@pytest.mark.parametrize("name", ["passwd", "group", "shadow", "gshadow"])
@pytest.mark.parametrize(("mode", "is_fine"), [(0o640, True), (0o600, True), (0o644, False), (0o4640, False)])
def test_scripts_add_accounts_and_open_them_to_nobody(name: str, mode: int, is_fine: bool) -> None:
    image = [tar_file(f"etc/{name}", "root", mode=0o640)]
    layer = Layer(image, [tar_file(f"etc/{name}", "root\nnew", mode=mode)], effects=None)

    if is_fine:
        assert layer.check() == (f"scripts left what no package has: etc/{name}",)
    else:
        assert layer.refused() == f"etc/{name} has the image's accounts, and would be open to more users than before"


def test_accounts_that_the_image_has_not_may_come() -> None:
    assert Layer(brings=[tar_file("etc/gshadow", mode=0o640)], effects=None).check() == (
        "scripts left what no package has: etc/gshadow",
    )


@pytest.mark.parametrize("count", [5, 6])
def test_five_are_named_and_more_are_counted(count: int) -> None:
    (note,) = Layer(brings=[tar_file(f"opt/{n}") for n in range(count)], effects=None).check()

    more = " and 1 more" if count == 6 else ""
    assert note == f"scripts left what no package has: opt/0, opt/1, opt/2, opt/3, opt/4{more}"


def test_a_folder_that_scripts_leave_is_not_worth_a_word() -> None:
    assert Layer(brings=[folder("opt/left", 0o700), tar_file("opt/left/a")], effects=None).check() == (
        "scripts left what no package has: opt/left/a",
    )


# -- the new version of a configuration file, beside the present one -----------------------------------------

CONFFILE = says("etc/a", "new", is_configuration=True)


@pytest.mark.parametrize(
    ("item", "is_offered"),
    [
        (tar_file("etc/a.new", "new"), True),
        (tar_file("etc/a.new", "new", mode=0o600, uid=7), True),
        (tar_file("etc/a.new", "new", mode=0o600), False),
        (tar_file("etc/a.new", "evil"), False),
        (tar_file("etc/a.old", "new"), False),
        (tar_file("etc/b.new", "new"), False),
    ],
)
def test_it_is_the_package_s_with_the_package_s_attributes_or_the_present_one_s(
    item: TarItem, is_offered: bool
) -> None:
    layer = Layer([tar_file("etc/a", "mine", mode=0o600, uid=7)], [item], [CONFFILE])

    if is_offered:
        assert layer.check() == ()
    else:
        assert layer.refused() == f"{item[0].name} {UNEXPLAINED}"


def test_beside_a_file_that_is_no_configuration_there_is_nothing() -> None:
    layer = Layer([tar_file("opt/a", "a")], [tar_file("opt/a.new", "a")], [says("opt/a", "a")])

    assert layer.refused() == f"opt/a.new {UNEXPLAINED}"


def test_beside_a_link_it_has_the_package_s_attributes_and_not_those_of_what_the_link_leads_to() -> None:
    image = [link("etc/a", "../opt/a"), tar_file("opt/a", "mine", mode=0o600, uid=7)]

    assert Layer(image, [tar_file("etc/a.new", "new")], [CONFFILE]).check() == ()
    odd = Layer(image, [tar_file("etc/a.new", "new", mode=0o600, uid=7)], [CONFFILE])
    assert odd.refused() == f"etc/a.new {UNEXPLAINED}"


# -- the database --------------------------------------------------------------------------------------------


def test_the_database_s_files_about_the_new_version_come_and_those_about_the_old_one_go() -> None:
    image = [tar_file(f"{DATABASE}/demo-1")]

    assert Layer(image, [gone(f"{DATABASE}/demo-1"), tar_file(f"{DATABASE}/demo-2")]).check() == ()
    assert Layer(image, [tar_file(f"{DATABASE}/demo-1", "x")]).refused() == f"{DATABASE}/demo-1 {UNEXPLAINED}"
    taken = Layer([tar_file(f"{DATABASE}/demo-2")], [gone(f"{DATABASE}/demo-2")])
    assert taken.refused().startswith(f"the layer takes {DATABASE}/demo-2 away")


@pytest.mark.parametrize(
    "odd",
    [
        {"mode": 0o4755},
        {"mode": 0o666},
        {"mode": 0o664},
        {"uid": 7},
        {"gid": 7},
        {"uid": 7, "gid": 7},
        {"pax_headers": {"SCHILY.xattr.user.x": "1"}},
    ],
)
def test_they_are_plain_files_of_root(odd: Mapping[str, Any]) -> None:
    assert Layer(brings=[tar_file(f"{DATABASE}/demo-2", **odd)]).refused() == (
        f"{DATABASE}/demo-2 belongs to the package database, and has a mode or an owner that it never has"
    )
    assert Layer(brings=[folder(f"{DATABASE}/demo-2")]).check() == ()


@pytest.mark.parametrize("effects", [{}, None])
def test_what_it_has_of_others_neither_changes_nor_goes(effects: Mapping[str, NamedEffect] | None) -> None:
    image = [tar_file(f"{DATABASE}/other-1")]

    changed = Layer(image, [tar_file(f"{DATABASE}/other-1", "x")], effects=effects)
    assert changed.refused() == (
        f"{DATABASE}/other-1 is what the package database has of a package that the plan leaves alone"
    )
    taken = Layer(image, [gone(f"{DATABASE}/other-1")], effects=effects)
    assert taken.refused() == f"{DATABASE}/other-1 of a package that the plan leaves alone would be taken away"


class Whole(Listed):
    """A database that is one file."""

    def describes(self, path: str, packages: Collection[str]) -> bool | None:
        return True if path == "lib/apk/db" else None


def test_a_database_of_which_the_plan_changes_no_package_stays_as_it_is() -> None:
    aside = Whole((), {}, {}, (), {})
    layer = Layer([tar_file("lib/apk/db", "old")], [tar_file("lib/apk/db", "new")], aside=aside)

    assert layer.refused().startswith("lib/apk/db is what the package database has of a package that the plan leaves")


# -- what is gone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effects", "is_explained"),
    [({"opt/a": TAKEN}, True), ({}, False), ({"opt/a": done("")}, False), ({"opt/b": TAKEN}, False)],
)
def test_what_the_layer_takes_away_somebody_took(effects: Mapping[str, NamedEffect], is_explained: bool) -> None:
    layer = Layer([tar_file("opt/a")], [gone("opt/a")], effects=effects)

    if is_explained:
        assert layer.check() == ()
    else:
        assert layer.refused() == "the layer takes opt/a away, which no package or script of the plan explains"


def test_files_of_the_version_that_goes_go() -> None:
    image = [tar_file("opt/a"), tar_file("opt/b")]

    assert Layer(image, [gone("opt/a")], before={"demo": ["opt/a"]}).check() == ()
    assert Layer(image, [gone("opt/b")], before={"demo": ["opt/a"]}).refused().startswith("the layer takes opt/b away")


def test_a_link_of_the_version_that_goes_goes_and_not_what_it_leads_to() -> None:
    image, old = [tar_file("opt/b"), link("opt/a", "b")], {"demo": ["opt/a"]}

    assert Layer(image, [gone("opt/a")], before=old).check() == ()
    assert "opt/b away" in Layer(image, [gone("opt/b")], before=old).refused()


@pytest.mark.parametrize(
    ("brings", "ships"),
    [
        ([gone("opt/d")], []),
        ([tar_file("opt/d", "a")], [says("opt/d", "a")]),
        ([link("opt/d", "e")], [says_link("opt/d", "e")]),
    ],
    ids=["mark", "file", "link"],
)
def test_with_a_folder_goes_all_that_is_in_it(brings: Sequence[TarItem], ships: Sequence[ShippedPath]) -> None:
    image = [folder("opt/d"), tar_file("opt/d/deep/x")]
    old = {"demo": ["opt/d", "opt/d/deep"]}

    assert Layer(image, brings, ships, before=old).refused() == (
        "the layer takes opt/d/deep/x away, which no package or script of the plan explains"
    )
    assert "opt/d/deep/x of other" in Layer(image, brings, ships, listed={"other": ["opt/d/deep/x"]}).refused()
    (note,) = Layer(image, brings, ships, before=old, effects=None).check()
    assert note == "scripts took away what no package has: opt/d/deep/x"


def test_what_is_there_through_the_link_that_took_a_folder_s_place_is_not_gone() -> None:
    image = [folder("opt/d"), tar_file("opt/d/x"), folder("opt/e"), link("opt/e/x", "nowhere")]

    assert Layer(image, [link("opt/d", "e")], [says_link("opt/d", "e")]).check() == ()


def test_a_mark_for_what_never_was_explains_itself_no_more_than_any_other() -> None:
    assert Layer(brings=[gone("opt/a")]).refused().startswith("the layer takes opt/a away")


# -- what stays of the old version ---------------------------------------------------------------------------

STAYS: dict[str, Any] = {"image": [tar_file("opt/a", "a")], "before": {"demo": ["opt/a"]}}
STAYED = "opt/a of demo 1 would stay, which no package of the result has"


@pytest.mark.parametrize("effects", [{}, None])
def test_a_file_of_the_old_version_goes_with_it(effects: Mapping[str, NamedEffect] | None) -> None:
    assert Layer(**STAYS, effects=effects).refused() == STAYED
    assert Layer(**STAYS, effects=effects, at_hand=False).refused() == STAYED
    assert Layer(**{**STAYS, "image": []}, effects=effects).check() == ()


@pytest.mark.parametrize(
    "more",
    [
        {"ships": [says("opt/a", "a")]},
        {"listed": {"demo": ["opt/a"]}, "at_hand": False, "effects": None},
        {"listed": {"other": ["opt/a"]}},
        {"configuration": ["opt/a"]},
        {"effects": {"opt/a": done("a")}},
        {"effects": None, "scripts": "cp /usr/share/a /opt/a"},
        {"image": [folder("opt/a")]},
        {"image": [link("opt/a", "b")], "effects": None},
    ],
    ids=["shipped", "listed by a builder", "another's", "configuration", "made", "spoken of", "folder", "link"],
)
def test_unless_somebody_still_has_it_or_may_have_made_it(more: Mapping[str, Any]) -> None:
    assert Layer(**{**STAYS, **more}).check() == ()


@pytest.mark.parametrize(
    "more",
    [
        {"ships": [says("opt/b", "b")], "brings": [folder("opt"), tar_file("opt/b", "b")]},
        {"listed": {"other": ["opt/b"]}},
        {"configuration": ["opt/b"]},
        {"effects": {"opt/a": TAKEN}},
        {"effects": {"opt/b": done("a")}},
        {"effects": {}, "scripts": "cp /usr/share/a /opt/a"},
        {"effects": None, "scripts": "cp /usr/share/b /opt/b"},
        {"image": [link("opt/a", "b")]},
    ],
    ids=["shipped", "another's", "configuration", "taken", "made", "not run", "not spoken of", "link"],
)
def test_what_accounts_for_something_else_accounts_for_nothing_here(more: Mapping[str, Any]) -> None:
    assert Layer(**{**STAYS, **more}).refused() == STAYED


def test_what_stays_through_a_link_that_moved_is_where_it_leads_now() -> None:
    image = [tar_file("lib/a", "a")]
    moved = [tar_file("usr/lib/a", "a"), link("lib", "usr/lib")]

    asked: dict[str, Any] = {"before": {"demo": ["lib/a"]}, "effects": None}
    assert Layer(image, moved, **asked).refused() == "lib/a of demo 1 would stay, which no package of the result has"
    assert Layer(image, moved, [says("usr/lib/a", "a")], **asked).check() == ("scripts left what no package has: lib",)


# -- other packages ------------------------------------------------------------------------------------------

MINE = {"other": ["bin/other"]}
LINKED = [folder("usr/bin"), link("bin", "usr/bin"), tar_file("usr/bin/other", "other", mode=0o755)]


@pytest.mark.parametrize(
    ("item", "what"),
    [
        (tar_file("usr/bin/other", "evil", mode=0o755), "changed"),
        (tar_file("usr/bin/other", "other", mode=0o777), "changed"),
        (gone("usr/bin/other"), "taken away"),
    ],
)
def test_a_file_is_another_package_s_by_whichever_way_it_is_listed(item: TarItem, what: str) -> None:
    layer = Layer(LINKED, [item], effects=None, listed=MINE)

    assert layer.refused() == f"bin/other of other, which the plan leaves alone, would be {what}"


def test_a_file_in_the_root_is_no_less_a_package_s() -> None:
    layer = Layer([tar_file("init", "1")], [tar_file("init", "2")], effects=None, listed={"other": ["init"]})

    assert layer.refused() == "init of other, which the plan leaves alone, would be changed"


def test_a_link_of_another_package_stays_a_link() -> None:
    image = [tar_file("opt/b", "b"), link("opt/a", "b")]
    layer = Layer(image, [tar_file("opt/a", "b")], effects=None, listed={"other": ["opt/a"]})

    assert layer.refused() == "opt/a of other, which the plan leaves alone, would be changed"


def test_what_another_package_lists_and_the_image_lacks_is_nobody_s() -> None:
    layer = Layer(brings=[tar_file("opt/a")], effects=None, listed={"other": ["opt/a"]})

    assert layer.check() == ("scripts left what no package has: opt/a",)


def test_a_link_that_leads_elsewhere_puts_no_other_file_in_a_package_s_place() -> None:
    evil = tar_file("opt/evil/other", "evil", mode=0o755)
    same = tar_file("opt/same/other", "other", mode=0o755)

    layer = Layer([*LINKED, evil, same], [link("bin", "opt/evil")], effects=None, listed=MINE)
    assert layer.refused() == "bin/other of other, which the plan leaves alone, would be changed"
    layer.brings = [link("bin", "opt/nowhere")]
    assert layer.refused() == "bin/other of other, which the plan leaves alone, would be taken away"
    layer.brings = [link("bin", "opt/same")]
    assert layer.check() == ("scripts left what no package has: bin",)


def test_a_planned_package_may_take_over_a_file_whoever_says_that_it_has_it() -> None:
    new = tar_file("usr/bin/other", "new", mode=0o755)

    assert Layer(LINKED, [new], [says("bin/other", "new", 0o755)], listed=MINE).check() == ()
    listed = {**MINE, "demo": ["usr/bin/other"]}
    assert Layer(LINKED, [new], listed=listed, at_hand=False, effects=None).check() == ()
    assert "would be changed" in Layer(LINKED, [new], listed=MINE, at_hand=False, effects=None).refused()


def test_a_shared_folder_is_as_a_planned_package_or_a_record_says_and_stays_a_folder() -> None:
    image, listed = [folder("opt/d")], {"other": ["opt/d"]}
    private = folder("opt/d", 0o700)

    assert Layer(image, [private], [says_folder("opt/d", 0o700)], listed=listed).check() == ()
    assert Layer(image, [private], listed=listed, granted={"opt/d": (0, 0, 0o700)}).check() == ()
    changed = "opt/d of other, which the plan leaves alone, would be changed"
    assert Layer(image, [private], listed=listed, effects=None).refused() == changed
    moved = [folder("opt/e"), link("opt/d", "e")]
    assert Layer(image, moved, [says_folder("opt/d")], listed=listed, effects=None).refused() == changed


def test_a_folder_takes_no_file_s_place() -> None:
    layer = Layer(LINKED, [folder("usr/bin/other")], [says_folder("bin/other")], listed=MINE)

    assert layer.refused() == "bin/other of other, which the plan leaves alone, would be changed"


def test_scripts_change_others_configuration_and_it_stays_a_file() -> None:
    image, asked = [tar_file("etc/o", "1", mode=0o600)], {"listed": {"other": ["etc/o"]}, "configuration": ["etc/o"]}
    new = tar_file("etc/o", "2", mode=0o600)
    odd = tar_file("etc/o", type=tarfile.FIFOTYPE, mode=0o600)

    said = "scripts changed the configuration of other packages: etc/o"
    assert Layer(image, [new], effects=None, **asked).check() == (said,)  # type: ignore[arg-type]
    assert Layer(image, [new], effects={"etc/o": done("2", 0o600)}, **asked).check() == ()  # type: ignore[arg-type]
    assert "would be changed" in Layer(image, [odd], effects=None, **asked).refused()  # type: ignore[arg-type]
    assert "would be changed" in Layer(image, [new], effects=None, listed={"other": ["etc/o"]}).refused()


def test_a_file_that_is_diverted_is_replaced_by_what_a_planned_package_ships_and_by_nothing_else() -> None:
    image = [tar_file("opt/o", "other")]
    moved = [tar_file("opt/o", "mine"), tar_file("opt/o.real", "other")]
    asked: dict[str, Any] = {"listed": {"other": ["opt/o"]}, "diverted": {"opt/o": "opt/o.real"}, "effects": None}

    refused = Layer(image, moved, **asked).refused()
    assert refused.endswith("would be moved away for a file that no package ships")
    more = ShippedPackage(key=PackageKey("more", "amd64"), label="more 1", paths=(says("opt/mine", "mine"),))
    asked["diverted"] = {"opt/o": "opt/o.real", "opt/mine": "opt/o"}
    assert Layer(image, moved, more=[more], **asked).check() == ()
