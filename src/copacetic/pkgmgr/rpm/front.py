# SPDX-License-Identifier: Apache-2.0
"""
The managers in front of rpm, for upgrades that only a builder can plan: how each refreshes and upgrades without asking.

A front is a row. Its words are constants, and names of packages come after them as arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from copacetic import llb
from copacetic.errors import SignatureError
from copacetic.llb.graph import MakeFile, Mount
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pkgmgr.probe import has_program
from copacetic.repository.rpm.config import read_config
from copacetic.repository.rpm.sources import find_lenient

__all__ = ["Front", "find_front"]

_SCRIPT = "/run/copacetic/upgrade"
_CACHE = "/run/copacetic/cache"
_ZYPPER_SCRIPT = """\
set -eu
zypper --non-interactive refresh
exec zypper --non-interactive "$@"
"""


class Front(Struct, frozen=True, kw_only=True):
    """A program that plans for rpm."""

    name: str
    words: tuple[str, ...]
    """What upgrades everything; names after it say what instead."""
    script: str = ""
    """What has to be run in its place, where one command isn't enough; it gets the words."""

    @property
    def program(self) -> str:
        return f"usr/bin/{self.name}"

    def command(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """Return the command; `names` are `name.architecture`, None means everything."""
        start = ("/bin/sh", _SCRIPT) if self.script else (f"/{self.program}",)
        return (*start, *self.words, *(names or ()))

    def mounts(self) -> tuple[Mount, ...]:
        """Return what it needs besides the image."""
        cache = llb.Tmpfs(dest=_CACHE)
        if not self.script:
            return (cache,)
        script = llb.scratch().file(MakeFile(path="/upgrade", data=self.script.encode(), mode=0o755))
        return (cache, llb.Bind(dest=_SCRIPT, source=script, selector="/upgrade"))

    def refuse_lenient(self, fs: ImageFilesystem) -> None:
        """It would go by an image's word that packages need no signature. Raises `SignatureError`."""
        found = find_lenient(fs, read_config(fs))
        if found:
            message = f"the builder would take packages of {found} without a signature, as the image has it"
            raise SignatureError(message, hint="--allow-unsigned-repository allows that")


_STRICT = ("--setopt=skip_if_unavailable=0", "--setopt=*.skip_if_unavailable=0")
"""A repository that can't be read would be passed over, and the upgrade be content without its fixes."""
_DNF = ("--assumeyes", f"--setopt=cachedir={_CACHE}", "--setopt=install_weak_deps=False", *_STRICT)
FRONTS = (
    Front(name="dnf5", words=(*_DNF, "upgrade")),
    Front(name="dnf", words=(*_DNF, "upgrade")),
    Front(name="microdnf", words=("--assumeyes", "update")),
    Front(name="yum", words=("--assumeyes", f"--setopt=cachedir={_CACHE}", *_STRICT, "update")),
    Front(name="tdnf", words=("--assumeyes", "update")),
    Front(
        name="zypper",
        words=("update", "--no-recommends", "--auto-agree-with-licenses"),
        script=_ZYPPER_SCRIPT,
    ),
)


def find_front(fs: ImageFilesystem) -> Front | None:
    """Return the first that the image has."""
    return next((front for front in FRONTS if has_program(fs, front.program)), None)
