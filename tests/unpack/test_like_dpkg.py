# SPDX-License-Identifier: Apache-2.0
"""Every rule of dpkg's, against dpkg: the same packages onto the same root, installed by it and composed by us."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from copacetic.errors import PackageError
from support.deb.composed import compose_onto, copy_root
from support.deb.debian import need
from support.deb.debs import Deb, directory, file, hardlink, symlink
from support.deb.oracle import differences

pytestmark = [pytest.mark.system]

Change = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Case:
    """What is installed first, what happens to it, what is installed then."""

    before: Sequence[Deb]
    after: Sequence[Deb]
    meanwhile: Change = lambda _root: None
    options: Sequence[str] = ()


def dpkg(root: Path, *debs: Path, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Install with the real dpkg, the way a container's build does."""
    return subprocess.run(
        ["dpkg", f"--root={root}", "--force-confold", "--force-confdef", "--log=/dev/null", *options, "--install", *debs],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    )  # fmt: skip


def empty_root(path: Path) -> Path:
    for folder in ("info", "updates", "triggers", "alternatives", "parts"):
        (path / "var/lib/dpkg" / folder).mkdir(parents=True)
    (path / "var/lib/dpkg/status").touch()
    (path / "usr/bin").mkdir(parents=True)
    (path / "etc").mkdir()
    return path


def old(**attributes: object) -> Deb:
    return Deb(version="1.0", **attributes)  # type: ignore[arg-type]


def new(**attributes: object) -> Deb:
    return Deb(version="2.0", **attributes)  # type: ignore[arg-type]


def write(path: str, text: str) -> Change:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    return change


def link(path: str, target: str) -> Change:
    """Put a link to a folder in a folder's place; what was in it moves along."""

    def change(root: Path) -> None:
        old, folder = root / path, (root / path).parent / target
        folder.mkdir(parents=True, exist_ok=True)
        if old.exists():
            for child in old.iterdir():
                child.rename(folder / child.name)
            old.rmdir()
        old.symlink_to(target)

    return change


def delete(path: str) -> Change:
    def change(root: Path) -> None:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink()

    return change


def all_of(*changes: Change) -> Change:
    return lambda root: [change(root) for change in changes]


KEEP = {"usr/share/keep": file("kept")}
CONF = {"conffiles": ["/etc/demo.conf"]}


def conf(text: str, mode: int = 0o644) -> dict[str, object]:
    return {"files": {**KEEP, "etc/demo.conf": file(text, mode)}, **CONF}


def diverted(root: Path) -> None:
    (root / "var/lib/dpkg/diversions").write_text("/usr/bin/tool\n/usr/bin/tool.real\nother\n")
    (root / "usr/bin/tool").rename(root / "usr/bin/tool.real")


def overridden(root: Path) -> None:
    (root / "var/lib/dpkg/statoverride").write_text(
        "#7 #8 4750 /usr/bin/tool\n#0 #0 0700 /usr/share/private\n#0 #0 0600 /etc/demo.conf\n"
    )


