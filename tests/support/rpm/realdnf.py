# SPDX-License-Identifier: Apache-2.0
"""The host's dnf, asked what `dnf upgrade` would do to a root that has some packages in its database, and no files."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.rpm.dependency import EQUAL, GREATER, LESS, Requirement, RpmDependency
from support.deb.debian import need

__all__ = ["dnf_upgrade", "install_in_database"]

_PYTHON = "/usr/bin/python3"
_FLAGS = {EQUAL: "EQ", LESS: "LT", GREATER: "GT", LESS | EQUAL: "LE", GREATER | EQUAL: "GE"}
_PROGRAM = """
import json, sys, dnf
base = dnf.Base()
conf = base.conf
asked = json.load(sys.stdin)
conf.installroot, conf.cachedir, conf.plugins, conf.releasever = asked["root"], asked["cache"], False, "9"
conf.substitutions["arch"] = conf.substitutions["basearch"] = conf.arch = "x86_64"
conf.install_weak_deps, conf.best, conf.installonlypkgs = False, False, asked["install_only"]
for name, (path, priority) in asked["repositories"].items():
    base.repos.add_new_repo(name, conf, baseurl=["file://" + path], priority=priority, gpgcheck=False)
base.fill_sack(load_system_repo=True)
base.upgrade_all()
base.resolve(allow_erasing=False)
print(json.dumps({
    "new": sorted("%s-%s.%s" % (p.name, p.evr, p.arch) for p in base.transaction.install_set),
    "gone": sorted("%s-%s.%s" % (p.name, p.evr, p.arch) for p in base.transaction.remove_set),
}))
"""


def install_in_database(root: Path, offers: Sequence[RpmOffer]) -> None:
    """Make packages without files, and put them into a root's database."""
    need("rpmbuild", "rpm")
    top = root.parent / f"{root.name}-build"
    spec = top / "all.spec"
    top.mkdir(parents=True)
    _set_place(top)
    spec.write_text("\n".join([_SPEC_START, *(line for offer in offers for line in _spec(offer))]))
    define = ["--define", f"_topdir {top}", "--define", f"_rpmdir {top}/rpms", "--target", "x86_64"]
    define += ["--define", "_build_id_links none"]
    _run(["rpmbuild", "-bb", "--quiet", "--nodeps", *define, str(spec)], top)
    packages = sorted(map(str, (top / "rpms").rglob("*.rpm")))
    assert len(packages) == len(offers)
    root.mkdir(parents=True)
    _run(["rpm", "--root", str(root), "--initdb"], top)
    options = ["--justdb", "--nodeps", "--ignorearch", "--noscripts", "--nosignature", "--oldpackage", "--force"]
    _run(["rpm", "--root", str(root), "-i", *options, *packages], top)


def _set_place(home: Path) -> None:
    """Debian's rpm has its database in the home of whoever runs it."""
    (home / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")


_SPEC_START = """Name: made
Version: 1
Release: 1
Summary: x
License: x
AutoReqProv: no
%description
x
%build
"""


def _spec(offer: RpmOffer) -> list[str]:
    version, _, release = offer.evr.partition("-")
    lines = [f"%package -n {offer.name}", f"Version: {version}", f"Release: {release}", "Summary: x", "AutoReqProv: no"]
    lines += ["BuildArch: noarch"] if offer.architecture == "noarch" else []
    for tag, some in _relations(offer):
        lines += [f"{tag}: {one}" for one in some]
    return [*lines, f"%description -n {offer.name}", "x", f"%files -n {offer.name}", ""]


def _relations(offer: RpmOffer) -> list[tuple[str, Sequence[Requirement]]]:
    return [
        ("Provides", offer.provides),
        ("Requires", offer.requires),
        ("Conflicts", offer.conflicts),
        ("Obsoletes", offer.obsoletes),
    ]


def _write_repository(folder: Path, offers: Sequence[RpmOffer]) -> None:
    """Write the metadata of packages that don't exist."""
    packages = "".join(_package(offer) for offer in offers)
    primary = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<metadata xmlns="http://linux.duke.edu/metadata/common" '
        f'xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="{len(offers)}">{packages}</metadata>\n'
    ).encode()
    (folder / "repodata").mkdir(parents=True)
    (folder / "repodata/primary.xml").write_bytes(primary)
    digest = hashlib.sha256(primary).hexdigest()
    (folder / "repodata/repomd.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>'
        f'<data type="primary"><checksum type="sha256">{digest}</checksum><open-checksum type="sha256">{digest}'
        f'</open-checksum><location href="repodata/primary.xml"/><timestamp>1</timestamp><size>{len(primary)}</size>'
        f"<open-size>{len(primary)}</open-size></data></repomd>\n"
    )


def _package(offer: RpmOffer) -> str:
    version, _, release = offer.evr.partition("-")
    digest = hashlib.sha256(offer.nevra.encode()).hexdigest()
    lists = "".join(
        f"<rpm:{tag.lower()}>{''.join(map(_entry, some))}</rpm:{tag.lower()}>"
        for tag, some in [("Provides", (offer.itself, *offer.provides)), *_relations(offer)[1:]]
        if some
    )
    return (
        f'<package type="rpm"><name>{offer.name}</name><arch>{offer.architecture}</arch>'
        f'<version epoch="0" ver="{version}" rel="{release}"/><checksum type="sha256" pkgid="YES">{digest}</checksum>'
        '<summary>x</summary><description>x</description><packager/><url/><time file="1" build="1"/>'
        f'<size package="1" installed="1" archive="1"/><location href="{offer.nevra}.rpm"/><format>'
        f"<rpm:license>x</rpm:license>{lists}{''.join(f'<file>{path}</file>' for path in offer.files)}</format></package>"
    )


def _entry(requirement: Requirement) -> str:
    if not isinstance(requirement, RpmDependency) or not requirement.flags:
        return f"<rpm:entry name={quoteattr(str(requirement))}/>"
    version, _, release = requirement.evr.partition("-")
    ending = f' rel="{release}"' if release else ""
    name, flags = quoteattr(requirement.name), _FLAGS[requirement.flags]
    return f'<rpm:entry name={name} flags="{flags}" epoch="0" ver="{version}"{ending}/>'


def dnf_upgrade(
    folder: Path,
    installed: Sequence[RpmOffer],
    offers: Sequence[RpmOffer],
    *,
    install_only: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Return what `dnf upgrade` brings in, and what goes, without recommendations."""
    need("dnf")
    root = folder / "root"
    install_in_database(root, installed)
    repositories: dict[str, list[RpmOffer]] = {}
    for offer in offers:
        repositories.setdefault(offer.repository, []).append(offer)
    asked = {
        "root": str(root),
        "cache": str(folder / "cache"),
        "install_only": list(install_only),
        "repositories": {name: (str(folder / name), some[0].priority) for name, some in repositories.items()},
    }
    _set_place(folder)
    for name, some in repositories.items():
        _write_repository(folder / name, some)
    found = json.loads(_run([_PYTHON, "-c", _PROGRAM], folder, json.dumps(asked)))
    return found["new"], found["gone"]


def _run(command: Sequence[str], folder: Path, given: str = "") -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    run = subprocess.run(command, input=given, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, f"{command[:4]}: {run.stdout[-2000:]} {run.stderr[-4000:]}"
    return run.stdout
