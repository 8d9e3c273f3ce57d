# SPDX-License-Identifier: Apache-2.0
"""
Images in a directory: the OCI image layout (image-spec, image-layout.md).

What is written becomes visible by one rename of index.json; until then it lies in a folder of its own, which a killed
run leaves behind and the next publisher removes. The only things ever deleted are those folders.

Manifests are stored as they are, also Docker's: the specification allows other media types, crane and containerd
read them, skopeo wants OCI manifests in a layout.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from copacetic.errors import IntegrityError, UsageError
from copacetic.oci.blobs import BlobWindow, copy_checked, disk_errors, open_regular, read_whole
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.layoutindex import add_entry, find_root, find_tag, replace_entry
from copacetic.oci.manifest import MANIFEST_LIMIT
from copacetic.oci.referrers import Document, list_referrer, make_referrer, referrers_tag
from copacetic.oci.transport import ByteStream, Destination, Published, Source

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
_STAGING = ".copa-"


class LayoutSource:
    """Reads one tag of a layout, or its only image."""

    def __init__(self, path: Path, tag: str = "") -> None:
        self.path = path
        self._tag = tag
        self.name = f"oci:{path}:{tag}" if tag else f"oci:{path}"

    def root(self) -> tuple[Descriptor, bytes]:
        missing = f"{self.path} is not an OCI layout: it has no index.json"
        with open_regular(self.path / "index.json", missing=missing) as (handle, size):
            where = f"{self.path}/index.json"
            raw = read_whole(BlobWindow(handle, 0, size, where), limit=MANIFEST_LIMIT, where=where)
        return find_root(raw, self._tag, self.name, self.manifest)

    def manifest(self, descriptor: Descriptor) -> bytes:
        with self.open_blob(descriptor) as stream:
            raw = read_whole(stream, limit=MANIFEST_LIMIT, where=f"{self.name}: {descriptor.digest}")
        descriptor.check(raw, where=self.name)
        return raw

    @contextlib.contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
        where = f"{self.name}: {descriptor.digest}"
        missing = f"{self.name} has no blob {descriptor.digest}"
        with open_regular(self.blob_path(descriptor), missing=missing) as (handle, size):
            if size != descriptor.size:
                raise IntegrityError(f"{where} has {size} bytes instead of {descriptor.size}")
            yield BlobWindow(handle, 0, size, where)

    def blob_path(self, descriptor: Descriptor) -> Path:
        return _blob_path(self.path, descriptor)


def _blob_path(root: Path, descriptor: Descriptor) -> Path:
    return root / "blobs" / descriptor.digest.algorithm / descriptor.digest.encoded


class LayoutDestination:
    """
    Writes into a new or an existing layout.

    Blobs that are there with the right size are taken as they are. Several may publish into one layout at once.
    """

    def __init__(self, path: Path, tag: str = "") -> None:
        self._path = path
        self._tag = tag
        self.name = f"oci:{path}:{tag}" if tag else f"oci:{path}"
        self._staging: Path | None = None
        self._staging_lock = -1
        self._created: list[Path] = []
        self._attached: dict[Digest, list[Descriptor]] = {}

    def __enter__(self) -> Self:
        with disk_errors(f"can't write the layout {self._path}"):
            self._refuse_other_directory()
            self._create_directories()
            with self._lock():
                staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self._path))
                self._staging_lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._staging_lock, fcntl.LOCK_EX)
                self._staging = staging
        return self

    def __exit__(self, *exc: object) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            os.close(self._staging_lock)
            self._staging = None
        for path in reversed(self._created):
            with contextlib.suppress(OSError):  # not empty: published, or somebody else's by now
                path.rmdir()

    def copy_blob(self, descriptor: Descriptor, source: Source) -> None:
        if self._has(descriptor):
            return
        if isinstance(source, LayoutSource) and self._link(descriptor, source):
            return
        with source.open_blob(descriptor) as stream:
            self._stage(descriptor, stream, source.name)

    def write_blob(self, descriptor: Descriptor, path: Path) -> None:
        if self._has(descriptor):
            return
        with open_regular(path, missing=f"{path} is gone") as (handle, size):
            self._stage(descriptor, BlobWindow(handle, 0, size, str(path)), str(path))

    def write_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        descriptor.check(raw, where=self.name)
        target = self._staged(descriptor)
        with disk_errors(f"can't write {target}"):
            target.write_bytes(raw)

    def attach(self, subject: Descriptor, document: Document) -> None:
        """As an entry of index.json, and in the list of the subject's referrers, which is another entry."""
        referrer = make_referrer(subject, document)
        for descriptor, data in (*referrer.blobs, (referrer.descriptor, referrer.raw)):
            self.write_manifest(descriptor, data)
        self._attached.setdefault(subject.digest, []).append(referrer.descriptor)

    def publish(self, descriptor: Descriptor, raw: bytes) -> Published:
        self.write_manifest(descriptor, raw)
        assert self._staging is not None
        with disk_errors(f"can't publish to {self._path}"), self._lock():
            index = replace_entry(self._read_index(), descriptor, self._tag, self.name)
            for subject, referrers in self._attached.items():
                index = self._list_referrers(index, subject, referrers)
            self._remove_leftovers()
            self._reveal_blobs()
            layout = self._path / "oci-layout"
            if not layout.exists():
                _write_file(self._staging / "oci-layout", LAYOUT_FILE).replace(layout)
            _write_file(self._staging / "index.json", index).replace(self._path / "index.json")
        return Published(name=self.name, digest=descriptor.digest)

    def _list_referrers(self, index: bytes, subject: Digest, referrers: Sequence[Descriptor]) -> bytes:
        tag = referrers_tag(subject)
        where = f"oci:{self._path}:{tag}"
        entry = find_tag(index, tag, self.name)
        raw = None if entry is None else LayoutSource(self._path, tag).manifest(entry)
        for referrer in referrers:
            entry, raw = list_referrer(raw, referrer, where)
            index = add_entry(index, referrer, self.name)
        assert entry is not None
        assert raw is not None
        self.write_manifest(entry, raw)
        return replace_entry(index, entry, tag, self.name)

    def _refuse_other_directory(self) -> None:
        """Writing between somebody's own files is a slip of the keyboard rather than a wish."""
        if not self._path.exists():
            return
        if not self._path.is_dir():
            raise UsageError(f"{self._path} is not a directory", hint="for a file write oci-archive:FILE")
        names = {entry.name for entry in self._path.iterdir() if not entry.name.startswith(_STAGING)}
        if names - {"blobs"} and not names & {"oci-layout", "index.json"}:
            hint = "name an empty or a new directory"
            raise UsageError(f"{self._path} is neither empty nor an OCI layout", hint=hint)
        if "index.json" in names:
            # Said now rather than after all the work; `publish` looks again.
            probe = Descriptor.from_json({"mediaType": "", "digest": "sha256:" + 64 * "0", "size": 0}, "")
            replace_entry(self._read_index(), probe, self._tag, self.name)

    def _create_directories(self) -> None:
        missing = []
        path = self._path
        while not path.exists():
            missing.append(path)
            path = path.parent
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                self._created.append(path)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        handle = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _read_index(self) -> bytes | None:
        path = self._path / "index.json"
        if not path.exists():
            return None
        with open_regular(path, missing=f"{path} is gone") as (handle, size):
            return read_whole(BlobWindow(handle, 0, size, str(path)), limit=MANIFEST_LIMIT, where=str(path))

    def _has(self, descriptor: Descriptor) -> bool:
        for path in (_blob_path(self._path, descriptor), self._staged(descriptor)):
            try:
                if path.stat().st_size == descriptor.size and path.is_file():
                    return True
            except OSError:
                continue
        return False

    def _staged(self, descriptor: Descriptor) -> Path:
        assert self._staging is not None, "used outside of its context"
        return self._staging / f"{descriptor.digest.algorithm}-{descriptor.digest.encoded}"

    def _stage(self, descriptor: Descriptor, stream: ByteStream, where: str) -> None:
        target = self._staged(descriptor)
        partial = _partial(target)
        with disk_errors(f"can't write {target}"), partial.open("wb", buffering=0) as file:
            copy_checked(stream, _write_whole(file.fileno()), descriptor, where=where)
            partial.rename(target)

    def _link(self, descriptor: Descriptor, source: LayoutSource) -> bool:
        """Share the file on the disk, after its digest was checked; tell whether that was possible."""
        target = self._staged(descriptor)
        partial = _partial(target)
        try:
            partial.hardlink_to(source.blob_path(descriptor).resolve(strict=True))
        except OSError:  # another disk, no permission, or not there: copying finds out which
            return False
        with open_regular(partial, missing=f"{partial} is gone") as (handle, size):
            window = BlobWindow(handle, 0, size, str(partial))
            copy_checked(window, lambda _data: None, descriptor, where=source.name)
        with disk_errors(f"can't write {target}"):
            partial.rename(target)
        return True

    def _reveal_blobs(self) -> None:
        assert self._staging is not None
        for staged in self._staging.iterdir():
            algorithm, dash, encoded = staged.name.partition("-")
            if staged.suffix == ".part" or not dash or algorithm == "oci":
                continue
            folder = self._path / "blobs" / algorithm
            folder.mkdir(parents=True, exist_ok=True)
            staged.replace(folder / encoded)

    def _remove_leftovers(self) -> None:
        """A staging folder whose lock nobody holds belongs to a run that was killed."""
        for folder in self._path.glob(f"{_STAGING}*"):
            if folder == self._staging:
                continue
            with contextlib.suppress(OSError):
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(handle)


def _partial(target: Path) -> Path:
    """Two threads may write the same blob: the later rename wins, both are right."""
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")


def _write_whole(handle: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]

    return write


def _write_file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


_SOURCE: type[Source] = LayoutSource
_DESTINATION: type[Destination] = LayoutDestination
