# SPDX-License-Identifier: Apache-2.0
"""rpm repositories as a whole: found, asked, searched, and left alone where nobody is to go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.errors import (
    CopaError,
    IntegrityError,
    RefusedAddressError,
    RepositoryError,
    UnreachableError,
    UsageError,
)
from copacetic.http.reach import Reach
from copacetic.repository.rpm import RpmRepository
from copacetic.updates import Finding, Fix, Resolution, SkipReason, Wanted
from support.image.trees import Content
from support.rpm.rpmfiles import Rpm
from support.rpm.rpmrepo import (
    DEFINITION,
    RpmServer,
    changes,
    context,
    opened,
    package_xml,
    packed,
    resolution,
    rpm_image,
    serve_rpms,
)
from support.value.replacing import replace

OLD, NEW = Rpm(name="a"), Rpm(name="a", version="2")
PRIMARY = "el9/BaseOS/repodata/"


@pytest.fixture
def served() -> Iterator[RpmServer]:
    with serve_rpms([NEW]) as repository:
        yield repository


def image(served: RpmServer, **settings: str) -> dict[str, Content]:
    return rpm_image(served, **{DEFINITION: served.definition(**settings)})


def primary_of(served: RpmServer) -> str:
    return next(path for path in served.files if "primary" in path)


def skipped(found: Resolution) -> dict[str, tuple[SkipReason, str]]:
    return {one.package.name: (one.reason, one.detail) for one in found.skipped}


def finding(version: str, severity: str = "UNKNOWN", cve: str = "CVE-2026-0001") -> Finding:
    fix = Fix(version=version, is_source=False)
    return Finding(
        vulnerability_id=cve, package="a", installed_version="1-1", fixes=(fix,), package_type="rpm", severity=severity
    )


def asked(files: dict[str, Content], cache: Path, version: str, *more: Rpm, **settings: object) -> Resolution:
    """Ask for one fix of `a`."""
    here = context(files, [OLD, *more], cache, **settings)
    want = Wanted(package=here.installed[0], findings=(finding(version),))
    return RpmRepository.open(here).resolve([want], exhaustive=False)


# -- what is found ---------------------------------------------------------------------------------------------------


def test_an_update_is_found_with_where_it_comes_from(served: RpmServer, tmp_path: Path) -> None:
    found = resolution(rpm_image(served), [OLD], tmp_path)

    (update,) = found.updates
    candidate = update.candidate
    assert (candidate.name, candidate.version, candidate.architecture) == ("a", "2-1", "x86_64")
    assert (candidate.source_name, candidate.source_version) == ("a", "2-1")
    assert candidate.url == f"{served.url}/Packages/a-2-1.x86_64.rpm"
    assert candidate.sha256 == hashlib.sha256(served.files["el9/BaseOS/Packages/a-2-1.x86_64.rpm"]).hexdigest()
    assert (candidate.origin.uri, candidate.origin.suite) == (served.url, "tests")
    assert candidate.origin.defined_in == DEFINITION
    assert update.installed is not None
    assert update.installed.version == "1-1"


@pytest.mark.parametrize("compress", ["gz", "xz", "bz2", "zst"])
def test_metadata_may_be_packed_in_every_way(served: RpmServer, tmp_path: Path, compress: str) -> None:
    served.publish([NEW], compress=compress)

    assert changes(resolution(rpm_image(served), [OLD], tmp_path)) == {"a": "2-1"}


def test_a_report_s_fix_is_reached_by_the_closest_version(served: RpmServer, tmp_path: Path) -> None:
    served.publish([NEW, Rpm(name="a", version="3"), Rpm(name="a", version="4", epoch=1)])

    assert changes(asked(image(served), tmp_path, "2.5-1")) == {"a": "3-1"}
    assert skipped(asked(image(served), tmp_path, "9:1-1"))["a"][0] is SkipReason.NO_CANDIDATE


def test_what_an_update_needs_comes_with_it(served: RpmServer, tmp_path: Path) -> None:
    needy = replace(NEW, requires=("b >= 2", "/usr/share/b/data", "/usr/bin/c"))
    served.publish(
        [needy, Rpm(name="b", version="2", files=("/usr/share/b/data",)), Rpm(name="c", files=("/usr/bin/c",))]
    )

    found = asked(image(served), tmp_path, "2-1", Rpm(name="b"))

    assert changes(found) == {"a": "2-1", "b": "2-1", "c": "1-1"}
    assert {update.candidate.name: update.required_by for update in found.updates} == {
        "a": (),
        "b": ("a",),
        "c": ("a",),
    }


def test_lists_of_all_files_are_fetched_only_where_a_path_is_asked_for_that_nothing_else_lists(
    served: RpmServer, tmp_path: Path
) -> None:
    resolution(rpm_image(served), [OLD], tmp_path / "1")
    assert not any("filelists" in path for path in served.requests)

    served.publish([replace(NEW, requires=("/usr/share/b & c",)), Rpm(name="b", files=("/usr/share/b & c",))])
    assert changes(asked(image(served), tmp_path / "2", "2-1")) == {"a": "2-1", "b": "1-1"}
    assert any("filelists" in path for path in served.requests)


def test_of_several_repositories_the_preferred_one_counts(served: RpmServer, tmp_path: Path) -> None:
    other = RpmServer(folder="other")
    other.address, other.files = served.address, served.files
    other.publish([NEW])
    text = served.definition(cost="1000") + other.definition(cost="10").replace("[tests]", "[near]")
    found = resolution(rpm_image(served, **{DEFINITION: text}), [OLD], tmp_path)
    assert [update.candidate.origin.suite for update in found.updates] == ["near"]

    other.publish([Rpm(name="a", version="3")])
    text = served.definition(priority="10") + other.definition().replace("[tests]", "[near]")
    assert changes(resolution(rpm_image(served, **{DEFINITION: text}), [OLD], tmp_path)) == {"a": "2-1"}


def test_a_row_that_can_t_be_used_keeps_back_what_it_would_have_updated(served: RpmServer, tmp_path: Path) -> None:
    rpms = [NEW, Rpm(name="b", version="2")]
    rows = "".join(package_xml(rpm, b"data") for rpm in rpms).replace('href="Packages/a', 'href="/a')
    served.publish(rpms, primary=f"<metadata>{rows}</metadata>")

    found = resolution(rpm_image(served), [OLD, Rpm(name="b")], tmp_path)

    assert changes(found) == {"b": "2-1"}
    reason, detail = skipped(found)["a"]
    assert (reason, "has the location  '/a-2-1" in detail) == (SkipReason.BROKEN, True)


def test_what_another_name_replaces_is_an_update_and_what_would_take_two_away_is_none(
    served: RpmServer, tmp_path: Path
) -> None:
    served.publish([Rpm(name="heir", version="3", obsoletes=("a < 3",), provides=("a = 3",))])
    (update,) = resolution(rpm_image(served), [OLD], tmp_path / "1").updates
    assert update.installed is not None
    assert (update.installed.name, update.candidate.name) == ("a", "heir")

    served.publish([replace(NEW, obsoletes=("b",)), Rpm(name="c", version="2")])
    found = resolution(rpm_image(served), [OLD, Rpm(name="b"), Rpm(name="c")], tmp_path / "2")
    assert changes(found) == {"c": "2-1"}
    assert skipped(found)["a"] == (
        SkipReason.UNSUPPORTED,
        "2-1 would also take the place of b, which isn't done yet",
    )


# -- what may not be seen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("etc/dnf/dnf.conf", "[main]\nexcludepkgs=b, a*\n", "etc/dnf/dnf.conf excludes a*"),
        ("etc/dnf/dnf.conf", "[main]\nexclude=a-2-1.x86_64\n", "etc/dnf/dnf.conf excludes a-2-1.x86_64"),
        ("etc/dnf/dnf.conf", "[main]\nincludepkgs=b\n", "etc/dnf/dnf.conf includes others only"),
        ("etc/dnf/plugins/versionlock.list", "# c\na-0:1-1.*\n", "etc/dnf/plugins/versionlock.list locks a"),
        ("etc/dnf/plugins/versionlock.list", "!a-0:2-1.*\n", "etc/dnf/plugins/versionlock.list locks a"),
        ("etc/yum/pluginconf.d/versionlock.list", "0:a-1-1.*\n", "etc/yum/pluginconf.d/versionlock.list locks a"),
        ("etc/zypp/locks", "\ntype: package\nmatch_type: glob\nsolvable_name: a\n", "etc/zypp/locks locks a"),
        (
            "etc/dnf/versionlock.toml",
            'version="1.0"\n[[packages]]\nname="a"\n[[packages.conditions]]\nkey="evr"\ncomparator="<"\nvalue="0:2"\n',
            "etc/dnf/versionlock.toml locks a",
        ),
    ],
)
def test_what_the_image_excludes_or_locks_stays_and_the_reason_is_named(
    served: RpmServer, tmp_path: Path, path: str, text: str, why: str
) -> None:
    files = {**image(served), path: text}

    found = asked(files, tmp_path, "2-1")

    assert changes(found) == {}
    reason, detail = skipped(found)["a"]
    assert (reason, detail.endswith(f"2-1 can't be taken: {why}")) == (SkipReason.HELD, True)


def test_a_lock_lets_what_it_names_in(served: RpmServer, tmp_path: Path) -> None:
    served.publish([NEW, Rpm(name="a", version="3")])
    files = {**image(served), "etc/dnf/plugins/versionlock.list": "a-0:2-1.*\n"}

    assert changes(resolution(files, [OLD], tmp_path)) == {"a": "2-1"}


def test_a_definition_s_own_excludes_are_its_own(served: RpmServer, tmp_path: Path) -> None:
    assert changes(resolution(image(served, excludepkgs="b"), [OLD], tmp_path / "1")) == {"a": "2-1"}
    assert changes(resolution(image(served, exclude="a"), [OLD], tmp_path / "2")) == {}
    assert changes(resolution(image(served, includepkgs="b"), [OLD], tmp_path / "3")) == {}


MODULES = """---
document: modulemd
version: 2
data:
  name: mod
  stream: "{stream}"
  artifacts:
    rpms:
    - a-0:{version}-1.x86_64
