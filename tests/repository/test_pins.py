# SPDX-License-Identifier: Apache-2.0
"""Pins and priorities: what is taken of many versions in many suites is what the real apt would take."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from copacetic.errors import RepositoryError
from copacetic.version import compare_versions
from support.deb.aptimage import Image, changes, deb
from support.deb.aptrepo import Deb, Repository, installed_files, serve_repository
from support.deb.debian import need

pytestmark = [pytest.mark.system]

SUITES = {
    "stable": {"Version": "12.1", "Label": "Main"},
    "stable-security": {"Version": "12"},
    "stable-backports": {"NotAutomatic": "yes", "ButAutomaticUpgrades": "yes", "Label": "Backports"},
    "experimental": {"NotAutomatic": "yes", "Origin": "Others", "Codename": "rc"},
}
PACKAGES = ("alpha", "alpha-data", "beta", "gamma", "lib.x+1")
VERSIONS = ("1.0-1", "1.0-2", "1.0-2+deb12u1", "1.1-1~bpo12+1", "1.1-1", "2.0~rc1-1", "1:0.5-1")
PRIORITIES = (-10, 1, 50, 99, 100, 101, 400, 499, 500, 501, 700, 989, 990, 999, 1000, 1001)
NAMES = (
    *PACKAGES, "*", "*", "alpha*", "?eta", "/^al/", "/a$/", "src:alpha", "src:*a*", "alpha beta", "lib.x*", "[ab]*",
    "nothing", "alpha:amd64", "beta:any", "gamma:i386", "*eta:i386",
)  # fmt: skip
PINS = (
    *("version 1.0*", "version 1.0-2", "version *bpo*", "version 1.1-1", "version 2*", "version /rc/"),
    *("release a=stable", "release n=stable-security", "release a=stable*", "release o=Others", "release l=Backports"),
    *("release v=12", "release v=12.*", "release c=main", "release c=contrib", "release a=stable, l=Main"),
    *("release o=Tests,c=main", "release stable-backports", "release 12", "release n=rc", "release b=amd64"),
    *('origin "127.0.0.1"', "origin 127.0.0.1", 'origin "example.com"', 'origin ""', "release a=/^exp/"),
)
FILES = (
    *("etc/apt/preferences", "etc/apt/preferences", "etc/apt/preferences.d/99-last", "etc/apt/preferences.d/a.pref"),
    "etc/apt/preferences.d/b.txt",
)
ROUNDS = 40


class RealApt:
    """apt with folders of its own, which knows an image's packages, sources and preferences."""

    def __init__(self, folder: Path, repository: Repository, installed: Sequence[Deb]) -> None:
        self._root = folder
        for name in ("etc/apt/preferences.d", "etc/apt/apt.conf.d", "state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "etc/apt/sources.list").write_text(sources(repository).replace("deb ", "deb [trusted=yes] "))
        (folder / "status").write_bytes(_bytes(installed_files(installed)["var/lib/dpkg/status"]))
        self._run("apt-get", "update")

    def candidates(self, preferences: Mapping[str, str], default_release: str) -> dict[str, str]:
        """Return what would be installed of every package by `apt-get install`, from `apt-cache policy`."""
        for path, text in preferences.items():
            (self._root / path).write_text(text)
        option = ["-o", f"APT::Default-Release={default_release}"] if default_release else []
        text = self._run("apt-cache", *option, "policy", *PACKAGES)
        found = re.findall(r"^(\S+):\n  Installed: \S+\n  Candidate: (\S+)", text, re.MULTILINE)
        return dict(found)

    def _run(self, program: str, *arguments: str) -> str:
        folder = self._root
        options = {
            "Dir::Etc": f"{folder}/etc/apt", "Dir::State": f"{folder}/state", "Dir::Cache": f"{folder}/cache",
            "Dir::State::status": f"{folder}/status", "APT::Architecture": "amd64", "APT::Architectures::": "amd64",
            "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::http::Proxy": "false",
        }  # fmt: skip
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return subprocess.run(
            [program, "-q", *flags, *arguments], check=True, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        ).stdout  # fmt: skip


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def sources(repository: Repository) -> str:
    return "".join(f"deb {repository.address} {suite} main\n" for suite in SUITES)


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([]) as served:
        yield served


def publish(repository: Repository, rng: random.Random) -> list[Deb]:
    """Fill the suites with some versions of the packages, and return what is installed."""
    for suite, fields in SUITES.items():
        repository.suite = suite
        offered = [deb(p, v) for p in PACKAGES for v in rng.sample(VERSIONS, rng.choice((0, 1, 1, 2, 3)))]
        repository.publish(offered, release=fields)
    return [deb(package, rng.choice((*VERSIONS[:4], "0.9-1"))) for package in PACKAGES]


def make_preferences(rng: random.Random) -> dict[str, str]:
    """Return files of preferences, of which apt does not read the last."""
    texts = dict.fromkeys(FILES, "")
    for _ in range(rng.choice((0, 1, 1, 2, 3, 4))):
        name, pin = rng.choice(NAMES), rng.choice(PINS)
        never = name == "*" and rng.random() < 0.2
        priority = "never" if never else rng.choice(PRIORITIES)
        texts[rng.choice(FILES)] += f"Package: {name}\nPin: {pin}\nPin-Priority: {priority}\n\n"
    return texts


@pytest.mark.parametrize(
    "seed", [0, 1, 2, 26, *(pytest.param(n, marks=pytest.mark.soak) for n in (*range(3, 26), *range(27, 30)))]
)
def test_the_version_taken_is_apt_s_candidate(tmp_path: Path, repository: Repository, seed: int) -> None:
    need("apt-get", "apt-cache")
    rng = random.Random(seed)
    installed = publish(repository, rng)
    apt = RealApt(tmp_path / "apt", repository, installed)
    moved = 0
    for _ in range(ROUNDS):
        preferences, default = make_preferences(rng), rng.choice(("", "", "", "stable", "stable-backports", "rc"))
        conf = f'APT::Default-Release "{default}";\n' if default else ""
        more = {
            "etc/apt/sources.list": sources(repository),
            **preferences,
            "etc/apt/apt.conf.d/default": conf,
        }
        taken = changes(Image(tmp_path, repository, *installed, more=more, allow_vendor_change=("*",)).resolve())
        expected = apt.candidates(preferences, default)
        assert expected.keys() == set(PACKAGES)
        for package in installed:
            candidate = expected[package.name]
            upgrade = candidate != "(none)" and compare_versions("deb", candidate, package.version) > 0
            moved += upgrade
            assert taken.get(package.name) == (candidate if upgrade else None), (
                f"{package.name} {package.version}, default release {default!r}\n{preferences}\n{expected}"
            )
    assert moved > ROUNDS // 2, "preferences that forbid everything prove nothing"


@pytest.mark.parametrize("pattern", ["/(a+)+$/", "/a*a*a*a*b/", "/(a|b)*c/", "/(?i)a/", r"/(a)\1/"])
def test_a_pattern_that_could_take_for_ever_is_refused(tmp_path: Path, repository: Repository, pattern: str) -> None:
    repository.publish([deb("alpha", "2")])
    pin = f"Package: {pattern}\nPin: release a=stable\nPin-Priority: 1\n"

    with pytest.raises(RepositoryError, match="too complex"):
        Image(tmp_path, repository, deb("alpha", "1"), more={"etc/apt/preferences": pin}).resolve()


@pytest.mark.parametrize(
    ("stanza", "message"),
    [
        ("Package: a\nPin: colour red\nPin-Priority: 1\n", "'colour'"),
        ("Package: a\nPin: version 1\nPin-Priority: high\n", "'high'"),
        ("Package: a\nPin: version 1\nPin-Priority: 0\n", "'0'"),
        ("Package: a\nPin: version 1\nPin-Priority: 70000\n", "'70000'"),
    ],
)
def test_a_pin_that_can_t_be_understood_is_named(
    tmp_path: Path, repository: Repository, stanza: str, message: str
) -> None:
    with pytest.raises(RepositoryError, match=f"etc/apt/preferences.d/x: not a pin: .*{message}"):
        Image(tmp_path, repository, deb("a", "1"), more={"etc/apt/preferences.d/x": stanza}).resolve()
