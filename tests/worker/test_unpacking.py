# SPDX-License-Identifier: Apache-2.0
"""Layers on the worker's disk are what the layer index says they are, and what the kernel then shows a program."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.solving import AMD64, PATH, Recorder, shell
from copacetic import llb
from copacetic.errors import SolverError
from copacetic.llb.solver import Inputs
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.layered import IndexedLayer, LayeredFilesystem
from copacetic.oci.layerindex import scan_layer
from copacetic.worker import WorkerSolver
from support.builder.builder import BASE
from support.builder.worker import debian_image, open_worker
from support.deb.debian import build_root
from support.floors import accepting, tally
from support.image.busybox import busybox_image
from support.image.images import Image, Layer, MemorySource, fixture, make_image, make_layer, make_tar, tar_file
from support.image.trees import TarContents

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def solver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerSolver]:
    with open_worker(tmp_path_factory.mktemp("worker"), images={BASE: busybox_image()}) as worker:
        yield worker


def state_of(image: Image) -> tuple[llb.State, Inputs]:
    state = llb.oci_layout("client/image", image.descriptor.digest, store="it")
    return state, Inputs(images={"it": MemorySource(image)})


def indexed(image: Image) -> LayeredFilesystem:
    """The oracle: the same image, looked at without unpacking anything."""
    indexes = [scan_layer(io.BytesIO(one.blob), one.descriptor, one.diff_id) for one in image.layers]

    return LayeredFilesystem([IndexedLayer(index, TarContents(b"")) for index in indexes])


def facts(fs: ImageFilesystem) -> dict[str, tuple[Any, ...]]:
    """What counts of every path, but for device nodes."""
    groups: dict[str, list[str]] = {}
    found: dict[str, tuple[Any, ...]] = {}
    for path, entry in fs.walk():
        if "device" in entry.type.value:
            continue
        if entry.link_group and entry.type is FileType.FILE:
            groups.setdefault(entry.link_group, []).append(path)
        found[path] = _fact(entry)
    for names in groups.values():
        for name in names if len(names) > 1 else ():
            found[name] = (*found[name], sorted(names))
    return found


def _fact(entry: Entry) -> tuple[Any, ...]:
    mode = 0o777 if entry.type is FileType.SYMLINK else entry.mode
    return (entry.type.value, mode, entry.uid, entry.gid, entry.size, entry.target, entry.sha256, dict(entry.xattrs))


def unpacked(solver: WorkerSolver, image: Image) -> dict[str, tuple[Any, ...]]:
    state, inputs = state_of(image)
    with solver.solve(state.marshal(AMD64), inputs, Recorder()) as result:
        return facts(result.filesystem)


_NAMES = st.sampled_from(["a", "b", "c", "etc", "lib"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_KINDS = st.sampled_from(["file", "file", "directory", "directory", "link", "hard link", "whiteout", "opaque", "pipe"])
_ENTRIES = st.tuples(
    _PATHS, _KINDS, st.sampled_from([0o755, 0o640, 0o4711, 0o1777, 0o000]), st.integers(0, 3), st.binary(max_size=3),
    st.sampled_from(["a", "/b", "../c", "lib/a", "/etc/../lib", ".", "/"]),
)  # fmt: skip
_LAYERS = st.lists(st.lists(_ENTRIES, min_size=1, max_size=7), min_size=1, max_size=3)


def _layer(entries: Sequence[tuple[str, str, int, int, bytes, str]]) -> Layer:
    items = []
    for path, kind, mode, owner, data, target in entries:
        common: dict[str, Any] = {"mode": mode, "uid": owner, "gid": owner * 2}
        folder, _, name = path.rpartition("/")
        match kind:
            case "file":
                items.append(tar_file(path, data, **common))
            case "directory":
                items.append(tar_file(path, type=tarfile.DIRTYPE, **common))
            case "link":
                items.append(tar_file(path, type=tarfile.SYMTYPE, linkname=target, **common))
            case "hard link":
                items.append(tar_file(path, type=tarfile.LNKTYPE, linkname=target.strip("./") or "a"))
            case "whiteout":
                items.append(tar_file(f"{folder}/.wh.{name}".strip("/")))
            case "opaque":
                items.append(tar_file(f"{path}/.wh..wh..opq"))
            case "pipe":
                items.append(tar_file(path, type=tarfile.FIFOTYPE, **common))
    return make_layer(make_tar(_in_an_honest_order(items)))


def _in_an_honest_order(items: list[Any]) -> list[Any]:
    """One entry for a path, and what hides things first, as every builder writes it; the rest is left to chance."""
    unique = {member.name: (member, data) for member, data in items}
    hidden = [one for name, one in unique.items() if "/.wh." in f"/{name}"]
    taken = {name.replace(".wh.", "").removesuffix(".wh..opq").strip("/") for name in unique if "/.wh." in f"/{name}"}
    shown = [one for name, one in unique.items() if "/.wh." not in f"/{name}" and name not in taken]
    return [*hidden, *shown]


@accepting(0.1)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(_LAYERS)
def test_random_layers_are_unpacked_as_the_index_sees_them(solver: WorkerSolver, layers: list[Any]) -> None:
    image = make_image([_layer(entries) for entries in layers])
    try:
        expected = facts(indexed(image))
    except Exception as error:  # noqa: BLE001 - a layer that can't be one can't be one for the worker, either
        with pytest.raises(SolverError):
            unpacked(solver, image)
        assert "copacetic" in type(error).__module__
        tally(accepted=False)
        return

    assert unpacked(solver, image) == expected
    tally(accepted=True)


@accepting(0.04)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(_LAYERS)
def test_a_program_sees_random_layers_as_they_are_read(solver: WorkerSolver, layers: list[Any]) -> None:
    image = make_image([make_layer({"top": "x"}), *(_layer(entries) for entries in layers)])
    state, inputs = state_of(image)
    script = "cd /it && find . -mindepth 1 -exec stat -c '%n|%a|%u|%g|%F' {} +"
    mounts = [llb.Bind(dest="/it", source=state)]
    run = shell(f"({script}) | sort > /out", mounts=mounts)
    try:
        with solver.solve(state.marshal(AMD64), inputs, Recorder()) as result:
            read = dict(result.filesystem.walk())
    except SolverError:
        tally(accepted=False)
        return
    tally(accepted=True)
    with solver.solve(run.root.marshal(AMD64), inputs, Recorder()) as result:
        lines = result.filesystem.read("out", limit=1 << 20).decode().splitlines()

    kinds = {"file": "regular", "directory": "directory", "symlink": "symbolic link", "fifo": "fifo"}
    seen = {}
    for line in lines:
        name, mode, uid, gid, kind = line.split("|")
        seen[name[2:]] = (int(mode, 8), int(uid), int(gid), kind.removesuffix(" file").removesuffix(" empty"))
    assert {path: fact[:3] for path, fact in seen.items()} == {
        path: (entry.mode, entry.uid, entry.gid) for path, entry in read.items()
    }
    assert all(kinds[read[path].type.value] in fact[3] for path, fact in seen.items())


def test_a_real_debian_is_unpacked_as_the_index_sees_it(solver: WorkerSolver) -> None:
    image = debian_image(build_root("bookworm"))

    assert unpacked(solver, image) == facts(indexed(image))


@pytest.mark.parametrize("name", ["alpine-minirootfs-3.18.2-x86_64.tar.gz", "alpine-minirootfs-3.20.3-x86_64.tar.gz"])
def test_a_real_alpine_is_unpacked_and_runs(solver: WorkerSolver, name: str) -> None:
    import gzip

    plain = gzip.decompress(fixture(f"alpine/{name}").read_bytes())
    image = make_image([make_layer(plain)])
    state, inputs = state_of(image)
    run = state.run(
        ["/sbin/apk", "info", "-v"], env={**PATH, "PATH": "/sbin:/bin"}, network=llb.Network.NONE, name="apk"
    )

    assert unpacked(solver, image) == facts(indexed(image))
    recorder = Recorder()
    with solver.solve(run.root.marshal(AMD64), inputs, recorder):
        assert "busybox-1." in recorder.output("apk")


def test_a_layer_below_shared_by_two_images_is_fetched_once(solver: WorkerSolver) -> None:
    shared, one, two = make_layer({"shared": "s"}), make_layer({"one": "1"}), make_layer({"two": "2"})
    sources = {name: _Counting(make_image([shared, layer])) for name, layer in (("one", one), ("two", two))}

    for source in sources.values():
        state = llb.oci_layout("client/image", source.image.descriptor.digest, store="it")
        with solver.solve(state.marshal(AMD64), Inputs(images={"it": source}), Recorder()):
            pass

    assert shared.descriptor.digest in sources["one"].opened
    assert shared.descriptor.digest not in sources["two"].opened
    assert two.descriptor.digest in sources["two"].opened


class _Counting(MemorySource):
    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.opened: list[object] = []

    def open_blob(self, descriptor: Any) -> Any:
        self.opened.append(descriptor.digest)
        return super().open_blob(descriptor)


def test_layers_are_kept_for_the_next_worker(tmp_path: Path) -> None:
    image = make_image([make_layer({"kept": "k"})])
    counts = []
    for _ in range(2):
        source = _Counting(image)
        with open_worker(tmp_path, images={}) as worker:
            state = llb.oci_layout("client/image", image.descriptor.digest, store="it")
            with worker.solve(state.marshal(AMD64), Inputs(images={"it": source}), Recorder()) as result:
                assert result.filesystem.read("kept", limit=9) == b"k"
        counts.append(source.opened.count(image.layers[0].descriptor.digest))

    assert counts == [1, 0]


def test_layers_of_an_earlier_boot_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from copacetic.worker import store

    image = make_image([make_layer({"kept": "k"})])
    boots = [tmp_path / "first", tmp_path / "second"]
    counts = []
    for boot in boots:
        boot.write_text(boot.name)
        monkeypatch.setattr(store, "_BOOT_ID", boot)
        source = _Counting(image)
        with open_worker(tmp_path / "cache", images={}) as worker:
            state = llb.oci_layout("client/image", image.descriptor.digest, store="it")
            with worker.solve(state.marshal(AMD64), Inputs(images={"it": source}), Recorder()):
                pass
        counts.append(source.opened.count(image.layers[0].descriptor.digest))

    assert counts == [1, 1]