CASES: dict[str, Case] = {
    "a file changes": Case([old(files={"usr/a": file("1")})], [new(files={"usr/a": file("2", 0o755)})]),
    "a file changes only its mode": Case([old(files={"usr/a": file("1")})], [new(files={"usr/a": file("1", 0o4755)})]),
    "nothing changes": Case([old(files=KEEP)], [new(files=KEEP)]),
    "a file goes": Case([old(files={**KEEP, "usr/a": file("1")})], [new(files=KEEP)]),
    "a file that somebody else removed goes": Case(
        [old(files={**KEEP, "usr/a": file("1")})], [new(files=KEEP)], delete("usr/a")
    ),
    "a folder goes with its last file": Case([old(files={**KEEP, "usr/d/e/f": file("1")})], [new(files=KEEP)]),
    "a folder with somebody's file stays": Case(
        [old(files={**KEEP, "usr/d/e/f": file("1")})], [new(files=KEEP)], write("usr/d/local", "mine")
    ),
    "an empty folder of two packages stays": Case(
        [old(name="a", files={**KEEP, "usr/d": directory()}), old(name="b", files={"usr/d": directory()})],
        [new(name="a", files=KEEP)],
    ),
    "a folder keeps the attributes that it has": Case(
        [old(files={"usr/d/f": file("1")})],
        [new(files={"usr/d": directory(0o700, uid=5, uname=""), "usr/d/f": file("2")})],
        lambda root: (root / "usr/d").chmod(0o1777),
    ),
    "a new folder gets its own": Case(
        [old(files=KEEP)], [new(files={**KEEP, "usr/d": directory(0o2710, gid=5, gname=""), "usr/d/f": file("2")})]
    ),
    "a link to a folder stays where the package has the folder": Case(
        [old(files={"usr/d/f": file("1"), "usr/e/g": file("1")})],
        [new(files={"usr/d/f": file("2"), "usr/e/g": file("1")})],
        all_of(delete("usr/d"), link("usr/d", "e")),
    ),
    "a folder stays where the package has a link to one": Case(
        [old(files={"usr/d/f": file("1"), "usr/e/g": file("1")})],
        [new(files={"usr/d": symlink("e"), "usr/e/g": file("1")})],
        write("usr/d/local", "mine"),
    ),
    "a folder that gets empty stays a folder where the package has a link": Case(
        [old(files={"usr/d/f": file("1"), "usr/e/g": file("1")})],
        [new(files={"usr/d": symlink("nowhere"), "usr/e/g": file("1")})],
    ),
    "a link to a folder becomes the folder's name another way": Case(
        [old(files={"usr/d": symlink("e"), "usr/e/g": file("1")})],
        [new(files={"usr/d": symlink("/usr/e"), "usr/e/g": file("1")})],
    ),
    "a link to a folder becomes the folder's name from here": Case(
        [old(files={"usr/d": symlink("e"), "usr/e/g": file("1")})],
        [new(files={"usr/d": symlink("./e"), "usr/e/g": file("1")})],
    ),
    "a link to a folder by way of another one stays": Case(
        [old(files={"usr/d": symlink("m"), "usr/m": symlink("../opt/e"), "opt/e/g": file("1")})],
        [new(files={"usr/d": symlink("./m"), "usr/m": symlink("../opt/e"), "opt/e/g": file("1")})],
    ),
    "a link leads to another folder": Case(
        [old(files={"usr/d": symlink("e"), "usr/e/g": file("1"), "usr/f/g": file("1")})],
        [new(files={"usr/d": symlink("f"), "usr/e/g": file("1"), "usr/f/g": file("1")})],
    ),
    "a link goes and not what it leads to": Case(
        [old(files={**KEEP, "usr/l": symlink("share/keep")})], [new(files=KEEP)]
    ),
    "a dangling link goes": Case([old(files={**KEEP, "usr/l": symlink("nowhere")})], [new(files=KEEP)]),
    "the same link has moved through a link": Case(
        [old(files={"lib/l": symlink("tool"), **KEEP})],
        [new(files={"usr/lib/l": symlink("tool"), **KEEP})],
        link("lib", "usr/lib"),
    ),
    "a dangling link becomes a folder": Case(
        [old(files={**KEEP, "usr/d": symlink("nowhere")})], [new(files={**KEEP, "usr/d/f": file("1")})]
    ),
    "a link changes its target": Case(
        [old(files={**KEEP, "usr/l": symlink("keep")})], [new(files={**KEEP, "usr/l": symlink("share")})]
    ),
    "a link leads to the same file another way": Case(
        [old(files={**KEEP, "usr/l": symlink("share/keep")})],
        [new(files={**KEEP, "usr/l": symlink("../usr/share/keep")})],
    ),
    "a link becomes a file": Case(
        [old(files={**KEEP, "usr/l": symlink("share/keep")})], [new(files={**KEEP, "usr/l": file("2")})]
    ),
    "a file becomes a link": Case(
        [old(files={**KEEP, "usr/l": file("1")})], [new(files={**KEEP, "usr/l": symlink("share/keep")})]
    ),
    "a file becomes a folder": Case([old(files={"usr/x": file("1")})], [new(files={"usr/x/y": file("2")})]),
    "a folder becomes a file": Case([old(files={"usr/x/y": file("1")})], [new(files={"usr/x": file("2")})]),
    "a folder with somebody's file becomes a file": Case(
        [old(files={"usr/x/y": file("1")})], [new(files={"usr/x": file("2")})], write("usr/x/local", "mine")
    ),
    "the same file has moved through a link": Case(
        [old(files={"lib/tool": file("1"), **KEEP})],
        [new(files={"usr/lib/tool": file("2"), **KEEP})],
        link("lib", "usr/lib"),
    ),
    "files land behind the image's own links": Case(
        [old(files=KEEP)],
        [new(files={**KEEP, "lib/x86/a": file("1"), "sbin/tool": file("2", 0o755)})],
        all_of(link("lib", "usr/lib"), link("sbin", "usr/bin")),
    ),
    "hard links": Case(
        [old(files={"usr/a": file("1"), "usr/b": hardlink("./usr/a")})],
        [new(files={"usr/a": file("2", 0o755), "usr/b": hardlink("./usr/a"), "usr/c": hardlink("./usr/b")})],
    ),
    "hard links that stay": Case(
        [old(files={"usr/a": file("1"), "usr/b": hardlink("./usr/a")})],
        [new(files={"usr/a": file("1"), "usr/b": hardlink("./usr/a"), **KEEP})],
    ),
    "a hard link becomes a file of its own": Case(
        [old(files={"usr/a": file("1"), "usr/b": hardlink("./usr/a")})],
        [new(files={"usr/a": file("1"), "usr/b": file("2")})],
    ),
    "no checksums": Case(
        [old(files={**KEEP, "usr/a": file("1")}, md5sums=False)],
        [
            new(
                files={
                    **KEEP,
                    "usr/a": file("2"),
                    "usr/b": hardlink("./usr/a"),
                    "usr/l": symlink("a"),
                    "etc/c": file("c"),
                },
                conffiles=["/etc/c"],
                md5sums=False,
            )
        ],
    ),
    "a new package": Case(
        [old(files=KEEP)], [new(name="news", files={"usr/news": file("1"), "etc/demo.conf": file("1")}, **CONF)]
    ),
    "names sort as in dpkg": Case(
        [old(name="b-c", files=KEEP), old(name="b", files={"usr/b": file()})],
        [new(name="b+c", files={"usr/b+c": file()}), new(name="a", files={"usr/a": file()})],
    ),
    "fields that dpkg reorders": Case(
        [old(files=KEEP)],
        [
            new(
                files=KEEP,
                fields={
                    "Homepage": "https://example.com",
                    "Depends": "base | other (>= 1)",
                    "Section": "misc",
                    "Priority": "optional",
                    "X-Odd": "value",
                    "Installed-Size": "7",
                    "Multi-Arch": "foreign",
                },
            )
        ],
        options=["--force-depends"],
    ),
    "control files come and go": Case(
        [old(files=KEEP, control={"shlibs": "x\n", "triggers": "interest-noawait /usr/share/here\n"})],
        [new(files=KEEP, control={"symbols": "y\n", "triggers": "interest-noawait /usr/share/there\n"})],
    ),
    # configuration files
    "conf: same, unchanged": Case([old(**conf("1"))], [new(**conf("1"))]),
    "conf: new, unchanged": Case([old(**conf("1", 0o640))], [new(**conf("2"))]),
    "conf: same, changed": Case([old(**conf("1"))], [new(**conf("1"))], write("etc/demo.conf", "mine")),
    "conf: new, changed": Case(
        [old(**conf("1"))],
        [new(**conf("2"))],
        all_of(write("etc/demo.conf", "mine"), lambda root: (root / "etc/demo.conf").chmod(0o600)),
    ),
    "conf: new, changed, with leftovers": Case(
        [old(**conf("1"))],
        [new(**conf("2"))],
        all_of(write("etc/demo.conf", "m"), *(write(f"etc/demo.conf.dpkg-{e}", e) for e in ("old", "dist", "bak"))),
    ),
    "conf: new, unchanged, with leftovers": Case(
        [old(**conf("1"))], [new(**conf("2"))], all_of(*(write(f"etc/demo.conf.dpkg-{e}", e) for e in ("old", "dist")))
    ),
    "conf: new, changed to the same": Case([old(**conf("1"))], [new(**conf("2"))], write("etc/demo.conf", "2")),
    "conf: same, removed": Case([old(**conf("1"))], [new(**conf("1"))], delete("etc/demo.conf")),
    "conf: new, removed": Case([old(**conf("1"))], [new(**conf("2"))], delete("etc/demo.conf")),
    "conf: gone, unchanged": Case([old(**conf("1"))], [new(files=KEEP)]),
    "conf: gone, changed": Case([old(**conf("1"))], [new(files=KEEP)], write("etc/demo.conf", "mine")),
    "conf: gone, removed": Case([old(**conf("1"))], [new(files=KEEP)], delete("etc/demo.conf")),
    "conf: several gone": Case(
        [
            old(
                files={**KEEP, "etc/a": file("1"), "etc/b": file("2"), "etc/c": file("3")},
                conffiles=["/etc/a", "/etc/b", "/etc/c"],
            )
        ],
        [new(files={**KEEP, "etc/b": file("2")}, conffiles=["/etc/b"])],
    ),
    "conf: over somebody's file": Case([old(files=KEEP)], [new(**conf("1"))], write("etc/demo.conf", "mine")),
    "conf: over the same file of somebody's": Case([old(files=KEEP)], [new(**conf("1"))], write("etc/demo.conf", "1")),
    "conf: a file becomes one": Case([old(files={**KEEP, "etc/demo.conf": file("1")})], [new(**conf("2"))]),
    "conf: one becomes a file": Case(
        [old(**conf("1"))], [new(files={**KEEP, "etc/demo.conf": file("2")})], write("etc/demo.conf", "mine")
    ),
    "conf: its folder was removed": Case(
        [old(files={**KEEP, "etc/d/c": file("1")}, conffiles=["/etc/d/c"])],
        [new(files={**KEEP, "etc/d/c": file("2")}, conffiles=["/etc/d/c"])],
        delete("etc/d"),
    ),
    "conf: a link now": Case(
        [old(**conf("1"))],
        [new(**conf("2", 0o600))],
        all_of(delete("etc/demo.conf"), lambda root: (root / "etc/demo.conf").symlink_to("nowhere")),
    ),
    "conf: taken over, changed": Case(
        [old(name="a", **conf("1"))],
        [new(name="b", files={"etc/demo.conf": file("2")}, fields={"Replaces": "a"}, **CONF)],
        write("etc/demo.conf", "mine"),
    ),
    "conf: taken over, unchanged": Case(
        [old(name="a", **conf("1"))],
        [new(name="b", files={"etc/demo.conf": file("2")}, fields={"Replaces": "a"}, **CONF)],
    ),
    "conf: to be removed, unchanged": Case(
        [old(**conf("1"))], [new(files=KEEP, conffiles=["remove-on-upgrade /etc/demo.conf"])]
    ),
    "conf: to be removed, changed": Case(
        [old(**conf("1"))],
        [new(files=KEEP, conffiles=["remove-on-upgrade /etc/demo.conf"])],
        write("etc/demo.conf", "m"),
    ),
    "conf: to be removed, and gone": Case(
        [old(**conf("1"))], [new(files=KEEP, conffiles=["remove-on-upgrade /etc/demo.conf"])], delete("etc/demo.conf")
    ),
    "conf: to be removed, and a folder now": Case(
        [old(**conf("1"))],
        [new(files=KEEP, conffiles=["remove-on-upgrade /etc/demo.conf"])],
        all_of(delete("etc/demo.conf"), write("etc/demo.conf/mine", "m")),
    ),
    "conf: to be removed, and never one of the package's": Case(
        [old(files=KEEP)],
        [new(files=KEEP, conffiles=["remove-on-upgrade /etc/demo.conf"])],
        write("etc/demo.conf", "m"),
    ),
    "conf: listed and not shipped": Case([old(**conf("1"))], [new(files=KEEP, **CONF)]),
    "conf: listed and never shipped": Case([old(files=KEEP)], [new(files=KEEP, **CONF)]),
    "conf: a link that goes": Case(
        [old(files={**KEEP, "etc/demo.conf": symlink("a")}, **CONF)],
        [new(files=KEEP)],
    ),
    "conf: to be removed, again": Case(
        [old(**conf("1")), new(files=KEEP, conffiles=["remove-on-upgrade /etc/demo.conf"])],
        [Deb(version="3.0", files=KEEP, conffiles=["remove-on-upgrade /etc/demo.conf"])],
        write("etc/demo.conf", "m"),
    ),
    "conf: never shipped, still not": Case(
        [old(files=KEEP, **CONF)],
        [new(files=KEEP, **CONF)],
    ),
    "conf: never shipped, and now": Case([old(files=KEEP, **CONF)], [new(**conf("1"))]),
    "conf: to be removed, of another package's": Case(
        [old(name="a", **conf("1")), old(name="b", files={"usr/b": file()})],
        [new(name="b", files={"usr/b": file()}, conffiles=["remove-on-upgrade /etc/demo.conf"])],
    ),
    # paths that are somebody else's, too
    "a file is taken over": Case(
        [old(name="a", files={**KEEP, "usr/x": file("1")})],
        [new(name="b", files={"usr/x": file("2")}, fields={"Replaces": "a (<< 2)"})],
    ),
    "a file that was taken over stays so": Case(
        [
            old(name="a", files={**KEEP, "usr/x": file("1")}),
            old(name="b", files={"usr/x": file("2")}, fields={"Replaces": "a"}),
        ],
        [new(name="a", files={**KEEP, "usr/x": file("3")})],
    ),
    "a file moves to another package": Case(
        [old(name="a", files={**KEEP, "usr/x": file("1")}), old(name="b", files={"usr/b": file("1")})],
        [
            new(name="a", files=KEEP),
            new(name="b", files={"usr/b": file("2"), "usr/x": file("2")}, fields={"Replaces": "a (<< 2)"}),
        ],
    ),
    "a diverted file": Case(
        [old(name="demo", files={**KEEP, "usr/bin/tool": file("1", 0o755)})],
        [new(name="demo", files={**KEEP, "usr/bin/tool": file("2", 0o755)})],
        diverted,
    ),
    "a diverted file goes": Case([old(files={**KEEP, "usr/bin/tool": file("1")})], [new(files=KEEP)], diverted),
    "the diverting package": Case(
        [old(name="demo", files={**KEEP, "usr/bin/tool": file("1", 0o755)})],
        [new(name="other", files={"usr/bin/tool": file("other")})],
        diverted,
    ),
    "overridden attributes": Case(
        [old(files={"usr/bin/tool": file("1"), **conf("1")["files"]}, **CONF)],  # type: ignore[dict-item]
        [
            new(
                files={"usr/bin/tool": file("2"), "usr/share/private": directory(), **conf("2")["files"]},  # type: ignore[dict-item]
                **CONF,
            )
        ],
        overridden,
    ),
}


