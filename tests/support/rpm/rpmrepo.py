# SPDX-License-Identifier: Apache-2.0
"""
A small rpm repository on loopback, and images that have it among theirs.

    with serve_rpms([Rpm(name="foo", version="2")]) as repository:
        here = context(image(repository), [Rpm(name="foo", version="1")], cache)
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from pysequoia import ArmorKind, armor

from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.http import HttpClient, HttpSettings
from copacetic.inventory.rpm.record import RpmRecord
from copacetic.progress import Silent
from copacetic.repository import RepositoryContext, RepositorySettings
from copacetic.repository.rpm import RpmRepository
from copacetic.updates import InstalledPackage, Resolution, Wanted
from support.image.trees import Content, tree
from support.rpm.rpmfiles import ARCHITECTURE, BUILT, Rpm, relation
from support.rpm.rpmsigners import Signer, modern_signer
from support.server.served import Served, serve
from support.value.values import HERE

OS_RELEASE = 'NAME="Tests"\nID="almalinux"\nID_LIKE="rhel fedora"\nVERSION_ID="9.3"\nPLATFORM_ID="platform:el9"\n'
KEY = "etc/pki/rpm-gpg/RPM-GPG-KEY-tests"
DEFINITION = "etc/yum.repos.d/tests.repo"
_FLAGS = {2: "LT", 4: "GT", 8: "EQ", 10: "LE", 12: "GE"}
_NAMESPACES = 'xmlns="http://linux.duke.edu/metadata/{}" xmlns:rpm="http://linux.duke.edu/metadata/rpm"'


@dataclass(slots=True)
class RpmServer(Served):
    """One repository."""

    folder: str = "el9/BaseOS"
    signer: Signer | None = field(default_factory=modern_signer)
    """Of packages."""
    metadata_signer: Signer | None = None

    @property
    def url(self) -> str:
        return f"{self.address}/{self.folder}"

    def publish(
        self,
        rpms: Sequence[Rpm],
        *,
        primary: str | None = None,
        more: Mapping[str, bytes] | None = None,
        compress: str = "gz",
        date: int = BUILT,
        checksum: str = "sha256",
        repomd: str | None = None,
    ) -> None:
        """
        Write packages and metadata; `more` are further kinds of it by name (`updateinfo`, `modules`), `primary` and
        `repomd` replace the texts.
        """
        rows, lists = [], ""
        for rpm in rpms:
            data = rpm.to_bytes(self.signer)
            self.files[f"{self.folder}/Packages/{rpm.file_name}"] = data
            rows.append(package_xml(rpm, data, checksum))
            lists += files_xml(rpm, data, checksum)
        text = f'<metadata {_NAMESPACES.format("common")} packages="{len(rows)}">\n{"".join(rows)}</metadata>\n'
        files = {
            "primary": (text if primary is None else primary).encode(),
            "filelists": f"<filelists {_NAMESPACES.format('filelists')}>\n{lists}</filelists>\n".encode(),
            **(more or {}),
        }
        parts = []
        for kind, plain in files.items():
            body = packed(plain, compress)
            digest = hashlib.sha256(body).hexdigest()
            name = f"repodata/{digest}-{kind}.xml.{compress}"
            self.files[f"{self.folder}/{name}"] = body
            parts.append(
                f'<data type="{kind}"><checksum type="sha256">{digest}</checksum><location href="{name}"/>'
                f"<timestamp>{date}</timestamp><size>{len(body)}</size><open-size>{len(plain)}</open-size></data>\n"
            )
        document = f"<repomd {_NAMESPACES.format('repo')}>\n<revision>{date}</revision>\n{''.join(parts)}</repomd>\n"
        described = (document if repomd is None else repomd).encode()
        self.files[f"{self.folder}/repodata/repomd.xml"] = described
        self.files.pop(f"{self.folder}/repodata/repomd.xml.asc", None)
        if self.metadata_signer is not None:
            signature = armor(self.metadata_signer.sign(described), kind=ArmorKind.Signature)
            self.files[f"{self.folder}/repodata/repomd.xml.asc"] = str(signature).encode()

    def definition(self, **values: str) -> str:
        """Return a .repo file."""
        known = {"name": "tests", "baseurl": f"{self.url}/", "gpgkey": f"file:///{KEY}", **values}
        return "[tests]\n" + "".join(f"{key}={value}\n" for key, value in known.items() if value)


def packed(plain: bytes, kind: str) -> bytes:
    import bz2
    import lzma

    import zstandard

    packers = {
        "gz": lambda data: gzip.compress(data, mtime=0),
        "xz": lzma.compress,
        "bz2": bz2.compress,
        "zst": zstandard.ZstdCompressor().compress,
    }
    return packers[kind](plain)


def package_xml(rpm: Rpm, data: bytes, checksum: str = "sha256") -> str:
    """Write what primary metadata has of a package."""
    lists = "".join(
        f"<rpm:{kind}>{''.join(_entry(one) for one in relations)}</rpm:{kind}>"
        for kind, relations in (
            ("provides", rpm.all_provides),
            ("requires", rpm.requires),
            ("conflicts", rpm.conflicts),
            ("obsoletes", rpm.obsoletes),
        )
        if relations
    )
    files = "".join(f"<file>{escape(path)}</file>" for path in rpm.files if path.startswith("/etc/") or "bin/" in path)
    digest = hashlib.new("sha1" if checksum == "sha" else checksum, data).hexdigest()
    return (
        f'<package type="rpm"><name>{rpm.name}</name><arch>{rpm.architecture}</arch>'
        f'<version epoch="{rpm.epoch or 0}" ver="{rpm.version}" rel="{rpm.release}"/>'
        f'<checksum type="{checksum}" pkgid="YES">{digest}</checksum><summary>s</summary>'
        f'<description>a &lt; b</description><time file="{BUILT}" build="{BUILT}"/>'
        f'<size package="{len(data)}" installed="1" archive="1"/><location href="Packages/{rpm.file_name}"/>'
        f"<format><rpm:vendor>{rpm.vendor}</rpm:vendor><rpm:sourcerpm>{rpm.source_rpm}</rpm:sourcerpm>"
        f"{lists}{files}</format></package>\n"
    )


def files_xml(rpm: Rpm, data: bytes, checksum: str = "sha256") -> str:
    digest = hashlib.new("sha1" if checksum == "sha" else checksum, data).hexdigest()
    files = "".join(f"<file>{escape(path)}</file>" for path in rpm.files)
    return f'<package pkgid="{digest}" name="{rpm.name}" arch="{rpm.architecture}">{files}</package>\n'


def _entry(text: str) -> str:
    name, flags, evr = relation(text)
    if not flags:
        return f"<rpm:entry name={quoteattr(name)}/>"
    epoch, _, rest = evr.rpartition(":")
    version, _, release = rest.rpartition("-") if "-" in rest else (rest, "", "")
    more = f' rel="{release}"' if release else ""
    return f'<rpm:entry name={quoteattr(name)} flags="{_FLAGS[flags]}" epoch="{epoch or 0}" ver="{version}"{more}/>'


@contextmanager
def serve_rpms(rpms: Sequence[Rpm] = ()) -> Iterator[RpmServer]:
    """Publish packages on loopback, until the context ends."""
    repository = RpmServer()
    with serve(repository):
        repository.publish(rpms)
        yield repository


def rpm_image(repository: RpmServer | None, **more: Content) -> dict[str, Content]:
    """Return the files of an image that has a repository and its key; what is installed is for `context` to say."""
    files: dict[str, Content] = {"etc/os-release": OS_RELEASE}
    if repository is not None:
        files[DEFINITION] = repository.definition()
        if repository.signer is not None:
            files[KEY] = repository.signer.public
    return {**files, **more}


def installed_rpm(rpm: Rpm, number: int = 1) -> InstalledPackage:
    source = rpm.source_rpm.rpartition("-")[0].rpartition("-")[0]
    return InstalledPackage(
        name=rpm.name,
        version=rpm.evr,
        architecture=rpm.architecture,
        source_name=source,
        source_version=rpm.evr,
        record=RpmRecord(rpm.header(), number),
    )


def context(files: Mapping[str, Content], rpms: Sequence[Rpm], cache: Path, **settings: object) -> RepositoryContext:
    """`settings` are those of repositories; nothing of this machine is used."""
    return RepositoryContext(
        fs=tree(files), package_type="rpm",
        installed=tuple(installed_rpm(rpm, number) for number, rpm in enumerate(rpms, start=1)),
        architecture=ARCHITECTURE, distro=Distro.parse(str(files["etc/os-release"]).encode()),
        http=HttpClient(HttpSettings(retries=0)), cache=Cache(cache), now=datetime.now(UTC),
        settings=RepositorySettings(**{"host_root": None, "reach": HERE, **settings}), progress=Silent(),  # type: ignore[arg-type]
    )  # fmt: skip


def opened(files: Mapping[str, Content], rpms: Sequence[Rpm], cache: Path, **settings: object) -> RpmRepository:
    return RpmRepository.open(context(files, rpms, cache, **settings))


def resolution(files: Mapping[str, Content], rpms: Sequence[Rpm], cache: Path, **settings: object) -> Resolution:
    """Ask for the newest of everything."""
    here = context(files, rpms, cache, **settings)
    wanted = [Wanted(package=package) for package in here.installed]
    return RpmRepository.open(here).resolve(wanted, exhaustive=True)


def changes(found: Resolution) -> dict[str, str]:
    return {update.candidate.name: update.candidate.version for update in found.updates}
