# SPDX-License-Identifier: Apache-2.0
"""Which indexes are fetched, and how: definitions with all their options are held against the real apt."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.errors import IntegrityError
from support.deb.aptimage import Image, changes, deb
from support.deb.aptrepo import Repository, serve_repository
from support.deb.debian import need
from support.value.replacing import replace

ARCHITECTURES = ("amd64", "i386")


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([]) as served:
        yield served


def armored(repository: Repository) -> str:
    return str(repository.key.extract_certificate())


def one_line(options: str) -> str:
    return f"deb {options}" + "{address} stable-security main"


DEFINITIONS = {
    "plain": one_line(""),
    "one of the architectures": one_line("[arch=i386] "),
    "both in any order": one_line("[ arch=i386,amd64 ] "),
    "one more": one_line("[arch+=arm64] "),
    "one less": one_line("[arch-=i386] "),
    "two components": one_line("") + " contrib",
    "a component that is not there": one_line("") + " nothing",
    "a variable": "deb {address} stable-security main\ndeb {address}/$(ARCH) stable-security contrib",
    "comments": "# one\n\ndeb {address} stable-security main # two\n#deb {address} stable-security contrib",
    "sources too": "deb-src {address} stable-security main\ndeb {address} stable-security main",
    "deb822": "Types: deb deb-src\nURIs: {address}\nSuites: stable-security\nComponents: main contrib\n",
    "deb822, one architecture": (
        "# why\nTypes: deb\nURIs: {address}\nSuites: stable-security\nComponents: main\nArchitectures: i386\n"
    ),
    "deb822, one less": (
        "Types: deb\nURIs: {address}\nSuites: stable-security\nComponents: main\nArchitectures-Remove: i386\n"
    ),
    "deb822, off and on": (
        "Enabled: no\nTypes: deb\nURIs: {address}\nSuites: stable-security\nComponents: main\n\n"
        "Enabled: yes\nTypes: deb\nURIs: {address}\nSuites: stable-security\nComponents: contrib\n"
    ),
}


def _fetched(repository: Repository) -> set[tuple[str, ...]]:
    """Return (suite, component, architecture) of the Packages indexes that were asked for, and found."""
    pattern = re.compile(r"dists/([^/]+)/([^/]+)/binary-([^/]+)/")
    found = {
        match.groups() for path in repository.requests if path in repository.files and (match := pattern.search(path))
    }
    repository.requests.clear()
    return found


def _apt_update(folder: Path, text: str, name: str) -> None:
    for part in (
        "etc/apt/sources.list.d",
        "etc/apt/preferences.d",
        "etc/apt/apt.conf.d",
        "state/lists/partial",
        "cache/archives/partial",
    ):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / name).write_text(text)
    options = {
        "Dir::Etc": f"{folder}/etc/apt", "Dir::State": f"{folder}/state", "Dir::Cache": f"{folder}/cache",
        "Dir::State::status": f"{folder}/status", "APT::Architecture": "amd64", "APT::Sandbox::User": "root",
        "Acquire::Languages": "none", "Acquire::http::Proxy": "false", "Acquire::AllowInsecureRepositories": "true",
        "Acquire::Retries": "0",
    }  # fmt: skip
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    flags += [part for a in ARCHITECTURES for part in ("-o", f"APT::Architectures::={a}")]
    subprocess.run(["apt-get", "-q", *flags, "update"], check=False, capture_output=True)


@pytest.mark.system
@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_indexes_of_a_definition_are_those_that_apt_fetches(
    tmp_path: Path, repository: Repository, name: str
) -> None:
    need("apt-get")
    repository.architectures, repository.components = (*ARCHITECTURES, "arm64"), ("main", "contrib")
    repository.publish([replace(deb(f"p-{name}", "2"), architecture=name) for name in repository.architectures])
    for path in list(repository.files):  # what a variable in an address leads to
        repository.files[f"amd64/{path}"] = repository.files[path]
    text = DEFINITIONS[name].format(address=repository.address) + "\n"
    kind = "etc/apt/sources.list.d/x.sources" if name.startswith("deb822") else "etc/apt/sources.list"
    installed = [deb("p0", "1"), replace(deb("p1", "1"), architecture="i386")]
    _apt_update(tmp_path / "apt", text, kind)
    expected = {row for row in _fetched(repository) if row[2] in ARCHITECTURES}

    Image(tmp_path, repository, *installed, more={"etc/apt/sources.list": "", kind: text}).resolve()

    assert _fetched(repository) == expected
    assert expected


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".bz2", ".zst"])
@pytest.mark.parametrize("by_hash", [True, False])
def test_an_index_is_read_in_every_compression_by_its_hash_or_its_name(
    tmp_path: Path, repository: Repository, ending: str, by_hash: bool
) -> None:
    repository.endings = (ending,)
    repository.publish([deb("a", "2")], release={"Acquire-By-Hash": "yes" if by_hash else "no"})
    repository.requests.clear()

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}
    (path,) = [path for path in repository.requests if "/binary-amd64/" in path]
    assert ("/by-hash/SHA256/" in path) == by_hash


def test_an_index_that_is_not_there_by_its_hash_is_taken_by_its_name(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])
    for path in [path for path in repository.files if "/by-hash/" in path]:
        repository.files.pop(path)

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}


@pytest.mark.parametrize(
    ("suite", "folder"),
    [("./", ""), ("/", ""), ("sub/dir/", "sub/dir/"), ("./sub/", "sub/"), ("/sub/", "sub/"), (".sub/", ".sub/"),
     ("./$(ARCH)/", "amd64/"), ("a/$(ARCH)/b/", "a/amd64/b/")],
)  # fmt: skip
@pytest.mark.parametrize("detached", [False, True])
def test_a_flat_repository(tmp_path: Path, repository: Repository, suite: str, folder: str, detached: bool) -> None:
    repository.flat, repository.suite = True, folder or "/"
    repository.publish([deb("a", "2")])
    if detached:
        repository.files.pop(f"{folder}InRelease", None)
        repository.files.pop("/InRelease", None)
    for path in [path for path in repository.files if path.startswith("/")]:
        repository.files[path.lstrip("/")] = repository.files.pop(path)
    line = f"deb {repository.address} {suite}\n"

    image = Image(tmp_path, repository, deb("a", "1"), more={"etc/apt/sources.list": line})

    assert changes(image.resolve()) == {"a": "2"}


def test_a_key_in_the_definition_itself_is_the_only_one_trusted(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])
    key = "\n".join(f" {line or '.'}" for line in armored(repository).strip().splitlines())
    text = f"Types: deb\nURIs: {repository.address}\nSuites: stable-security\nComponents: main\nSigned-By:\n{key}\n"
    more = {"etc/apt/sources.list": "", "etc/apt/sources.list.d/x.sources": text, "etc/apt/trusted.gpg.d/tests.gpg": ""}

    assert changes(Image(tmp_path, repository, deb("a", "1"), more=more).resolve()) == {"a": "2"}


def test_an_index_that_was_changed_in_the_cache_is_not_believed(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb(name, "2", Tag="x" * 40_000) for name in "abcdef"])
    Image(tmp_path, repository, deb("f", "1")).resolve()
    (kept,) = [path for path in tmp_path.glob("cache/packages-indexes.v*/*") if path.is_file()]
    text = kept.read_bytes()
    at = text.index(b"SHA256: ", text.index(b"Package: f")) + 8
    kept.write_bytes(text[:at] + b"0" * 64 + text[at + 64 :])

    with pytest.raises(IntegrityError, match="is not what was written there"):
        Image(tmp_path, repository, deb("f", "1")).resolve()
    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}
