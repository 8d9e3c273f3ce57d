# SPDX-License-Identifier: Apache-2.0
"""apt repositories: definitions, pins, and the set of packages that comes out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import RepositoryError
from copacetic.repository.apt.sources import parse_sources, substitute
from copacetic.updates import PackageKey, SkipReason
from support.deb.aptimage import Image, changes, deb
from support.deb.aptrepo import Deb, Repository, serve_repository
from support.deb.debian import need
from support.value.replacing import replace


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([]) as served:
        yield served


# -- definitions -----------------------------------------------------------------------------------------------------


def test_a_line_with_all_its_options_is_read() -> None:
    line = "deb [arch=amd64,arm64 signed-by=/k.gpg,ABCDEF0123456789ABCDEF0123456789ABCDEF01 trusted=yes by-hash=no check-valid-until=no] http://h.example/d s main contrib # x"

    ((source,), notes) = parse_sources(line, "list", deb822=False)

    assert notes == []
    assert (source.uri, source.suite, source.components) == ("http://h.example/d", "s", ("main", "contrib"))
    assert source.architectures == ("amd64", "arm64")
    assert source.signed_by == ("/k.gpg", "ABCDEF0123456789ABCDEF0123456789ABCDEF01")
    assert (source.trusted, source.by_hash, source.check_valid_until, source.defined_in) == (
        True,
        False,
        False,
        "list:1",
    )


LINES = [
    "deb http://h.example/r ./sub/",
    "deb http://h.example/r /sub/",
    "deb http://h.example/r ./",
    "deb http://h.example/r /",
    "deb http://h.example/r .sub/",
    "deb http://h.example/r //sub//a/",
    "deb http://h.example/r ./$(ARCH)/",
    "deb http://h.example/$(ARCH)/r sub/$(ARCH)/",
    "deb http://h.example/r sub/# a comment",
    "deb http://h.example/r s main#a comment",
    "deb http://h.example/r s main # [ in a comment",
    "deb [lang=a#b] http://h.example/r s main",
    "deb [ arch=amd64 lang=a#b ] http://h.example/r s main # [x]",
    "# deb [x # y] http://h.example/r s main",
    "deb http://h.example/r $(ARCH) main",
    "deb http://h.example/r s # [ a b ]",
    "deb http://h.example/r#f s main",
    "deb [lang=x]# http://h.example/r s main",
    "deb [arch=amd64 #x] http://h.example/r s main",
    "deb [arch=amd64 # x",
]
REFUSED_HERE = {"deb http://h.example/r $(ARCH) main"}
"""apt takes it by the letter."""


def of_apt(line: str, folder: Path) -> list[str] | None:
    """The Release files that the real apt would fetch; None where it refuses the line."""
    (folder / "x.list").write_text(f"{line}\n")
    options = [
        f"Dir::Etc::sourcelist={folder / 'x.list'}",
        "Dir::Etc::sourceparts=/dev/null",
        "APT::Architecture=amd64",
    ]
    command = ["apt-get", *(part for option in options for part in ("-o", option)), "update", "--print-uris"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return None
    found = [row.split("'")[1] for row in done.stdout.splitlines() if "InRelease'" in row]
    return [re.sub(r"(?<!:)/(?:\.?/)+", "/", address) for address in found]


@pytest.mark.parametrize("line", LINES)
def test_a_line_leads_where_apt_is_led(line: str, tmp_path: Path) -> None:
    """But for slashes and dots that mean nothing, which are sent by nobody else."""
    need("apt-get")
    try:
        sources, _ = parse_sources(line, "f", deb822=False)
    except RepositoryError:
        assert line in REFUSED_HERE or of_apt(line, tmp_path) is None
        return
    found = substitute(sources, architecture="amd64", mirrors=[])
    assert [f"{source.release_url}/InRelease" for source in found] == of_apt(line, tmp_path)


def test_of_one_version_for_all_that_of_the_architecture_first_by_name_is_taken(
    tmp_path: Path, repository: Repository
) -> None:
    repository.architectures = ("i386", "amd64")
    own = [Deb(name="a", version=version, architecture="all") for version in ("1", "2")]
    foreign = Deb(name="x", version="1", architecture="i386")
    repository.publish([own[1], foreign])
    texts = {name: repository.files[f"dists/stable-security/main/binary-{name}/Packages"] for name in ("i386", "amd64")}
    repository.write_release(
        {f"main/binary-{name}/Packages": text.replace(b"pool/a", f"{name}/a".encode()) for name, text in texts.items()}
    )

    (update,) = Image(tmp_path, repository, own[0], foreign).resolve().updates

    assert update.candidate.url == f"{repository.address}/amd64/a_2_all.deb"


def test_a_stanza_stands_for_all_its_uris_and_suites() -> None:
    text = """\
