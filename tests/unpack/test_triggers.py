# SPDX-License-Identifier: Apache-2.0
"""Which packages hear of what new ones do, by the database and by what the new ones themselves want to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import cast

from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.scripts.changes import ChangeSet
from copacetic.unpack.deb.package import DebPackage
from copacetic.unpack.deb.triggers import Activation, find_activations
from copacetic.updates import PackageKey
from support.deb.debs import Deb
from support.image.trees import tree
from support.value.values import key
from unpack.dpkg_image import installed

HEARER = Deb(
    name="hearer", architecture="amd64", control={"triggers": "interest-noawait rebuild\ninterest-noawait /usr/lib/x\n"}
)
DATABASE = DpkgDatabase.detect(
    tree(installed(Deb(name="a-first"), HEARER, more={"var/lib/dpkg/triggers/foreign": "hearer:arm64/noawait\n"}))
)
CHANGED = ChangeSet(changed=frozenset({"usr/lib/x/a", "usr/lib/y/a"}))


def package(name: str, *triggers: tuple[str, str], files: Sequence[str] = ()) -> DebPackage:
    """One that comes in new."""
    made = SimpleNamespace(
        key=key(f"{name}:amd64"), triggers=triggers, installed=None, md5sums=dict.fromkeys(files, "x")
    )
    return cast(DebPackage, made)


def heard(
    *packages: DebPackage, activated: Mapping[PackageKey, Sequence[str]] | None = None, changes: ChangeSet = CHANGED
) -> list[Activation]:
    assert DATABASE is not None
    return find_activations(DATABASE, packages, activated or {}, changes)


def of(names: Sequence[str], *causes: str, who: str = "hearer", unchanged: str = "") -> Activation:
    return Activation(key(f"{who}:amd64"), tuple(names), tuple(key(f"{one}:amd64") for one in causes), unchanged)


def test_a_name_is_set_off_by_who_declares_it_or_whose_script_does() -> None:
    assert heard(package("a", ("activate-noawait", "rebuild"))) == [of(["rebuild"], "a")]
    assert heard(package("a"), activated={key("a:amd64"): ["rebuild", "rebuild"]}) == [of(["rebuild"], "a")]
    assert heard(package("a", ("interest", "rebuild")))[0:] == [], "who listens sets nothing off"
    assert heard(package("a", ("activate", "other"))) == []


def test_a_path_is_set_off_by_what_lies_there_or_below() -> None:
    assert heard(package("a", files=["usr/lib/x/a"])) == [of(["/usr/lib/x"], "a")]
    assert heard(package("a", files=["usr/lib/x"])) == [of(["/usr/lib/x"], "a")]
    assert heard(package("a", files=["usr/lib/xy"])) == []


def test_a_path_below_which_nothing_is_another_is_kept_apart() -> None:
    a = package("a", ("activate", "rebuild"), files=["usr/lib/x/a"])

    assert heard(a, changes=ChangeSet()) == [
        of(["/usr/lib/x"], "a", unchanged="/usr/lib/x"),
        of(["rebuild"], "a"),
    ]


def test_who_wants_to_hear_only_from_now_on_hears_it_already() -> None:
    b = package("b", ("interest", "news"), ("interest-noawait", "/usr/lib/y"))

    assert heard(package("a", ("activate", "news"), files=["usr/lib/y/a"]), b) == [
        of(["/usr/lib/y", "news"], "a", who="b")
    ]


def test_several_names_and_causes_are_one_activation_in_order() -> None:
    a = package("a", ("activate", "rebuild"), files=["usr/lib/x/a"])
    b = package("b", ("activate", "rebuild"))

    assert heard(b, a) == [of(["/usr/lib/x", "rebuild"], "a", "b")]


def test_a_name_is_no_path_and_who_sets_a_path_off_does_not_listen_there() -> None:
    assert heard(package("a", files=["usr/lib/y/a"]), package("b", ("interest", "usr/lib/y"))) == []
    assert heard(package("a", ("activate", "/usr/lib/y"), files=["usr/lib/y/a"])) == []


def test_who_is_named_with_an_architecture_is_that_one() -> None:
    (activation,) = heard(package("a", ("activate", "foreign")))

    assert activation.interested == key("hearer:arm64")
