# SPDX-License-Identifier: Apache-2.0
"""Where filesystems come from: registries, images of the client, directories of the client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.solving import AMD64, Recorder, base, read, tree
from copacetic import llb
from copacetic.errors import ImageError, SolverError
from copacetic.llb.solver import Inputs, Solver
from copacetic.oci import Descriptor
from copacetic.oci.filesystem import FileType
from copacetic.oci.transport import ByteStream
from support.image.images import Image, MemorySource, make_image, make_index, make_layer


def _image(text: str) -> Image:
    lower, upper = make_layer({"a/": "", "a/lower": text}), make_layer({"a/upper": text, "a/.wh.lower": ""})
    return make_image([lower, upper])


def test_an_image_of_a_registry_is_read(solver: Solver) -> None:
    assert read(solver, base(), "old/file") == ["old\n"]


def test_an_image_that_is_not_there_is_named(solver: Solver) -> None:
    state = llb.image("docker.io/library/nothing:1")

    with pytest.raises(SolverError, match="library/nothing"), solver.solve(state.marshal(AMD64), Inputs(), Recorder()):
        pass


def test_an_image_of_the_client_is_read_with_its_whiteouts(solver: Solver) -> None:
    image = _image("client's")
    state = llb.oci_layout("client/image", image.descriptor.digest, store="one")

    found = tree(solver, state, inputs=Inputs(images={"one": MemorySource(image)}))

    assert set(found) == {"a", "a/upper"}
    assert found["a/upper"].endswith("client's")


def test_the_platform_of_an_index_is_taken(solver: Solver) -> None:
    arm = make_image([make_layer({"arm": "arm"})], platform="linux/arm64")
    amd = make_image([make_layer({"amd": "amd"})])
    index = make_index([arm, amd])
    source = _Counting(index)

    found = tree(
        solver,
        llb.oci_layout("client/index", index.descriptor.digest, store="two"),
        inputs=Inputs(images={"two": source}),
    )

    assert set(found) == {"amd"}
    assert arm.layers[0].descriptor.digest not in source.opened


class _Counting(MemorySource):
    """Remembers which blobs were opened."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.opened: list[object] = []

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
        self.opened.append(descriptor.digest)
        with super().open_blob(descriptor) as stream:
            yield stream


def test_an_image_whose_bytes_are_wrong_is_refused(solver: Solver) -> None:
    image = _image("lying")
    blobs = {
        digest: data if len(data) < 100 or data[:2] != b"\x1f\x8b" else data[:-1] + b"x"
        for digest, data in image.blobs.items()
    }
    lying = Image(image.descriptor, image.raw, blobs, image.layers)
    state = llb.oci_layout("client/lying", image.descriptor.digest, store="three")

    with pytest.raises(SolverError):
        tree(solver, state, inputs=Inputs(images={"three": MemorySource(lying)}))


def _directory(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "sub/deep").mkdir(parents=True)
    (folder / "a.deb").write_text("a")
    (folder / "sub/b.deb").write_text("b")
    (folder / "sub/deep/c.txt").write_text("c" * 300_000)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "a.deb").chmod(0o640)
    (folder / "with blank & ümlaut").write_text("x")
    return folder


def test_a_directory_of_the_client_is_sent_whole_and_links_are_not_followed(solver: Solver, tmp_path: Path) -> None:
    found = tree(solver, llb.local("folder"), inputs=Inputs(directories={"folder": _directory(tmp_path)}))

    assert set(found) == {"a.deb", "sub", "sub/b.deb", "sub/deep", "sub/deep/c.txt", "link", "with blank & ümlaut"}
    assert found["a.deb"] == "file 640 0:0 a"
    assert found["link"] == "link /etc/passwd"
    assert found["sub/deep/c.txt"].endswith("c" * 300_000)


def test_directories_of_two_solves_at_once_are_kept_apart(solver: Solver, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    state = llb.local("same")

    with (
        solver.solve(state.marshal(AMD64), Inputs(directories={"same": first}), Recorder()) as one,
        solver.solve(state.marshal(AMD64), Inputs(directories={"same": second}), Recorder()) as two,
    ):
        assert one.filesystem.read("name", limit=10) == b"first"
        assert two.filesystem.read("name", limit=10) == b"second"


def test_a_directory_that_nobody_offers_is_named(solver: Solver) -> None:
    with pytest.raises(SolverError, match="nowhere"):
        tree(solver, llb.local("nowhere"))


def test_a_result_is_read_as_a_container_would_see_it(solver: Solver) -> None:
    with solver.solve(base().marshal(AMD64), Inputs(), Recorder()) as result:
        fs = result.filesystem
        assert fs.read("etc/absolute", limit=1 << 16).startswith(b"root:")
        assert fs.read("/etc/../etc/./climbing", limit=1 << 16).startswith(b"root:x:0:\n")
        assert fs.resolve("lib/data") == "var/lib/data"
        assert fs.resolve("lib", follow=False) == "lib"
        link = fs.lookup("etc/absolute", follow=False)
        assert link is not None
        assert (link.type, link.target) == (FileType.SYMLINK, "/etc/passwd")
        assert fs.lookup("etc/absolute/below") is None
        assert fs.lookup("nothing/at/all") is None
        assert fs.iterdir("old") == ("file", "other")
        assert fs.iterdir("old/file") == ()
        with pytest.raises(FileNotFoundError):
            fs.read("nothing", limit=10)
        with pytest.raises(FileNotFoundError):
            fs.read("old", limit=10)
        with pytest.raises(ImageError, match="the limit is 3"):
            fs.read("old/file", limit=3)
        with pytest.raises(ImageError, match="too many levels"):
            fs.read("etc/loop", limit=10)


def test_a_big_file_is_read_whole(solver: Solver) -> None:
    from contract.solving import shell

    state = shell("seq 1 700000 > /big").root
    expected = "".join(f"{number}\n" for number in range(1, 700_001)).encode()

    with solver.solve(state.marshal(AMD64), Inputs(), Recorder()) as result:
        assert result.filesystem.read("big", limit=1 << 24) == expected


def test_names_that_are_no_utf_8_are_listed_and_read(solver: Solver) -> None:
    from contract.solving import shell

    state = shell("cd /srv; echo odd > \"$(printf 'odd\\377name')\"").root

    with solver.solve(state.marshal(AMD64), Inputs(), Recorder()) as result:
        [name] = result.filesystem.iterdir("srv")
        assert name == "odd\udcffname"
        assert result.filesystem.read(f"srv/{name}", limit=10) == b"odd\n"
