# SPDX-License-Identifier: Apache-2.0
"""
LLB: build graphs as immutable values, and the seam to whatever solves them. No I/O.

    base = llb.image("docker.io/library/debian:12@sha256:…")
    upgraded = base.run(["apt-get", "-y", "upgrade"], mounts=[llb.Tmpfs(dest="/var/lib/apt/lists")]).root
    definition = llb.merge([base, llb.diff(base, upgraded)]).marshal(Platform.parse("linux/amd64"))
"""

from copacetic.llb.graph import (
    Bind,
    Network,
    Secret,
    State,
    Tmpfs,
    diff,
    image,
    local,
    merge,
    oci_layout,
    scratch,
)

__all__ = [
    "Bind",
    "Network",
    "Secret",
    "State",
    "Tmpfs",
    "diff",
    "image",
    "local",
    "merge",
    "oci_layout",
    "scratch",
]