@pytest.fixture
def case_root(tmp_path: Path) -> Path:
    need("dpkg", root=True)
    return empty_root(tmp_path / "root")


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_dpkgs(name: str, case_root: Path, tmp_path: Path) -> None:
    case = CASES[name]
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    first = dpkg(case_root, *(deb.write(tmp_path / "before") for deb in case.before), options=case.options)
    assert first.returncode == 0, first.stderr
    case.meanwhile(case_root)
    ours = copy_root(case_root, tmp_path / "ours")
    debs = [deb.write(tmp_path / "after") for deb in case.after]

    real = dpkg(case_root, *debs, options=case.options)
    compose_onto(ours, debs, tmp_path / "scratch")

    assert real.returncode == 0, real.stderr
    assert differences(case_root, ours) == []


FILTERS = """
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude /usr/share/man/*
"""


def test_filtered_paths_are_left_out_as_by_dpkg(case_root: Path, tmp_path: Path) -> None:
    options = [
        "--path-exclude=/usr/share/doc/*",
        "--path-include=/usr/share/doc/*/copyright",
        "--path-exclude=/usr/share/man/*",
    ]
    files = {
        "usr/share/doc/demo/copyright": file("free"),
        "usr/share/doc/demo/changelog": file("log"),
        "usr/share/man/man1/demo.1": file("manual"),
        "usr/share/man/link.1": symlink("man1/demo.1"),
        **KEEP,
    }
    assert dpkg(case_root, old(files=files).write(tmp_path)).returncode == 0
    (case_root / "etc/dpkg/dpkg.cfg.d").mkdir(parents=True)
    (case_root / "etc/dpkg/dpkg.cfg.d/docker").write_text(FILTERS)
    ours = copy_root(case_root, tmp_path / "ours")
    deb = new(files={**files, "usr/share/doc/demo/extra/copyright": file("more")}).write(tmp_path)

    assert dpkg(case_root, deb, options=options).returncode == 0
    compose_onto(ours, [deb], tmp_path / "scratch")

    assert differences(case_root, ours) == []


