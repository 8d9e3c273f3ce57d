# SPDX-License-Identifier: Apache-2.0
"""
Debian distroless images, as bazel-built ones are: one layer for each .deb, with its stanza in `status.d`, its
checksums beside it, and neither a `status` file nor a shell. Any architecture, without emulation.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo import roots

from support.deb.debian import need, sources
from support.image.images import Layer, make_image, make_layer, write_layout

PACKAGES = ("base-files", "netbase", "tzdata", "ca-certificates", "libc6", "libssl3", "openssl", "zlib1g")
_FRESH = 3_600.0
"""Seconds for which lists are good enough: as long as one run of all tests, at most."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Chdist:
    """A private apt of another suite and architecture, which only downloads, into `debs`; its lists are shared."""

    def __init__(self, debs: Path, suite: str, architecture: str) -> None:
        need("apt-get", "dpkg-deb")
        self._debs = debs
        debs.mkdir(parents=True, exist_ok=True)
        folder = roots.CACHE / f"apt-{suite}-{architecture}"
        for name in ("etc/apt/preferences.d", "etc/apt/apt.conf.d", "state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "etc/apt/sources.list").write_text(sources(suite).replace("deb ", f"deb [signed-by={KEYRING}] "))
        options = {
            "Dir::Etc": f"{folder}/etc/apt", "Dir::State": f"{folder}/state", "Dir::Cache": f"{folder}/cache",
            "Dir::State::status": f"{folder}/status", "APT::Architecture": architecture,
            "APT::Architectures::": architecture, "APT::Sandbox::User": "root", "Acquire::Languages": "none",
        }  # fmt: skip
        self._options = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        with roots.locked(folder):
            updated = folder / "updated"
            if not updated.exists() or time.time() - updated.stat().st_mtime > _FRESH:
                self._run("apt-get", "update")
                updated.touch()

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            [arguments[0], "-qq", *self._options, *arguments[1:]],
            check=True, capture_output=True, text=True, cwd=self._debs,
        ).stdout  # fmt: skip

    def closure(self, packages: Sequence[str]) -> list[str]:
        """Return these packages and all that they need."""
        simulated = self._run("apt-get", "--simulate", "--no-install-recommends", "install", *packages)
        return sorted({line.split()[1].split(":")[0] for line in simulated.splitlines() if line.startswith("Inst ")})

    def download_oldest(self, packages: Sequence[str]) -> list[Path]:
        """Fetch the oldest version of each that the suites still have."""
        oldest: dict[str, _Version] = {}
        for line in self._run("apt-cache", "madison", *packages).splitlines():
            name, version, _ = (part.strip() for part in line.split("|", 2))
            oldest[name] = min(oldest.get(name, _Version(version)), _Version(version))
        return self.download({name: version.text for name, version in oldest.items()})

    def download(self, versions: Mapping[str, str]) -> list[Path]:
        """Fetch these versions, by name; of one that is there already nothing is returned."""
        before = set(self._debs.iterdir())
        self._run("apt-get", "download", *(f"{name}={version}" for name, version in versions.items()))
        return sorted(set(self._debs.iterdir()) - before)


class _Version:
    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Version) -> bool:
        return subprocess.run(["dpkg", "--compare-versions", self.text, "lt", other.text], check=False).returncode == 0


def distroless_layer(deb: Path) -> Layer:
    """Return the layer of one package: its files, its stanza, its checksums."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
    control = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True).stdout
    parts = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(parts)) as archive:
        sums = next((archive.extractfile(m) for m in archive if m.name == "./md5sums"), None)
        checksums = sums.read() if sums is not None else b""
    name = control.decode().split("Package: ", 1)[1].split("\n", 1)[0]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=buffer, mode="w") as target:
        for member in source:
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
        for path, content in ((name, control), (f"{name}.md5sums", checksums)):
            member = tarfile.TarInfo(f"./var/lib/dpkg/status.d/{path}")
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return make_layer(buffer.getvalue())


def distroless_layout(
    layout: Path, work: Path, suite: str, architecture: str, packages: Sequence[str] = PACKAGES
) -> tuple[str, Chdist]:
    """Write a distroless image of the oldest versions and return its location, with the apt that it came from."""
    chdist = Chdist(work, suite, architecture)
    debs = {deb.name.partition("_")[0]: deb for deb in chdist.download_oldest(packages)}
    layers = [distroless_layer(debs[package]) for package in packages]
    write_layout(layout, {"base": make_image(layers, platform=f"linux/{architecture}")})
    return f"oci:{layout}:base", chdist
