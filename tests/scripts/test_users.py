# SPDX-License-Identifier: Apache-2.0
"""System users: the rows are those that the adduser of each suite was seen to write."""

from __future__ import annotations

import pytest

from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.adduser import add_as_debian, is_for_debian
from support.image.trees import tree

BULLSEYE, BOOKWORM, TRIXIE = "3.118+deb11u1", "3.134", "3.152"
DAY = 20_781
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n_apt:x:100:65534::/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:1:0:99999:7:::\n_apt:*:1:0:99999:7:::\n",
    "etc/gshadow": "root:*::\nusers:*::\n",
}


def rows(adduser: str, *calls: str) -> dict[str, list[str]]:
    """Return the new rows of each file."""
    changes = TreeBuilder(tree(FILES))
    for call in calls:
        assert add_as_debian(changes, call.split(" "), adduser=adduser, mtime=DAY * 86_400 + 5)
    return {
        path.removeprefix("etc/"): changes.read(path, limit=10_000).decode().removeprefix(before).splitlines()
        for path, before in FILES.items()
    }


@pytest.mark.parametrize(
    ("adduser", "passwd", "shadow"),
    [
        (BULLSEYE, "foo:x:101:101::/var/lib/foo:/usr/sbin/nologin", "foo:*:20781:0:99999:7:::"),
        (BOOKWORM, "foo:x:101:101::/var/lib/foo:/usr/sbin/nologin", "foo:!:20781::::::"),
        (TRIXIE, "foo:x:101:101::/var/lib/foo:/usr/sbin/nologin", "foo:!:20781::::::"),
    ],
)
def test_a_user_with_a_group(adduser: str, passwd: str, shadow: str) -> None:
    found = rows(adduser, "adduser --system --group --home /var/lib/foo --no-create-home --quiet foo")

    assert found == {"passwd": [passwd], "group": ["foo:x:101:"], "shadow": [shadow], "gshadow": ["foo:!::"]}


@pytest.mark.parametrize(
    ("adduser", "home"), [(BULLSEYE, "/home/bar"), (BOOKWORM, "/nonexistent"), (TRIXIE, "/nonexistent")]
)
def test_a_user_without_group_or_home(adduser: str, home: str) -> None:
    assert rows(adduser, "adduser --system --no-create-home bar")["passwd"] == [
        f"bar:x:101:65534::{home}:/usr/sbin/nologin"
    ]


@pytest.mark.parametrize(("adduser", "gecos"), [(BULLSEYE, "One,,,"), (BOOKWORM, "One,,,"), (TRIXIE, "One")])
def test_a_user_in_a_group_with_a_name(adduser: str, gecos: str) -> None:
    call = "adduser --system --ingroup users --home /nonexistent --shell /bin/sh --gecos One --no-create-home baz"

    assert rows(adduser, call)["passwd"] == [f"baz:x:101:100:{gecos}:/nonexistent:/bin/sh"]


def test_a_group_and_a_member() -> None:
    found = rows(BOOKWORM, "addgroup --system grp", "adduser --quiet _apt grp", "adduser _apt grp")

    assert found["group"] == ["grp:x:101:_apt"]
    assert found["gshadow"] == ["grp:!::_apt"]
    assert found["passwd"] == []


def test_a_name_with_another_kind_of_line_end_stays_one_line() -> None:
    odd = "odd:x:900:900:one\u2028evil:x:0:0::/root:/bin/sh\n"
    changes = TreeBuilder(tree({**FILES, "etc/passwd": FILES["etc/passwd"] + odd}))
    assert add_as_debian(changes, ["adduser", "--system", "--no-create-home", "bar"], adduser=BOOKWORM, mtime=0)

    assert odd.encode() in changes.read("etc/passwd", limit=10_000)


def test_who_is_there_already_stays() -> None:
    assert not any(rows(BOOKWORM, "adduser --system --group _apt", "addgroup --system users").values())


def test_a_home_is_made() -> None:
    changes = TreeBuilder(tree({**FILES, "var/lib/x": ""}))
    call = ["adduser", "--system", "--group", "--home", "/var/lib/foo", "foo"]
    assert add_as_debian(changes, call, adduser=BOOKWORM, mtime=0)

    home = changes.lookup("var/lib/foo")
    assert home is not None
    assert (home.mode, home.uid, home.gid) == (0o755, 101, 101)


@pytest.mark.parametrize(
    "call",
    [
        "adduser foo",
        "adduser --system --uid 5 foo",
        "adduser --system foo:bar",
        "adduser --system",
        "addgroup foo",
        "useradd --system foo",
        "adduser --system --encrypt-home foo",
    ],
)
def test_other_calls_are_left_to_the_tool(call: str) -> None:
    assert not is_for_debian(call.split(" "))
    assert add_as_debian(TreeBuilder(tree(FILES)), call.split(" "), adduser=BOOKWORM, mtime=0) is None


def test_a_missing_group_is_no_account() -> None:
    call = ["adduser", "--system", "--ingroup", "nobody-knows", "foo"]

    assert is_for_debian(call)
    assert add_as_debian(TreeBuilder(tree(FILES)), call, adduser=BOOKWORM, mtime=0) is None