@pytest.mark.parametrize(
    "after",
    [
        [new(name="b", files={"usr/x": file("2")})],
        [new(name="b", files={"usr/x": file("2")}, fields={"Replaces": "a (<< 1.0)"})],
        [new(name="b", files={"usr/x/y": file("2")})],
    ],
)
def test_a_file_of_another_package_is_refused_as_by_dpkg(after: Sequence[Deb], case_root: Path, tmp_path: Path) -> None:
    assert dpkg(case_root, old(name="a", files={**KEEP, "usr/x": file("1")}).write(tmp_path)).returncode == 0
    debs = [deb.write(tmp_path) for deb in after]

    assert dpkg(copy_root(case_root, tmp_path / "real"), *debs).returncode != 0
    with pytest.raises(PackageError, match=r"usr/x is also in a 1\.0"):
        compose_onto(case_root, debs, tmp_path / "scratch")


def test_a_package_that_would_disappear_is_refused(case_root: Path, tmp_path: Path) -> None:
    assert dpkg(case_root, old(name="a", files={"usr/x": file("1")}).write(tmp_path)).returncode == 0
    deb = new(name="b", files={"usr/x": file("2")}, fields={"Replaces": "a"}).write(tmp_path)

    with pytest.raises(PackageError, match=r"a 1\.0 would disappear"):
        compose_onto(case_root, [deb], tmp_path / "scratch")


def test_a_file_of_another_package_is_its_own_though_somebody_has_removed_it(case_root: Path, tmp_path: Path) -> None:
    assert dpkg(case_root, old(name="a", files={**KEEP, "usr/x": file("1")}).write(tmp_path)).returncode == 0
    (case_root / "usr/x").unlink()
    deb = new(name="b", files={"usr/x": file("2")}).write(tmp_path)

    assert dpkg(copy_root(case_root, tmp_path / "real"), deb).returncode != 0
    with pytest.raises(PackageError, match=r"usr/x is also in a 1\.0"):
        compose_onto(case_root, [deb], tmp_path / "scratch")


def test_a_link_of_another_package_is_no_folder_of_this_one_s(case_root: Path, tmp_path: Path) -> None:
    assert dpkg(case_root, old(name="a", files={**KEEP, "usr/x": symlink("nowhere")}).write(tmp_path)).returncode == 0
    deb = new(name="b", files={"usr/x/y": file("2")}).write(tmp_path)

    assert dpkg(copy_root(case_root, tmp_path / "real"), deb).returncode != 0
    with pytest.raises(PackageError, match=r"usr/x is also in a 1\.0"):
        compose_onto(case_root, [deb], tmp_path / "scratch")
