# SPDX-License-Identifier: Apache-2.0
"""One small image and a builder that answers what a test wants, for the way from a request to what is published."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import copacetic
from copacetic import api, session
from copacetic.compression import decompress
from copacetic.errors import (
    BuilderUnreachableError,
    CopaError,
)
from copacetic.llb.solver import Capabilities
from copacetic.oci.layerindex import Row, unpack_text
from copacetic.oci.layout import LayoutSource
from copacetic.progress import Silent
from copacetic.repository import RepositorySettings
from copacetic.request import Strategy
from support.builder.fakesolver import Answer, FakeSolver
from support.deb.aptrepo import Deb, Repository, debian_image, file, installed_files, write_image
from support.deb.debs import MTIME
from support.image.images import Image, make_image, make_layer, make_tar, tar_file
from support.image.programs import program_items
from support.image.trees import scan_tar
from support.value.replacing import replace
from support.value.values import HERE

RUNS = {"postinst": "#!/bin/sh\nset -e\nother --run\n"}
FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = replace(FOO, version="1.0-2", files={"usr/bin/foo": file("new", 0o755)})
SCRIPTED = replace(FOO2, scripts=RUNS)
BAR = Deb(name="bar", version="1.0-1", architecture="amd64", files={"usr/share/bar": file("old")})
BAR2 = replace(BAR, version="1.0-2", files={"usr/share/bar": file("new")})


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def runnable(repository: Repository, debs: Sequence[Deb], **more: object) -> Image:
    """An image that has the programs which a run needs, as files."""
    base = debian_image(repository, debs, **more)  # type: ignore[arg-type]
    return make_image(
        [*base.layers, make_layer([*program_items(), tar_file("usr/bin/other", "a program", mode=0o755)])],
        labels={"note": "$(touch /pwned); `id`"},
    )


def installs(*debs: Deb, more: Mapping[str, bytes | str] | None = None, now: int = 0) -> Answer:
    """
    Answer as if these packages had been installed, with what every run leaves behind. With `now`, their directories
    come, too, and have that time, as files came into them.
    """
    items = [tar_file(path, data, mode=0o755 if "/bin/" in path or "postinst" in path else 0o644, mtime=MTIME)
             for path, data in {**installed_files(debs), **(more or {})}.items()]  # fmt: skip
    folders = {
        path[2:-1]: tar_file(path[2:-1], type=tarfile.DIRTYPE, mode=member.mode, mtime=now)
        for deb in debs
        for path, member in deb.data_members()
        if now and path.endswith("/") and path != "./"
    }
    items = [*(folders[path] for path in sorted(folders)), *items]
    items += [tar_file("var/log/dpkg.log", "yesterday"), tar_file("run/lock", "")]
    layer = make_tar(items)
    return lambda _definition, _inputs: [layer]


class Case:
    """One image, and a builder that may be there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.solver: FakeSolver | None = None
        self.notes = Notes()
        self.settings = api.Settings(cache_dir=folder / "cache", repository=RepositorySettings(reach=HERE))
        monkeypatch.setattr(session, "open_solver", self._open)

    def _open(self, *_means: object) -> FakeSolver:
        if self.solver is None:
            raise BuilderUnreachableError("no builder answers: unix:///nowhere")
        return self.solver

    @property
    def target(self) -> Path:
        return self.folder / "out"

    def builder(self, answer: Answer, **capabilities: object) -> FakeSolver:
        self.solver = FakeSolver(answer, capabilities=Capabilities(name="fake", **capabilities))  # type: ignore[arg-type]
        return self.solver

    def patch(self, image: Image, strategy: Strategy = Strategy.AUTO, **more: object) -> copacetic.Outcome:
        location = write_image(self.folder / "layout", image)
        request = copacetic.PatchRequest(
            image=location, destination=f"oci:{self.target}:1", strategy=strategy, **more  # type: ignore[arg-type]
        )  # fmt: skip
        return copacetic.patch(request, settings=self.settings, progress=self.notes)

    def refused(
        self, kind: type[CopaError], image: Image, strategy: Strategy = Strategy.AUTO, **more: object
    ) -> CopaError:
        with pytest.raises(kind) as caught:
            self.patch(image, strategy, **more)
        assert not self.target.exists(), "something was published"
        assert "\n" not in str(caught.value)
        return caught.value

    def layer_paths(self) -> set[str]:
        return {unpack_text(row.path) for row in self.layer_rows()}

    def layer_rows(self) -> Sequence[Row]:
        """Return what is in the new layer."""
        layer = json.loads(LayoutSource(self.target, "1").root()[1])["layers"][-1]
        blob = (self.target / "blobs" / layer["digest"].replace(":", "/")).read_bytes()
        return scan_tar(decompress(blob, limit=1 << 24)).rows
