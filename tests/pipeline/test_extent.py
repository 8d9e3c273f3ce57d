# SPDX-License-Identifier: Apache-2.0
"""What accounts for a row of a layer, and what doesn't, on images in memory: the settings and the scripts that count."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layerwriter import plain_parts
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.pipeline.prove.extent import check_extent
from copacetic.unpack.shipped import Explanation
from copacetic.updates import Section
from support.deb.aptrepo import installed_files
from support.deb.composed import compose, open_unpacker, plan_debs
from support.deb.debs import Deb, Member, file, hardlink, symlink
from support.image.images import TarItem, make_tar, tar_file
from support.image.trees import scan_tar, stack
from support.value.databases import detect_database
from support.value.replacing import replace

FILES: dict[str, Member] = {"usr/bin/ping": file("ping", 0o755), "usr/share/ping/readme": file("read me")}
OLD = Deb(name="ping", version="1", architecture="amd64", files=FILES)
NEW = replace(OLD, version="2", files={**FILES, "usr/bin/ping": file("new ping", 0o755)})
OTHER = Deb(name="other", version="1", architecture="all", files={"usr/sbin/other": file("other", 0o755)})
CAPABLE = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
LABELLED = {"SCHILY.xattr.security.selinux": "system_u:object_r:bin_t:s0\x00"}
RUNS = {"postinst": "#!/bin/sh\nset -e\nPROGRAM=/usr/bin/ping\nsetcap cap_net_raw+ep $PROGRAM || chmod u+s $PROGRAM\n"}


@dataclass
class Case:
    """An image with a package, and what a new version makes of it."""

    folder: Path
    old: Sequence[Deb] = (OLD, OTHER)
    new: Deb = NEW
    image: Sequence[TarItem] = ()
    """More of the image, over the packages' files."""
    ran: bool = False
    """Whether scripts were run."""
    at_hand: bool = True
    """Whether we have the package."""
    more: Sequence[TarItem] = field(default_factory=list)
    """More of the layer, over what the package gives."""
    without: str = ""
    """What the layer lacks."""

    def prove(self) -> tuple[str, ...]:
        base = make_tar([*_files(_installed(self.old)), *self.image])
        before = stack(base)
        deb = self.new.write(self.folder)
        quiet = self.folder / "quiet"
        quiet.mkdir()
        # A script that can't be followed is no matter here: what it did comes with `more`.
        composed = compose(before, [replace(self.new, scripts={}).write(quiet)], self.folder / "scratch")
        planned = plan_debs(before, [deb])
        packages = open_unpacker(before).shipped(planned)
        changes = [change for change in composed.changes.entries if change.path != self.without]
        layer = _overlaid(b"".join(plain_parts(changes)), self.more)
        after = stack(base, layer)
        explanation = Explanation(
            packages={"deb": packages} if self.at_hand else None,
            effects=None if self.ran else composed.changes.effects,
        )
        section = Section(package_type="deb", updates=tuple(one.update for one in planned))
        return check_extent(
            Evidence(
                parts=(Part(section, _database(before), _database(after)),),
                before=before,
                after=after,
                index=scan_tar(layer),
                digest=after.digest,
                explanation=explanation,
            )
        )

    def refused(self) -> str:
        with pytest.raises(VerificationError) as caught:
            self.prove()
        return str(caught.value)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def _database(fs: ImageFilesystem) -> PackageDatabase:
    database = detect_database(fs)
    assert database is not None
    return database


def _installed(debs: Sequence[Deb]) -> Mapping[str, bytes | str]:
    """With what the database records of configuration files."""
    files = installed_files(debs)
    status = str(files["var/lib/dpkg/status"])
    for deb in debs:
        lines = (f" {path} {hashlib.md5(deb.files[path[1:]].content).hexdigest()}" for path in deb.conffiles)
        field = "\n".join(("Conffiles:", *lines))
        status = (
            status.replace(f"Package: {deb.name}\n", f"Package: {deb.name}\n{field}\n") if deb.conffiles else status
        )
    return {**files, "var/lib/dpkg/status": status}