...
"""


def test_an_update_never_jumps_to_another_stream_of_a_module(served: RpmServer, tmp_path: Path) -> None:
    rpms = [Rpm(name="a", version="1.5"), NEW]
    text = MODULES.format(stream="1", version="1.5") + MODULES.format(stream="2", version="2")
    served.publish(rpms, more={"modules": text.encode()})
    installed = replace(OLD, module="mod:1:2020:abc:x86_64")

    assert changes(resolution(rpm_image(served), [installed], tmp_path)) == {"a": "1.5-1"}
    enabled = {**rpm_image(served), "etc/dnf/modules.d/mod.module": "[mod]\nname=mod\nstream=2\nstate=enabled\n"}
    assert changes(resolution(enabled, [installed], tmp_path)) == {"a": "2-1"}
    assert changes(resolution(rpm_image(served), [OLD], tmp_path)) == {}  # what is of no module stays so
    here = context(rpm_image(served), [installed], tmp_path)
    want = Wanted(package=here.installed[0], findings=(finding("2-1"),))
    reason, detail = skipped(RpmRepository.open(here).resolve([want], exhaustive=False))["a"]
    assert reason is SkipReason.NO_CANDIDATE
    assert detail.endswith("2-1 can't be taken: module streams: it is of mod:2, and mod:1 is in use")


def test_another_vendor_s_package_takes_the_user_s_word(served: RpmServer, tmp_path: Path) -> None:
    served.publish([replace(NEW, vendor="Somebody")])

    reason, detail = skipped(asked(image(served), tmp_path, "2-1"))["a"]
    assert (reason, "--allow-vendor-change a takes it" in detail) == (SkipReason.VENDOR, True)
    assert changes(asked(image(served), tmp_path, "2-1", allow_vendor_change=("a",))) == {"a": "2-1"}


# -- advisories ------------------------------------------------------------------------------------------------------

UPDATEINFO = """<updates><update type="security"><id>XLSA-2026:1</id><severity>Important</severity>
<references><reference id="CVE-2026-0001" type="cve"/></references><pkglist><collection>
<package name="a" epoch="0" version="2" release="1" arch="x86_64"/></collection></pkglist></update>
<update type="security"><id>XLSA-2026:0</id><severity>Low</severity><pkglist><collection>
<package name="a" epoch="0" version="1" release="1" arch="x86_64"/></collection></pkglist></update></updates>"""


def test_advisories_that_an_update_carries_out_are_named(served: RpmServer, tmp_path: Path) -> None:
    served.publish([NEW], more={"updateinfo": UPDATEINFO.encode()})

    found = resolution(rpm_image(served), [OLD], tmp_path)

    assert "XLSA-2026:1 (HIGH security) for a: CVE-2026-0001" in found.notes
    assert not any("XLSA-2026:0" in note for note in found.notes)  # that one was carried out before
    assert found.severities["CVE-2026-0001"] == "HIGH"


def test_what_can_t_be_read_of_them_keeps_no_update_back(served: RpmServer, tmp_path: Path) -> None:
    served.publish([NEW], more={"updateinfo": b"<!DOCTYPE x><updates/>"})

    found = resolution(rpm_image(served), [OLD], tmp_path)

    assert changes(found) == {"a": "2-1"}
    assert any("it has a document type, which no repository needs" in note for note in found.notes)


# -- what is fetched again -------------------------------------------------------------------------------------------


def test_what_is_known_isn_t_sent_again(served: RpmServer, tmp_path: Path) -> None:
    resolution(rpm_image(served), [OLD], tmp_path)
    del served.requests[:], served.answers[:]

    assert changes(resolution(rpm_image(served), [OLD], tmp_path)) == {"a": "2-1"}
    assert served.requests == [f"{PRIMARY}repomd.xml", f"{PRIMARY}repomd.xml.asc"]
    assert served.answers == [304, 404]


def test_the_state_changes_with_every_publication(served: RpmServer, tmp_path: Path) -> None:
    first = opened(rpm_image(served), [OLD], tmp_path).state()
    assert opened(rpm_image(served), [OLD], tmp_path).state() == first
    served.publish([NEW, Rpm(name="b")])
    assert opened(rpm_image(served), [OLD], tmp_path).state() != first


def test_kept_metadata_vouches_for_a_plan_without_a_network(served: RpmServer, tmp_path: Path) -> None:
    (update,) = resolution(rpm_image(served), [OLD], tmp_path).updates
    planned = replace(update.candidate, record=None)
    served.files.clear()

    vouched = opened(rpm_image(served), [OLD], tmp_path).vouch([planned])
    assert vouched == {planned: update.candidate}
    assert vouched[planned].record is not None
    forged = replace(planned, sha256="0" * 64)
    with pytest.raises(CopaError):
        opened(rpm_image(served), [OLD], tmp_path).vouch([forged])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "has 4.. bytes instead of"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "expected the SHA256"),
        (lambda _data: packed(b"<metadata/>" * 40, "gz"), "bytes instead of"),
    ],
)
def test_metadata_that_isn_t_what_repomd_says_is_refused(
    served: RpmServer, tmp_path: Path, change: object, words: str
) -> None:
    path = primary_of(served)
    served.files[path] = change(served.files[path])  # type: ignore[operator]

    with pytest.raises(CopaError, match=words):
        resolution(rpm_image(served), [OLD], tmp_path)


def test_metadata_that_stands_for_far_more_than_it_weighs_is_refused(served: RpmServer, tmp_path: Path) -> None:
    served.publish([NEW], primary="<metadata>" + " " * (9 * 1024 * 1024) + "</metadata>")

    with pytest.raises(RepositoryError, match="primary metadata can't be read: a package of more than"):
        resolution(rpm_image(served), [OLD], tmp_path)


# -- mirrors ---------------------------------------------------------------------------------------------------------


def test_of_a_list_of_mirrors_the_first_that_answers_is_used(served: RpmServer, tmp_path: Path) -> None:
    served.files["list"] = f"{served.address}/dead/\n{served.url}/\n".encode()
    files = image(served, baseurl="", mirrorlist=f"{served.address}/list?arch=$basearch")
    served.files["list?arch=x86_64"] = served.files.pop("list")

    (update,) = resolution(files, [OLD], tmp_path).updates

    assert update.candidate.url == f"{served.url}/Packages/a-2-1.x86_64.rpm"
    assert update.candidate.origin.uri == f"{served.address}/list"


METALINK = """<metalink><files><file name="repomd.xml"><verification><hash type="sha256">{}</hash></verification>
<resources><url preference="100">{}/repodata/repomd.xml</url></resources></file></files></metalink>"""


def test_a_metalink_says_which_repomd_it_has_to_be(served: RpmServer, tmp_path: Path) -> None:
    digest = hashlib.sha256(served.files[f"{PRIMARY}repomd.xml"]).hexdigest()
    served.files["metalink"] = METALINK.format(digest, served.url).encode()
    files = image(served, baseurl="", metalink=f"{served.address}/metalink")
    assert changes(resolution(files, [OLD], tmp_path)) == {"a": "2-1"}

    served.publish([NEW, Rpm(name="b")])
    with pytest.raises(IntegrityError, match="is none that the metalink names"):
        resolution(files, [OLD], tmp_path / "2")


def test_the_user_s_mirror_takes_the_place_of_what_a_list_names(served: RpmServer, tmp_path: Path) -> None:
    served.files["list"] = b"https://far.example/x/\n"
    files = image(served, baseurl="", mirrorlist=f"{served.address}/list")

    mirrors = (("https://far.example/x", served.url),)
    assert changes(resolution(files, [OLD], tmp_path, mirrors=mirrors)) == {"a": "2-1"}


# -- where to go -----------------------------------------------------------------------------------------------------


def test_an_image_may_not_lead_to_this_machine_and_the_user_may(served: RpmServer, tmp_path: Path) -> None:
    with pytest.raises(RefusedAddressError, match="may not lead to 127.0.0.1, which is on loopback"):
        resolution(rpm_image(served), [OLD], tmp_path, reach=Reach())
    files = rpm_image(served)
    definitions = (served.definition(),)
    assert changes(resolution(files, [OLD], tmp_path, reach=Reach(), definitions=definitions)) == {"a": "2-1"}
    assert changes(resolution(files, [OLD], tmp_path, reach=Reach(), definitions=(served.url,))) == {"a": "2-1"}


def test_nor_may_a_list_of_mirrors(served: RpmServer, tmp_path: Path) -> None:
    served.files["list"] = b"http://169.254.169.254/latest/\n"
    definition = served.definition(baseurl="", mirrorlist=f"{served.address}/list")

    with pytest.raises(RefusedAddressError, match=r"may not lead to 169\.254\.169\.254"):
        resolution(rpm_image(served), [OLD], tmp_path, reach=Reach(), definitions=(definition,))


def test_without_any_repository_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="names no repository that can be used") as caught:
        opened(rpm_image(None), [OLD], tmp_path)
    assert "--repository URL" in str(caught.value.hint)
    local = rpm_image(None, **{DEFINITION: "[a]\nbaseurl=file:///media\n"})
    with pytest.raises(RepositoryError, match=r"\[a\] has no address of http or https"):
        opened(local, [OLD], tmp_path)


def test_this_machine_s_repositories_serve_an_image_that_has_none(served: RpmServer, tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "etc/yum.repos.d").mkdir(parents=True)
    (host / "etc/os-release").write_text("ID=almalinux\n")
    (host / DEFINITION).write_text(served.definition(baseurl=f"{served.address}/el$releasever/BaseOS"))
    files = rpm_image(served)
    del files[DEFINITION]

    found = resolution(files, [OLD], tmp_path / "cache", host_root=host, reach=Reach())

    assert changes(found) == {"a": "2-1"}
    assert found.origins[0].defined_in == f"this machine's {host / DEFINITION}"


def test_a_repository_that_can_t_be_had_is_an_error_unless_it_is_optional(served: RpmServer, tmp_path: Path) -> None:
    dead = f"[dead]\nbaseurl={served.address}/dead\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-tests\n"
    strict = rpm_image(served, **{DEFINITION: served.definition() + dead})
    with pytest.raises(RepositoryError, match=r"/dead has no repodata/repomd\.xml") as caught:
        resolution(strict, [OLD], tmp_path)
    assert "--ignore-errors goes on without it" in str(caught.value.hint)

    optional = rpm_image(served, **{DEFINITION: served.definition() + dead + "skip_if_unavailable=1\n"})
    found = resolution(optional, [OLD], tmp_path)
    assert changes(found) == {"a": "2-1"}
    assert any("is left out: " in note and "/dead" in note for note in found.notes)


# -- subscribers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 401])
def test_a_repository_for_subscribers_says_what_it_wants(served: RpmServer, tmp_path: Path, status: int) -> None:
    served.statuses[f"{PRIMARY}repomd.xml"] = status
    files = image(served, sslclientcert="/etc/pki/entitlement/1.pem")

    with pytest.raises(RepositoryError) as caught:
        resolution(files, [OLD], tmp_path)
    assert "--repository-secret ADDRESS=FILE" in str(caught.value.hint)


def test_a_login_in_a_file_is_sent_to_its_address_alone(served: RpmServer, tmp_path: Path) -> None:
    served.login = "me:word"
    file = tmp_path / "scc"
    file.write_text("username=me\npassword=word\n")
    with pytest.raises(RepositoryError, match="answers 401"):
        resolution(rpm_image(served), [OLD], tmp_path / "1")

    found = resolution(rpm_image(served), [OLD], tmp_path / "2", secrets=((served.url, file),))

    assert changes(found) == {"a": "2-1"}
    with pytest.raises(RepositoryError, match="answers 401"):
        resolution(rpm_image(served), [OLD], tmp_path / "3", secrets=((f"{served.address}/other", file),))


def test_a_token_goes_behind_each_address_and_into_no_plan(served: RpmServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("?to.ken\n")
    served.files = {f"{path}?to.ken": data for path, data in served.files.items()}

    here = context(rpm_image(served), [OLD], tmp_path / "cache", secrets=((served.url, file),))
    repository = RpmRepository.open(here)
    (update,) = repository.resolve([Wanted(package=here.installed[0])], exhaustive=True).updates

    assert len(repository.fetch([update.candidate])) == 1
    assert "to.ken" not in str(update.candidate.url) + str(update.candidate.origin)


def test_a_secret_that_is_none_is_refused(served: RpmServer, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for path in (empty, tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError):
            opened(rpm_image(served), [OLD], tmp_path / "cache", secrets=((served.url, path),))


def test_a_client_s_certificate_is_used_for_its_address(served: RpmServer, tmp_path: Path) -> None:
    folder = tmp_path / "entitlement"
    folder.mkdir()
    (folder / "12.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (folder / "12-key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    files = image(served, baseurl="https://127.0.0.1:1/x/")

    with pytest.raises((UsageError, UnreachableError), match=r"12\.pem: can't be used as a client certificate"):
        resolution(files, [OLD], tmp_path / "cache", secrets=(("https://127.0.0.1:1/", folder),))
