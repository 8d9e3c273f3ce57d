# SPDX-License-Identifier: Apache-2.0
"""
Every error that copacetic raises on purpose.

    CopaError                        1   anything that went wrong at run time
    ├── UsageError                   2   a flag, a value or a combination of them
    │   ├── InvalidReferenceError    2
    │   └── InvalidAddressError      2
    ├── ReportError                  2   a scanner's report can't be used
    │   └── UnsupportedReportError   2
    ├── PlanFileError                2   a stored plan can't be used
    ├── InvalidVersionError          2
    ├── RegistryError                1   a registry, layout or archive failed
    │   ├── UnreachableError         1
    │   │   └── RefusedAddressError  1
    │   ├── AuthenticationError      1
    │   ├── NotFoundError            1
    │   └── RateLimitedError         1
    ├── IntegrityError               1   bytes are not what their digest, size or signature says
    ├── ImageError                   3   an image that can't be read as one
    │   ├── CorruptLayerError        3
    │   ├── HostileLayerError        3
    │   └── UnsupportedImageError    3   readable, but nothing here that can be patched
    ├── InventoryError               3   the image's package database is broken
    ├── RepositoryError              1   a distribution's repository failed
    │   ├── SignatureError           1
    │   ├── ExpiredRepositoryError   1
    │   ├── RolledBackRepositoryError  1
    │   └── PackageUnavailableError  1
    ├── PackageError                 1   a package file is broken or hostile
    │   └── ConflictError            1   one that can't be installed over what the image has
    ├── FixesMissingError            4   requested fixes can't be delivered
    │   └── NeedsExecutionError      4
    ├── SolverError                  1   a builder, or the local worker, failed
    │   ├── BuilderUnreachableError  1
    │   ├── UnsupportedBuilderError  3   a builder that lacks what is needed
    │   └── ExecutionError           1   a process in the image failed
    ├── VerificationError            5   the result is not what was planned
    ├── DaemonUnreachableError       1   nothing answers where a daemon was looked for
    └── StorageError                 1   the local disk or cache failed

A message says what happened, where and with which values, in lower case and without a full stop. What the user
can do about it is the class's `hint`, or the instance's where only that one knows.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import ClassVar, Self

from copacetic.printable import printable

_USERINFO = re.compile(r"(https?://)[^/\s]*@", re.IGNORECASE)


class CopaError(Exception):
    """The base of all errors; `str()` of it is one line without logins, whatever an input put into it."""

    exit_code: ClassVar[int] = 1
    hint: str | None = None
    package: Hashable = None
    """The `PackageKey` of the one package that it is about, where the others could do without it."""
    may_work_elsewhere: ClassVar[bool] = False
    """Whether it is this machine's view that is wrong, and another one may do better."""
    also: tuple[CopaError, ...] = ()
    """What was found at the same time about other packages."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(_one_line(message))
        if hint is not None:
            self.hint = hint

    def reworded(self, message: str, *, hint: str | None = None) -> Self:
        """
        Return this error in other words, to be raised from it. All else that it knows stays: its type, with whatever
        that type has more than others, and without `hint` its hint.
        """
        error = type(self).__new__(type(self))
        vars(error).update(vars(self))
        CopaError.__init__(error, message, hint=hint)
        return error


def hide_credentials(text: str) -> str:
    """Take user and password out of every address of http and https in a text."""
    return _USERINFO.sub(r"\1", text)


def _one_line(text: str, limit: int = 2_000) -> str:
    """Make text from anywhere safe for a terminal: control characters are shown, not sent."""
    shown = printable(hide_credentials(text[:limit]))
    return shown if len(text) <= limit else shown + "…"


@contextmanager
def storage_errors(what: str, *, hints: Mapping[int, str] = MappingProxyType({})) -> Iterator[None]:
    """
    Turn the system's refusals (disk full, no permission) into `StorageError`s that say what was being done.

    `hints` are by the system's error numbers, 0 standing for all others.
    """
    try:
        yield
    except OSError as error:
        hint = hints.get(error.errno or 0, hints.get(0))
        raise StorageError(f"{what}: {error.strerror or error}", hint=hint) from error


@contextmanager
def blame_input(kind: type[CopaError], what: str) -> Iterator[None]:
    """
    The boundary of a parser: whatever else is raised over a hostile input becomes an error of this kind about it.

    A parser refuses by itself what it knows to be wrong. This is for the rest: what a library raises for text that
    nobody has thought of is no defect for the user to report. Errors of the disk are left alone.
    """
    try:
        yield
    except (CopaError, OSError, MemoryError):
        raise
    except Exception as error:
        raise kind(f"{what} can't be read: {error}") from error


class UsageError(CopaError):
    """A flag or a combination of flags makes no sense."""

    exit_code = 2
    hint = "see --help for the flags and their values"


class InvalidReferenceError(UsageError):
    """An image reference does not follow the grammar."""

    hint = "write [registry/]repository[:tag][@digest]"


class InvalidAddressError(UsageError):
    """The address of a builder or an engine does not follow the grammar."""

    hint = (
        "write unix://PATH, tcp://HOST:PORT, docker://[CONTEXT], buildx://[NAME], docker-container://NAME, "
        "podman-container://NAME, nerdctl-container://NAME, ssh://HOST or kube-pod://POD"
    )


class ReportError(CopaError):
    """A report can't be read, or is not about this image."""

    exit_code = 2
    hint = "write the report again, for example with `trivy image --format json -o report.json IMAGE`"


class UnsupportedReportError(ReportError):
    """A report is well formed, and no parser knows it."""


