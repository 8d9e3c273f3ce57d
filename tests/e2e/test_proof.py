# SPDX-License-Identifier: Apache-2.0
"""The proof gate: a layer that is not what the plan says is never published, whatever made it so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.oci.change import Changes
from copacetic.oci.tree import TreeBuilder
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debs import directory, hardlink, symlink
from support.hostile.sabotage import Edit, drop, rewrite, write
from support.value.replacing import replace

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(
    name="foo",
    version="1.0-2",
    architecture="amd64",
    files={
        "usr/bin/foo": file("new", 0o755),
        "usr/bin/foo2": hardlink("usr/bin/foo"),
        "usr/share/f": file("more"),
        "usr/share/link": symlink("f"),
        "var/lib/foo": directory(),
    },
)


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


BROKEN: dict[str, tuple[Edit, str]] = {
    "a file is missing": (drop("usr/share/f"), "foo: usr/share/f is missing in the result"),
    "a directory is missing": (drop("var/lib/foo"), "foo: var/lib/foo is missing in the result"),
    "a link is missing": (drop("usr/share/link"), "foo: usr/share/link is missing in the result"),
    "a file is the old one": (drop("usr/bin/foo", "usr/bin/foo2"), "foo: usr/bin/foo has the md5"),
    "a file has another content": (write("usr/share/f", b"evil"), "foo: usr/share/f has the md5"),
    "a linked file has another content": (write("usr/bin/foo", b"evil"), "foo: usr/bin/foo has the md5"),
    "the database says otherwise": (
        rewrite("var/lib/dpkg/status", "Version: 1.0-2", "Version: 1.0-1"),
        "foo:amd64: expected 1.0-2, found 1.0-1 in the result",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_layer_that_is_not_what_the_plan_says_is_refused(
    name: str,
    tmp_path: Path,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit, message = BROKEN[name]
    finish = TreeBuilder.finish

    def finish_badly(tree: TreeBuilder) -> Changes:
        changes = finish(tree)
        return replace(changes, entries=edit(changes.entries))

    monkeypatch.setattr(TreeBuilder, "finish", finish_badly)
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))

    code = main(["patch", "-i", image, "--to", f"oci:{tmp_path}/out:1", "--cache-dir", str(tmp_path / "cache")])

    captured = capsys.readouterr()
    assert code == 5
    assert captured.out == ""
    assert message in captured.err
    assert not (tmp_path / "out").exists()