def _files(files: Mapping[str, bytes | str]) -> list[TarItem]:
    modes = {path: member.mode for deb in (OLD, OTHER) for path, member in deb.files.items()}
    return [tar_file(path, data, mode=modes.get(path, 0o644)) for path, data in files.items()]


def _overlaid(layer: bytes, items: Sequence[TarItem]) -> bytes:
    return layer[:-1024] + make_tar(items) if items else layer


def link(path: str, target: str) -> TarItem:
    return tar_file(path, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def folder(path: str, mode: int = 0o755, **more: Any) -> TarItem:
    return tar_file(path, type=tarfile.DIRTYPE, mode=mode, **more)


def gone(path: str) -> TarItem:
    above, _, name = path.rpartition("/")
    return tar_file(f"{above}/.wh.{name}", mode=0)


# -- what packages say ---------------------------------------------------------------------------------------


def test_an_honest_layer_needs_no_word(case: Case) -> None:
    assert case.prove() == ()


def test_a_package_that_comes_in_new_needs_no_word_either(case: Case) -> None:
    case.old = (OTHER,)

    assert case.prove() == ()


def test_names_of_one_file_have_what_the_last_one_says(case: Case) -> None:
    names = {"usr/bin/ping4": hardlink("usr/bin/ping"), "usr/bin/ping6": replace(hardlink("usr/bin/ping"), mode=0o700)}
    case.new = replace(NEW, files={**NEW.files, **names})

    assert case.prove() == ()


def test_an_override_of_the_image_counts_for_more_than_the_package(case: Case) -> None:
    case.image = [tar_file("var/lib/dpkg/statoverride", "root #7 4750 /usr/bin/ping\n")]

    assert case.prove() == ()


def test_without_its_override_a_file_has_no_such_mode(case: Case) -> None:
    case.image = [tar_file("var/lib/dpkg/statoverride", "root #7 4750 /usr/bin/ping\n")]
    case.more = [tar_file("usr/bin/ping", "new ping", mode=0o755)]

    assert case.refused() == "usr/bin/ping has the mode 0755 instead of 4750"


def test_a_diverted_file_is_where_the_diversion_says(case: Case) -> None:
    case.image = [tar_file("var/lib/dpkg/diversions", "/usr/bin/ping\n/usr/bin/ping.distrib\nother\n")]

    assert case.prove() == ()


def test_what_filters_keep_out_isnt_missed(case: Case) -> None:
    case.new = replace(NEW, files={**NEW.files, "usr/share/doc/ping": file("text")})
    case.image = [tar_file("etc/dpkg/dpkg.cfg.d/slim", "path-exclude /usr/share/doc/*\n")]

    assert case.prove() == ()


def test_a_directory_that_is_a_link_in_the_image_stays_one(case: Case) -> None:
    case.image = [folder("opt/share"), tar_file("opt/share/ping/readme", "read me"), gone("usr/share"),
                  link("usr/share", "../opt/share")]  # fmt: skip

    assert case.prove() == ()


def test_a_directory_stays_where_the_package_has_a_link(case: Case) -> None:
    case.image = [folder("usr/lib/ping"), tar_file("usr/lib/ping/own", "x")]
    case.new = replace(NEW, files={**NEW.files, "usr/lib/ping": symlink("../share/ping")})

    assert case.prove() == ()


def test_changed_configuration_stays_with_its_mode_and_the_new_one_is_beside_it(case: Case) -> None:
    etc = {"etc/ping.conf": file("1")}
    case.old = (replace(OLD, files={**FILES, **etc}, conffiles=("/etc/ping.conf",)), OTHER)
    case.new = replace(NEW, files={**NEW.files, "etc/ping.conf": file("2")}, conffiles=("/etc/ping.conf",))
    case.image = [tar_file("etc/ping.conf", "mine", mode=0o600, uid=7)]

    assert case.prove() == ()


@pytest.mark.parametrize("content", ["1", "mine"])
@pytest.mark.parametrize("was", ["1", None])
def test_configuration_that_the_package_wants_gone_goes_and_what_was_changed_is_beside_it(
    case: Case, content: str, was: str | None
) -> None:
    """Also where it never was the package's: dpkg asks nobody whose it is, as long as no other package has it."""
    if was is not None:
        case.old = (replace(OLD, files={**FILES, "etc/ping.conf": file(was)}, conffiles=("/etc/ping.conf",)), OTHER)
    case.new = replace(NEW, conffiles=("remove-on-upgrade /etc/ping.conf",))
    case.image = [tar_file("etc/ping.conf", content, mode=0o600, uid=7)]

    assert case.prove() == ()


def test_labels_that_a_machine_puts_on_files_are_no_difference(case: Case) -> None:
    case.image = [folder("usr", pax_headers=LABELLED), folder("usr/bin", pax_headers=LABELLED),
                  tar_file("usr/sbin/other", "other", mode=0o755, pax_headers=LABELLED)]  # fmt: skip
    case.more = [folder("usr"), folder("usr/bin"), tar_file("usr/sbin/other", "other", mode=0o755)]

    assert case.prove() == ()


# -- what scripts may do -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rights", [{"pax_headers": CAPABLE}, {"mode": 0o4755}])
def test_a_script_gives_its_own_file_rights_and_is_named(case: Case, rights: Mapping[str, object]) -> None:
    case.new, case.ran = replace(NEW, scripts=RUNS), True
    case.more = [tar_file("usr/bin/ping", "new ping", **{"mode": 0o755, **rights})]

    assert case.prove() == ("scripts gave their packages' files rights that they aren't packed with: usr/bin/ping",)


@pytest.mark.parametrize("rights", [{"pax_headers": CAPABLE}, {"mode": 0o4755}, {"mode": 0o700}, {"uid": 7}])
def test_what_the_image_s_file_had_the_new_one_has_without_a_word(case: Case, rights: Mapping[str, object]) -> None:
    attributes = {"mode": 0o755, **rights}
    case.image = [tar_file("usr/bin/ping", "ping", **attributes)]
    case.more, case.ran = [tar_file("usr/bin/ping", "new ping", **attributes)], True

    assert case.prove() == ()


@pytest.mark.parametrize(
    ("rights", "message"),
    [
        ({"pax_headers": CAPABLE}, "has other extended attributes (security.capability)"),
        ({"mode": 0o4755}, "has the mode 4755 instead of 0755"),
        ({"gid": 7}, "belongs to 0:7 instead of 0:0"),
    ],
)
@pytest.mark.parametrize(
    "scripts", [{}, {"postinst": "#!/bin/sh\nset -e\nchmod u+s /usr/bin/shipping /usr/bin/ping.x\n"}]
)
def test_nobody_else_gives_a_package_s_file_rights(
    case: Case, rights: Mapping[str, object], message: str, scripts: Mapping[str, str]
) -> None:
    case.new, case.ran = replace(NEW, scripts=scripts), True
    case.more = [tar_file("usr/bin/ping", "new ping", **{"mode": 0o755, **rights})]

    assert message in case.refused()


def test_a_file_of_nobody_keeps_its_rights_only_with_its_content(case: Case) -> None:
    case.image = [tar_file("usr/local/su", "su", mode=0o4755)]
    case.more, case.ran = [tar_file("usr/local/su", "evil", mode=0o4755)], True

    assert case.refused() == "usr/local/su is setuid now, and no package ships it so"


def test_scripts_change_configuration_of_others_by_name_but_not_who_may_read_it(case: Case) -> None:
    case.old = (OLD, replace(OTHER, files={"etc/other.conf": file("1", 0o600)}, conffiles=("/etc/other.conf",)))
    case.image = [tar_file("etc/other.conf", "1", mode=0o600)]
    case.more, case.ran = [tar_file("etc/other.conf", "2", mode=0o600)], True
    assert case.prove() == ("scripts changed the configuration of other packages: etc/other.conf",)


@pytest.mark.parametrize("item", [tar_file("etc/other.conf", "2", mode=0o644), gone("etc/other.conf")])
def test_scripts_neither_open_nor_remove_configuration_of_others(case: Case, item: TarItem) -> None:
    case.old = (OLD, replace(OTHER, files={"etc/other.conf": file("1", 0o600)}, conffiles=("/etc/other.conf",)))
    case.image = [tar_file("etc/other.conf", "1", mode=0o600)]
    case.more, case.ran = [item], True

    assert case.refused().startswith("etc/other.conf of other, which the plan leaves alone, would be ")


@pytest.mark.parametrize(
    "item",
    [
        tar_file("etc/shadow", "x", mode=0o644),
        link("etc/shadow", "/tmp/shadow"),
        gone("etc/shadow"),
    ],
)
def test_accounts_are_neither_opened_nor_taken_away(case: Case, item: TarItem) -> None:
    case.image = [tar_file("etc/shadow", "root:*:\n", mode=0o640)]
    case.more, case.ran = [item], True

    assert case.refused().startswith("etc/shadow")


def test_what_scripts_leave_and_take_is_named_and_counted(case: Case) -> None:
    case.image = [tar_file("usr/local/old", "x")]
    case.more = [*(tar_file(f"var/lib/ping/{n}", "x") for n in range(7)), gone("usr/local/old"),
                 tar_file("etc/ld.so.cache", "x"), tar_file("var/cache/ping", "x")]  # fmt: skip
    case.ran = True

    left, taken = case.prove()
    assert left == f"scripts left what no package has: {', '.join(f'var/lib/ping/{n}' for n in range(5))} and 2 more"
    assert taken == "scripts took away what no package has: usr/local/old"


# -- what the plan leaves alone ------------------------------------------------------------------------------


def test_a_diversion_that_a_script_makes_moves_a_file_as_it_is(case: Case) -> None:
    case.new = replace(NEW, files={**NEW.files, "usr/sbin/other": file("mine", 0o755)})
    case.image = [tar_file("var/lib/dpkg/diversions", "/usr/sbin/other\n/usr/sbin/other.distrib\nping\n"),
                  tar_file("usr/sbin/other.distrib", "other", mode=0o755), gone("usr/sbin/other")]  # fmt: skip
    case.ran = True

    assert case.prove() == ()


@pytest.mark.parametrize(("content", "is_refused"), [("evil", True), (None, False)])
def test_a_diversion_is_no_way_to_replace_a_file_with_one_of_nobody_s(
    case: Case, content: str | None, is_refused: bool
) -> None:
    case.more = [
        tar_file("var/lib/dpkg/diversions", "/usr/sbin/other\n/usr/sbin/other.distrib\nping\n"),
        tar_file("usr/sbin/other.distrib", "other", mode=0o755),
        link("usr/sbin/other", "ping") if content is None else tar_file("usr/sbin/other", content, mode=0o755),
    ]
    case.ran = True

    if is_refused:
        assert case.refused().endswith("would be moved away for a file that no package ships")
    else:
        assert case.prove() == ("scripts left what no package has: usr/sbin/other",)


def test_a_link_in_place_of_a_folder_hides_nothing_of_others(case: Case) -> None:
    case.more, case.ran = [gone("usr/sbin"), link("usr/sbin", "/tmp")], True

    assert "of other, which the plan leaves alone, would be" in case.refused()


def test_files_that_move_with_their_folder_are_where_they_were(case: Case) -> None:
    case.image = [folder("usr/sbin")]
    case.more = [tar_file("opt/other", "other", mode=0o755), gone("usr/sbin"), link("usr/sbin", "../opt")]
    case.ran = True

    # The folder itself is the other package's, too, and is none any more.
    assert case.refused() == "usr/sbin of other, which the plan leaves alone, would be changed"


def test_other_packages_keep_what_the_database_has_of_them(case: Case) -> None:
    case.more, case.ran = [tar_file("var/lib/dpkg/info/other.postinst", "#!/bin/sh\nevil\n", mode=0o755)], True

    assert case.refused() == (
        "var/lib/dpkg/info/other.postinst is what the package database has of a package that the plan leaves alone"
    )


def test_a_folder_that_an_opaque_mark_empties_is_refused(case: Case) -> None:
    case.more, case.ran = [tar_file("usr/share/.wh..wh..opq", mode=0)], True

    assert case.refused() == "the layer takes away everything in /usr/share"


# -- packages that only the builder had ----------------------------------------------------------------------


LIBRARY = "usr/share/ping/libping.so.1"
WITH_LIBRARY = replace(OLD, files={**FILES, LIBRARY: file("library")})
WITH_LINK = replace(OLD, files={**FILES, LIBRARY: symlink("libping.so")})


@pytest.mark.parametrize(("ran", "at_hand"), [(False, True), (True, True), (True, False)])
def test_nothing_of_an_old_version_stays_but_what_others_account_for(case: Case, ran: bool, at_hand: bool) -> None:
    case.old, case.ran, case.at_hand, case.without = (WITH_LIBRARY, OTHER), ran, at_hand, LIBRARY

    assert case.refused() == f"{LIBRARY} of ping 1 would stay, which no package of the result has"


def test_what_another_package_has_stays_when_the_old_version_goes(case: Case) -> None:
    case.old, case.without = (WITH_LIBRARY, replace(OTHER, files={**OTHER.files, LIBRARY: file("library")})), LIBRARY

    assert case.prove() == ()


def test_configuration_of_the_old_version_stays(case: Case) -> None:
    conf = {"etc/ping.conf": file("conf")}
    case.old, case.without = (replace(OLD, files={**FILES, **conf}, conffiles=("/etc/ping.conf",)),), "etc/ping.conf"

    assert case.prove() == ()


def test_a_script_that_names_a_file_may_keep_it(case: Case) -> None:
    keeps = {"preinst": f"#!/bin/sh\nln /{LIBRARY} /run/kept\n", "postinst": f"#!/bin/sh\nmv /run/kept /{LIBRARY}\n"}
    case.old, case.new = (WITH_LIBRARY, OTHER), replace(NEW, scripts=keeps)
    case.ran, case.without = True, LIBRARY

    assert case.prove() == ()


def test_the_linker_makes_the_same_link_again_where_programs_are_run_and_nowhere_else(case: Case) -> None:
    case.old, case.without = (WITH_LINK, OTHER), LIBRARY
    case.image = [link(LIBRARY, "libping.so")]

    assert case.refused() == f"{LIBRARY} of ping 1 would stay, which no package of the result has"
    case.folder, case.ran = case.folder / "again", True
    case.folder.mkdir()
    assert case.prove() == ()


def test_a_builder_s_packages_keep_the_rights_that_the_image_s_files_have(case: Case) -> None:
    case.image = [tar_file("usr/bin/ping", "ping", mode=0o4755)]
    case.more = [tar_file("usr/bin/ping", "new ping", mode=0o4755)]
    case.ran, case.at_hand = True, False

    assert case.prove() == ()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (tar_file("usr/bin/ping", "new ping", mode=0o4755), "usr/bin/ping is setuid now, and no package ships it so"),
        (tar_file("usr/sbin/other", "evil", mode=0o755), "usr/sbin/other of other, which the plan leaves alone, would"),
        (tar_file("usr/evil", "evil", mode=0o2755), "usr/evil is setgid now"),
        (gone("usr/sbin/other"), "usr/sbin/other of other, which the plan leaves alone, would be taken away"),
    ],
)
def test_a_builder_s_packages_bring_no_rights_and_touch_no_others(case: Case, item: TarItem, message: str) -> None:
    case.more, case.ran, case.at_hand = [item], True, False

    assert case.refused().startswith(message)
