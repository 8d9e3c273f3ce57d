# SPDX-License-Identifier: Apache-2.0
"""
Images whose package manager can really be run: a Debian root, with packages of a test and its repository on top.

    image = image_on(build_root("bookworm"), tmp_path / "layout", repository, [Deb(name="foo", version="1.0")])
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from demo import roots

from copacetic.oci.manifest import OCI_LAYER
from support.deb.aptrepo import Repository, installed_files
from support.deb.debs import Deb
from support.image.images import Layer, TarItem, describe, make_image, make_layer, tar_file, write_layout


def image_on(
    root: Path,
    layout: Path,
    repository: Repository,
    debs: Sequence[Deb],
    *,
    held: Sequence[str] = (),
    more: Mapping[str, bytes | str] | None = None,
    source: str = "",
    labels: Mapping[str, str] | None = None,
) -> str:
    """
    Write an image of a root and one more layer, in which only the repository is left in the sources, and return its
    location. `source` replaces the repository's line, `more` lays files over everything.
    """
    files: dict[str, bytes | str] = {
        **installed_files(debs, held=held),
        "etc/apt/sources.list": f"{source or repository.definition}\n",
        "etc/apt/trusted.gpg.d/tests.gpg": repository.certificate,
    }
    del files["etc/os-release"]
    files["var/lib/dpkg/status"] = _status(root) + str(files["var/lib/dpkg/status"])
    files |= more or {}
    image = make_image([_layer(root), make_layer([_item(path, data) for path, data in files.items()])], labels=labels)
    write_layout(layout, {"base": image})
    return f"oci:{layout}:base"


def _item(path: str, data: bytes | str) -> TarItem:
    scripts = (".preinst", ".postinst", ".prerm", ".postrm", ".config")
    executable = path.startswith(("usr/bin/", "usr/sbin/", "etc/init.d/")) or path.endswith(scripts)
    return tar_file(path, data, mode=0o755 if executable else 0o644)


@lru_cache(maxsize=1)
def _layer(root: Path) -> Layer:
    blob = roots.compress(root).read_bytes()
    return Layer(describe(blob, f"{OCI_LAYER}+gzip"), blob, root.read_bytes())


@lru_cache(maxsize=4)
def _status(root: Path) -> str:
    with tarfile.open(root) as tar:
        file = tar.extractfile(next(m for m in tar if m.name.lstrip("./") == "var/lib/dpkg/status"))
        assert file is not None
        return file.read().decode()