class PlanFileError(CopaError):
    """A stored plan can't be read, or is not about this image."""

    exit_code = 2
    hint = "make the plan again with `copa plan --format json -o FILE`"


class InvalidVersionError(CopaError):
    """A version does not follow the scheme of its package manager."""

    exit_code = 2


class RegistryError(CopaError):
    """A registry, a layout or an archive answered with a failure."""


class UnreachableError(RegistryError):
    """No connection: name, network, proxy or TLS."""

    may_work_elsewhere = True

    hint = "check the address, the proxy and the certificates; plain HTTP needs --plain-http except on loopback"


class RefusedAddressError(UnreachableError):
    """An image names an address that nobody but the user may choose."""

    may_work_elsewhere = False

    hint = "if it is to be used, permit its network with --allow-network, or name the repository with --repository"


class AuthenticationError(RegistryError):
    """The registry wants credentials, or other ones."""

    hint = "log in with `docker login`, `podman login` or `crane auth login`, or name the file with --authfile"


class NotFoundError(RegistryError):
    """The image, the tag or a blob is not there."""

    hint = "check the name and the tag; some registries answer so when a login is missing"


class RateLimitedError(RegistryError):
    """The registry refuses more requests for now, after all retries."""

    hint = "wait, log in for a higher limit, or name a mirror"


class IntegrityError(CopaError):
    """Bytes differ from what their digest or size promises."""

    hint = "try again; if it stays, the source or something on the way to it is broken"


class ImageError(CopaError):
    """Something that claims to be an image can't be read as one."""

    exit_code = 3


class CorruptLayerError(ImageError):
    """A layer is truncated, not a tar, or not what its diff_id says."""

    hint = "pull or build the image again"


class HostileLayerError(ImageError):
    """A layer holds what no honest builder writes: `..`, a bomb, an entry beyond the limits."""

    hint = "don't run this image"


class UnsupportedImageError(ImageError):
    """The image is fine, and there is nothing in it that copacetic can patch."""

    hint = (
        "supported: Debian and its derivatives (a dpkg database, or distroless), Alpine, Wolfi and Chainguard (apk), "
        "what has rpm's database; `copa inspect IMAGE` tells more"
    )


class InventoryError(CopaError):
    """The image's package database contradicts its own format."""

    exit_code = 3


class RepositoryError(CopaError):
    """A distribution's repository can't be used."""

    may_work_elsewhere = True

    hint = "check the image's repository definitions, the proxy, and the mirror; --repository names another one"


class SignatureError(RepositoryError):
    """A repository is unsigned, or signed by no key that is trusted."""

    may_work_elsewhere = False

    hint = "name the repository's key with --keyring, if you trust it"


class ExpiredRepositoryError(RepositoryError):
    """A repository's Release file, or the key that signed it, is past its date."""

    may_work_elsewhere = False

    hint = "name a living mirror with --repository, or accept its age with --allow-expired-repository"


class RolledBackRepositoryError(RepositoryError):
    """A repository shows an older state than it did before, although a valid one."""

    may_work_elsewhere = False

    hint = (
        "a mirror is behind, or somebody replays what was published before: try again, name another mirror, "
        "or accept it with --allow-repository-rollback"
    )


class PackageUnavailableError(RepositoryError):
    """A package that the index or the plan names is not there any more, or is another one."""

    may_work_elsewhere = False

    hint = "plan again: the repository has moved on"


class PackageError(CopaError):
    """A package file is broken, or hostile."""


class ConflictError(PackageError):
    """A package can't be installed over what the image has: a file is another package's, or has no place."""


class FixesMissingError(CopaError):
    """Not every requested fix can be delivered, so nothing was published."""

    exit_code = 4
    hint = "--ignore-errors goes on with those that can"


class NeedsExecutionError(FixesMissingError):
    """A package can't be installed without running its scripts."""


class DaemonUnreachableError(CopaError):
    """No daemon answers at an address, or the way to it fails: a socket, a port, a program, a context."""


class SolverError(CopaError):
    """A builder or the local worker could not solve a graph; nothing was published."""


class BuilderUnreachableError(SolverError):
    """No builder answers where one was looked for."""

    hint = "see what was tried with `copa builders`, name one with --addr, or use --strategy unpack"


class UnsupportedBuilderError(SolverError):
    """A builder, or this machine, lacks what is needed: merge and diff, a namespace, a platform."""

    exit_code = 3
    hint = "`copa builders` shows what each builder can do"


class ExecutionError(SolverError):
    """A process that ran in the image failed; its last lines are in the message."""

    hint = "see all of its output with --debug"


class VerificationError(CopaError):
    """The produced image is not what the plan says; nothing was published."""

    exit_code = 5
    hint = "this is a defect of copacetic: please report it with the output of --debug"


RAN_HINT = "a package's script did that, or the builder that ran it; nothing was published"
"""Of `VerificationError` where the image's programs were run."""


class StorageError(CopaError):
    """The local disk or cache failed: full, read-only, not ours."""

    hint = "free some space (`copa cache prune`), or name another folder with --cache-dir"


PACKAGE_FAULTS = (PackageError, IntegrityError, PackageUnavailableError)
"""What may be wrong with one package while all others are fine."""


@contextmanager
def about_package(key: Hashable) -> Iterator[None]:
    """Say which package the faults are about that are found inside; `key` is its `PackageKey`."""
    try:
        yield
    except PACKAGE_FAULTS as error:
        error.package = key if error.package is None else error.package
        raise


def raise_together(faults: Iterable[CopaError]) -> None:
    """Raise the first of what was found about several packages, with the others in `also`."""
    found = list(faults)
    if found:
        found[0].also = (*found[0].also, *found[1:])
        raise found[0]
