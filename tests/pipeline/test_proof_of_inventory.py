# SPDX-License-Identifier: Apache-2.0
"""Exactly the planned packages differ, wherever their records stand and however many have one name."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase
from copacetic.pipeline.prove.evidence import Part
from copacetic.pipeline.prove.inventory import check_inventory
from copacetic.updates import InstalledPackage, Plan, PlannedUpdate
from support.image.trees import tree
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import candidate, installed, plan


def _check(plan: Plan, before: PackageDatabase, after: PackageDatabase) -> None:
    (section,) = plan.sections
    check_inventory(plan, [Part(section, before, after)])


FOO = PlannedUpdate(installed=installed("foo", "1"), candidate=candidate("foo", "2"))


def database_of(versions: Mapping[str, str]) -> PackageDatabase:
    """Of a package with this version in each file."""
    found = detect_database(
        tree(
            {
                f"var/lib/dpkg/status.d/{name}": f"Package: foo\nVersion: {version}\nArchitecture: amd64\n"
                for name, version in versions.items()
            }
        )
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({"foo": "2"}, ""),
        ({"foo": "1"}, "foo:amd64: expected 2, found 1 in the result"),
        ({"foo": "1", "foo-new": "2"}, "foo:amd64: expected 2, found 1 and 2 in the result"),
        ({"bar": "3"}, "foo:amd64: expected 2, found 3 in the result"),
    ],
)
def test_a_record_that_stays_beside_the_new_one_is_found(after: dict[str, str], message: str) -> None:
    before, result = database_of({"foo": "1"}), database_of(after)

    if not message:
        _check(plan(FOO), before, result)
        return
    with pytest.raises(VerificationError) as caught:
        _check(plan(FOO), before, result)
    assert str(caught.value) == message


def kernel(version: str) -> InstalledPackage:
    return replace(installed("kernel", version, architecture="x86_64"), instance=version)


def test_a_kernel_that_comes_leaves_the_others_where_they_are() -> None:
    """Several are installed at once: their instances tell them apart."""
    new = replace(candidate("kernel", "3", architecture="x86_64"), instance="3")
    made = plan(PlannedUpdate(installed=None, candidate=new))

    def kernels(*versions: str) -> PackageDatabase:
        packages = tuple(map(kernel, versions))
        found = SimpleNamespace(packages=lambda: packages, broken_dependencies=frozenset)
        return cast(PackageDatabase, found)

    _check(made, kernels("1", "2"), kernels("1", "2", "3"))
    with pytest.raises(VerificationError, match="kernel:x86_64: expected 1, found nothing in the result"):
        _check(made, kernels("1", "2"), kernels("2", "3"))
