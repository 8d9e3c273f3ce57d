# SPDX-License-Identifier: Apache-2.0
"""
Images as Dockerfiles make them: a distribution with real packages, slimmed as Docker's own images are, and what an
author changes on top in a layer of its own.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demo import roots

from copacetic.oci.manifest import OCI_LAYER
from support.deb.debian import build_root
from support.deb.oracle import extract, run_in
from support.image.images import Layer, TarItem, describe, make_image, make_layer, tar_file, write_layout

_SLIM = r"""
set -e
echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/docker-apt-speedup
cat > /etc/dpkg/dpkg.cfg.d/docker <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
END
clean='rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true'
cat > /etc/apt/apt.conf.d/docker-clean <<END
DPkg::Post-Invoke { "$clean"; };
APT::Update::Post-Invoke { "$clean"; };
Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
END
cat > /etc/apt/apt.conf.d/docker-gzip-indexes <<'END'
Acquire::GzipIndexes "true";
Acquire::CompressionTypes::Order:: "gz";
END
echo 'Acquire::Languages "none";' > /etc/apt/apt.conf.d/docker-no-languages
echo 'Apt::AutoRemove::SuggestsImportant "false";' > /etc/apt/apt.conf.d/docker-autoremove-suggests
cd /usr/share
find doc ! -type d ! -name copyright -delete
find man locale info lintian ! -type d -delete
find doc man locale info lintian -mindepth 1 -type d -empty -delete
find /var/log -type f -delete
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
"""

_CONFIG = {
    "User": "101",
    "Cmd": ["serve"],
    "Env": [
        "PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "LD_PRELOAD=/usr/lib/libjemalloc-not-there.so",
        "DEBIAN_FRONTEND=dialog",
    ],
}
"""What must not disturb whatever runs in the image."""


@dataclass(frozen=True, slots=True)
class Application:
    """One such image; `skipped` are the packages that may need execution, each with the reason in its comment."""

    suite: str
    packages: tuple[str, ...]
    slim: bool = False
    removed: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    edited: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()

    def build(self, name: str, folder: Path) -> str:
        """Write the image into an OCI layout below a folder, and return its location."""
        plain = build_root(self.suite, packages=self.packages, name=name)
        root = extract(plain, folder / "built")
        if self.slim:
            run_in(root, _SLIM)
            plain = folder / "slim.tar"
            command = ["tar", "--create", "--numeric-owner", "--sort=name", "--xattrs", "--xattrs-include=*"]
            command += [f"--file={plain}", f"--directory={root}", "--exclude=./dev/*", "."]
            subprocess.run(command, check=True)
        blob = roots.compress(plain).read_bytes()
        base = Layer(describe(blob, f"{OCI_LAYER}+gzip"), blob, plain.read_bytes())
        image = make_image([base, make_layer(list(self._author(root)))], config={"config": _CONFIG})
        write_layout(folder / "layout", {"base": image})
        return f"oci:{folder / 'layout'}:base"

    def _author(self, root: Path) -> list[TarItem]:
        """The last layer."""
        items = [tar_file("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)]
        items += [tar_file("/.wh.".join(path.rsplit("/", 1))) for path in self.removed]
        items += [
            tar_file(path, type=tarfile.SYMTYPE, linkname=target, mode=0o777) for path, target in self.links.items()
        ]
        items += [tar_file(path, (root / path).read_bytes() + b"# edited\n") for path in self.edited]
        return items


APPLICATIONS = {
    "bullseye-nginx": Application(
        "bullseye",
        ("nginx", "curl", "ca-certificates"),
        slim=True,
        removed=("etc/nginx/sites-enabled/default", "etc/nginx/fastcgi.conf"),
        links={"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"},
        edited=("etc/nginx/nginx.conf",),
        skipped=frozenset(("tzdata",)),  # as in test_oracle
    ),
    "bullseye-postgresql": Application(
        "bullseye",
        ("postgresql", "default-jre-headless"),
        slim=True,
        # Java's key store has to be built, and the certificates' new version breaks what does it now; the server's
        # manual pages are taken out of the alternatives and put back, from a list that a pipe makes.
        skipped=frozenset(("tzdata", "ca-certificates-java", "ca-certificates", "postgresql-13")),
    ),
    "bookworm-dev": Application("bookworm", ("python3", "git", "build-essential", "openssh-server", "systemd")),
    "jammy-web": Application(
        "jammy",
        ("perl", "curl", "ca-certificates"),
        skipped=frozenset(("libpam-runtime",)),  # pam-auth-update acts on a profile that changes
    ),
    "noble-web": Application(
        "noble",
        ("python3", "nginx", "ca-certificates"),
        skipped=frozenset(("tzdata",)),  # as in Debian 11: its config script converts old names of time zones
    ),
}