# comment
Types: deb deb-src
URIs: http://a.example/d https://b.example/d/
Suites: s s-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://c.example/d
Suites: s
Components: main
"""

    sources, _ = parse_sources(text, "x.sources", deb822=True)

    assert [(s.uri, s.suite) for s in sources] == [
        ("http://a.example/d", "s"), ("http://a.example/d", "s-updates"),
        ("https://b.example/d", "s"), ("https://b.example/d", "s-updates"),
    ]  # fmt: skip
    assert sources[0].signed_by[0].startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n")


@pytest.mark.parametrize(
    "line",
    ["deb http://h.example/d", "deb http://h.example/d s", "deb http://h.example/d ./ main", "rpm http://h.example/d s main",
     "deb http://h.example/d ../../x main", "deb [arch] http://h.example/d s main", "deb http:///x s main",
     "deb http://[x/ s main", "deb http://h.example/d?x= s main", "deb http://h.example/d#x s main",
     "deb http://h.example\\@127.0.0.1/ s main", "deb http://a@b@h.example/ s main", "deb http://h.example:99999/ s main"],
)  # fmt: skip
def test_a_broken_line_names_file_and_line(line: str) -> None:
    with pytest.raises(RepositoryError, match="f:2: "):
        parse_sources(f"# first\n{line}", "f", deb822=False)


@pytest.mark.parametrize("uri", ["file:/etc", "cdrom:[x]/", "copy:/x"])
def test_what_would_read_from_this_machine_is_not_used_and_noted(uri: str) -> None:
    sources, notes = parse_sources(f"deb {uri} s main", "f", deb822=False) if " " not in uri else ([], ["x"])

    assert sources == []
    assert "not used" in notes[0]


def test_an_address_is_kept_apart_from_its_secrets() -> None:
    ((source,), _) = parse_sources("deb https://me:secret@h.example/d s main", "f", deb822=False)

    assert source.uri == "https://h.example/d"
    assert "secret" not in repr(source)
    assert source.login is not None
    assert source.login.secret == "me:secret"


def test_a_mirror_takes_the_place_of_the_longest_prefix() -> None:
    sources, _ = parse_sources(
        "deb http://h.example/debian-security s main\ndeb http://h.example/debian s main", "f", deb822=False
    )

    replaced = substitute(sources, architecture="amd64", mirrors=[("http://h.example/debian", "http://m.example/x")])

    assert [s.uri for s in replaced] == ["http://h.example/debian-security", "http://m.example/x"]


@given(st.text(max_size=100))
def test_any_text_is_a_definition_or_refused(text: str) -> None:
    for deb822 in (False, True):
        try:
            parse_sources(text, "f", deb822=deb822)
        except RepositoryError as error:
            assert "f" in str(error)


# -- resolution ------------------------------------------------------------------------------------------------------


def test_without_a_report_the_newest_version_is_taken(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2"), deb("a", "3"), deb("b", "1")])

    assert changes(Image(tmp_path, repository, deb("a", "1"), deb("b", "1")).resolve()) == {"a": "3"}


def test_with_a_report_the_closest_version_that_fixes_is_taken(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2"), deb("a", "3"), deb("a", "4")])

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve(("a", "2.5"))) == {"a": "3"}


def test_the_source_s_version_decides_whether_a_binary_fixes(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "1:2", Source="src (2.41-5)"), deb("a", "1:3", Source="src (2.41.5-1)")])
    image = Image(tmp_path, repository, deb("a", "1:1", Source="src (2.41-1)"))

    assert changes(image.resolve(("a", "2.41.5-1"))) == {"a": "1:3"}


def test_packages_of_one_source_come_along(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("libc6", "2"), deb("libc-bin", "2", Depends="libc6 (>= 2)")])
    image = Image(tmp_path, repository, deb("libc6", "1"), deb("libc-bin", "1", Depends="libc6 (= 1)"))

    resolution = image.resolve(("libc6", "2"))

    assert changes(resolution) == {"libc-bin": "2", "libc6": "2"}
    assert [u.required_by for u in resolution.updates] == [("libc6",), ()]


def test_a_break_is_mended_by_upgrading_the_other(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2", Breaks="b (<< 2)"), deb("b", "2")])

    assert changes(Image(tmp_path, repository, deb("a", "1"), deb("b", "1")).resolve(("a", "2"))) == {
        "a": "2",
        "b": "2",
    }


def test_what_can_t_be_mended_stays_with_the_reason(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2", Breaks="b (<< 2)"), deb("c", "2")])

    resolution = Image(tmp_path, repository, deb("a", "1"), deb("b", "1"), deb("c", "1")).resolve(
        ("a", "2"), ("c", "2")
    )

    assert changes(resolution) == {"c": "2"}
    ((skipped),) = resolution.skipped
    assert (skipped.package.name, skipped.reason) == ("a", SkipReason.DEPENDENCY)
    assert skipped.detail == "a Breaks b (<< 2), and b 1 is installed"


def test_what_was_broken_before_does_not_count(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2", Depends="awk")])

    assert changes(Image(tmp_path, repository, deb("a", "1", Depends="awk")).resolve()) == {"a": "2"}


def test_the_first_alternative_that_is_offered_comes_in(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2", Depends="missing | new (>= 1) | newer"), deb("new", "1"), deb("newer", "1")])

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2", "new": "1"}


def test_a_new_dependency_may_be_provided(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2", Depends="virtual"), deb("real", "1", Provides="virtual")])

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2", "real": "1"}


def test_a_frozen_package_stays_and_so_does_what_needs_it_newer(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2"), deb("b", "2", Depends="a (>= 2)"), deb("c", "2")])
    image = Image(tmp_path, repository, deb("a", "1"), deb("b", "1"), deb("c", "1"))

    resolution = image.resolve(frozen={PackageKey("a", "amd64"): "needs execution"})

    assert changes(resolution) == {"c": "2"}
    assert [s.package.name for s in resolution.skipped] == ["b"]
    assert "needs execution" in resolution.skipped[0].detail


@pytest.mark.parametrize(
    ("preferences", "expected"),
    [
        ("", {"a": "3"}),
        ("Package: a\nPin: version 2*\nPin-Priority: 990\n", {"a": "2"}),
        ("Package: a\nPin: release a=stable-security\nPin-Priority: -1\n", {}),
        ("Package: *\nPin: release o=Tests\nPin-Priority: 50\n", {}),
        ('Package: /^a$/\nPin: origin "127.0.0.1"\nPin-Priority: 600\n', {"a": "3"}),
        ("Package: src:a\nPin: version 2\nPin-Priority: 700\n", {"a": "2"}),
        ("Package: b*\nPin: version 1\nPin-Priority: -10\n", {"a": "3"}),
    ],
)
def test_pins_decide_what_may_be_taken(
    tmp_path: Path, repository: Repository, preferences: str, expected: dict[str, str]
) -> None:
    repository.publish([deb("a", "2"), deb("a", "3")])
    image = Image(tmp_path, repository, deb("a", "1"), more={"etc/apt/preferences": preferences})

    assert changes(image.resolve()) == expected


def test_a_suite_that_is_not_automatic_is_not_taken_from(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")], release={"NotAutomatic": "yes"})

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {}


def test_only_as_many_suites_are_read_as_a_report_takes(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])
    security = repository.suite
    repository.suite = "stable"
    repository.publish([deb("a", "1"), deb("b", "2")])
    both = f"deb {repository.address} {security} main\ndeb {repository.address} stable main\n"
    image = Image(tmp_path, repository, deb("a", "1"), deb("b", "1"), more={"etc/apt/sources.list": both})
    repository.requests.clear()

    assert changes(image.resolve(("a", "2"))) == {"a": "2"}
    assert not any("dists/stable/" in path for path in repository.requests)
    assert changes(image.resolve(("a", "2"), ("b", "2"))) == {"a": "2", "b": "2"}
    assert any("dists/stable/" in path for path in repository.requests)


def test_a_second_run_fetches_no_index_again(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])
    Image(tmp_path, repository, deb("a", "1")).resolve()
    repository.requests.clear()

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}
    assert repository.requests == ["dists/stable-security/InRelease"]


def test_a_detached_signature_is_as_good(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])
    repository.files.pop("dists/stable-security/InRelease")

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}


def test_signed_by_trusts_that_key_and_no_other(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])
    other = Repository()
    for key, fits in ((repository.certificate, True), (other.certificate, False)):
        line = repository.definition.replace("deb ", "deb [signed-by=/usr/share/keyrings/k.gpg] ")
        files: dict[str, str] = {"etc/apt/sources.list": line}
        image = Image(tmp_path, repository, deb("a", "1"), more={**files, "usr/share/keyrings/k.gpg": key})
        if fits:
            assert changes(image.resolve()) == {"a": "2"}
        else:
            with pytest.raises(RepositoryError, match="not by a key that is trusted"):
                image.resolve()


def test_the_origin_says_who_signed_and_where_it_is_defined(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])

    (origin,) = Image(tmp_path, repository, deb("a", "1")).resolve().origins

    assert replace(origin, signed_by="") == replace(
        origin,
        signed_by="",
        uri=repository.address,
        suite="stable-security",
        component="main",
        defined_in="etc/apt/sources.list:1",
    )
    assert origin.signed_by == str(repository.key.extract_certificate().fingerprint).upper()
