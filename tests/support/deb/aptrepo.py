# SPDX-License-Identifier: Apache-2.0
"""
A small signed apt repository on loopback, and images that have it in their sources.

    with serve_repository(tmp_path, [Deb(name="foo", version="2.0-1")]) as repository:
        image = debian_image(tmp_path / "layout", repository, [Deb(name="foo", version="1.0-1")])
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import zstandard
from pysequoia import SignatureMode, Tsk, sign

from copacetic.deb.deb822 import parse_stanza
from copacetic.inventory.dpkg.rewrite import DebRecord, file_list, installed_stanza
from support.deb.debs import Deb, file
from support.image.images import Image, make_image, make_layer, write_layout
from support.server.served import Served, serve

OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'


@dataclass(slots=True)
class Repository(Served):
    """A signed suite; tests change `files` and `statuses` to break it."""

    suite: str = "stable-security"
    architectures: tuple[str, ...] = ("amd64",)
    """Each with an index of the packages for it, and for all."""
    components: tuple[str, ...] = ("main",)
    endings: tuple[str, ...] = ("", ".gz", ".xz")
    flat: bool = False
    """Whether `suite` is a plain directory, ending in a slash."""
    key: Any = field(default_factory=lambda: Tsk.generate("Tests <tests@example.com>"))
    debs: list[Deb] = field(default_factory=list)

    @property
    def definition(self) -> str:
        return f"deb {self.address} {self.suite} main"

    @property
    def certificate(self) -> bytes:
        return bytes(self.key.extract_certificate())

    def publish(
        self,
        debs: Sequence[Deb] | None = None,
        *,
        release: Mapping[str, str] | None = None,
        packages: str | None = None,
    ) -> None:
        """Write the indexes anew; `release` replaces fields of the Release, `packages` the whole index."""
        self.debs = list(self.debs if debs is None else debs)
        stanzas = []
        for deb in self.debs:
            data = deb.to_bytes()
            path = f"pool/{deb.name}_{deb.version.replace(':', '%3a')}_{deb.architecture}.deb"
            self.files[path] = data
            more = {"Filename": path, "Size": str(len(data)), "SHA256": hashlib.sha256(data).hexdigest()}
            stanzas.append(_control(deb) + "".join(f"\n{name}: {value}" for name, value in more.items()))
        rows = list(zip(self.debs, stanzas, strict=True))
        if self.flat:
            indexes = {"Packages": _index(stanzas)}
        else:
            indexes = {
                f"{component}/binary-{arch}/Packages": _index(
                    f"{s}\nSection: {component}" for d, s in rows if d.architecture in {arch, "all"}
                )
                for arch in self.architectures
                for component in self.components
            }
        if packages is not None:
            indexes = dict.fromkeys(indexes, packages.encode())
        self.write_release(indexes, release)

    def write_release(self, indexes: Mapping[str, bytes], fields: Mapping[str, str] | None = None) -> None:
        """Write indexes by their paths, without an ending, and the Release that vouches for them."""
        folder = self.suite.strip("/") if self.flat else f"dists/{self.suite}"
        rows = []
        for stem, index in indexes.items():
            for ending in self.endings:
                data = _COMPRESSIONS[ending](index)
                digest = hashlib.sha256(data).hexdigest()
                rows.append(f" {digest} {len(data)} {stem}{ending}")
                self.files[f"{folder}/{stem}{ending}"] = data
                self.files[f"{folder}/{stem.removesuffix('Packages')}by-hash/SHA256/{digest}"] = data
        now = datetime.now(UTC)
        values = {
            "Origin": "Tests", "Label": "Tests-Security", "Suite": self.suite, "Codename": self.suite,
            "Date": format_datetime(now - timedelta(hours=1)), "Valid-Until": format_datetime(now + timedelta(days=7)),
            "Acquire-By-Hash": "yes", "Architectures": f"{' '.join(self.architectures)} all",
            "Components": " ".join(self.components), **(fields or {}), "SHA256": "\n" + "\n".join(rows),
        }  # fmt: skip
        text = "".join(f"{name}: {value}\n" for name, value in values.items() if value).encode()
        signer = self.key.signer()
        self.files[f"{folder}/Release"] = text
        self.files[f"{folder}/Release.gpg"] = sign(signer, text, mode=SignatureMode.DETACHED)
        self.files[f"{folder}/InRelease"] = sign(signer, text, mode=SignatureMode.CLEAR)


def _index(stanzas: Iterable[str]) -> bytes:
    return ("\n\n".join(stanzas) + "\n").encode()


_COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".bz2": bz2.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def _control(deb: Deb) -> str:
    """The package's own control file."""
    (control,) = (m.content for name, m in deb.control_members() if name.lstrip("./") == "control")
    return control.decode().strip()


@contextmanager
def serve_repository(debs: Sequence[Deb]) -> Iterator[Repository]:
    """Publish packages on loopback, until the context ends."""
    repository = Repository()
    with serve(repository):
        repository.publish(debs)
        yield repository


def installed_files(debs: Sequence[Deb], *, held: Sequence[str] = ()) -> dict[str, bytes | str]:
    """Return the files of an image in which packages are installed, with dpkg's database."""
    files: dict[str, bytes | str] = {"etc/os-release": OS_RELEASE}
    stanzas = []
    for deb in sorted(debs, key=lambda d: d.name):
        members = {name.removeprefix("./"): member for name, member in deb.control_members()}
        paths = tuple(name.removeprefix("./").strip("/").removeprefix(".") for name, _ in deb.data_members())
        record = DebRecord(
            control=parse_stanza(_control(deb)),
            control_files={n: m.content for n, m in members.items() if n not in {"control", "", "."}},
            files=("", *filter(None, paths)),
        )
        stanza = installed_stanza(record)
        stanzas.append(stanza.replace("install ok", "hold ok") if deb.name in held else stanza)
        stem = f"var/lib/dpkg/info/{record.info_name}"
        files[f"{stem}.list"] = file_list(record)
        files.update({f"{stem}.{name}": data for name, data in record.control_files.items()})
        files.update({path: member.content for path, member in deb.files.items() if member.type == b"0"})
    files["var/lib/dpkg/status"] = "\n\n".join(stanzas) + "\n\n"
    return files


def debian_image(
    repository: Repository,
    debs: Sequence[Deb],
    *,
    held: Sequence[str] = (),
    more: Mapping[str, bytes | str] | None = None,
    compression: str = "gzip",
    **image: Any,
) -> Image:
    """Return an image with packages installed and the repository in its sources."""
    files = {
        "etc/apt/sources.list": f"{repository.definition}\n",
        "etc/apt/trusted.gpg.d/tests.gpg": repository.certificate,
        **installed_files(debs, held=held),
        **(more or {}),
    }
    kind = image.get("kind", "oci")
    return make_image([make_layer(files, compression=compression, kind=kind)], **image)


def write_image(folder: Path, image: Image, tag: str = "1") -> str:
    """Write an image as a layout and return its location."""
    return f"oci:{write_layout(folder, {tag: image})}:{tag}"


__all__ = [
    "OS_RELEASE",
    "Deb",
    "Repository",
    "debian_image",
    "file",
    "installed_files",
    "serve_repository",
    "write_image",
]
