# SPDX-License-Identifier: Apache-2.0
"""The flags that several commands share, and the settings that they and the environment make."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from copacetic.api import Settings
    from copacetic.console import Console
    from copacetic.oci.credentials import Credentials

F = TypeVar("F", bound=Callable[..., Any])

PROGRESS_MODES = ("auto", "plain", "tty", "quiet", "none", "rawjson")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class CommaList(click.ParamType[Any]):
    """Values separated by commas."""

    name = "A,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple | list):
            return tuple(value)
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


class Duration(click.ParamType[Any]):
    """Go's durations in hours, minutes and seconds: `5m`, `1h30m`; `0` is none. Gives seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value))
        if str(value) == "0":
            return 0.0
        if match is None or not any(match.groups()):
            self.fail(f"{str(value)[:40]!r} is not a duration such as 90s, 5m or 1h30m", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(hours * 3600 + minutes * 60 + seconds)


class Replacement(click.ParamType[Any]):
    """`OLD=NEW`."""

    name = "OLD=NEW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        old, equals, new = str(value).partition("=")
        if not (old and equals and new):
            from copacetic.errors import hide_credentials

            self.fail(f"{hide_credentials(str(value))[:80]!r} is not of the form OLD=NEW", param, ctx)
        return old, new


class FileOf(Replacement):
    """`ADDRESS=FILE`."""

    name = "ADDRESS=FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        address, path = super().convert(value, param, ctx)
        return address, Path(path)


class Networks(click.ParamType[Any]):
    """Networks or addresses separated by commas."""

    name = "CIDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from copacetic.http.reach import parse_network

        if isinstance(value, tuple):
            return value
        try:
            return tuple(parse_network(part.strip()) for part in str(value).split(",") if part.strip())
        except ValueError as error:
            self.fail(f"{str(value)[:80]!r} is not a network such as 10.0.0.0/8: {error}", param, ctx)


class _Location(click.Option):
    """An image's location; the forms that there are matter only when help is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from copacetic.oci.transports import list_forms

        self.help = f"Image: {list_forms('REF')}."
        return super().get_help_record(ctx)


def _env(name: str) -> str:
    return "COPA_" + name.lstrip("-").upper().replace("-", "_")


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """A click option that is also read from `COPA_…`."""
    long = max(names, key=len).split("/")[0]
    return click.option(*names, envvar=_env(long), show_envvar=False, **attributes)


_PATH = click.Path(path_type=Path)
_EXPERIMENTAL = "experimental_"

COMMON = (
    option("--cache-dir", type=_PATH, help="Where layer indexes, repository indexes and packages are kept."),
    option("--no-cache", is_flag=True, help="Use a temporary cache, and throw it away."),
    option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="How much is done side by side."),
    option("--timeout", type=Duration(), default="30m", help="End the run after this time; 0 is never.  [30m]"),
    option("--progress", type=click.Choice(PROGRESS_MODES), default=None, help="How progress is shown.  [auto]"),
    option("-q", "--quiet", is_flag=True, help="Show errors and the result only."),
    option("--debug", is_flag=True, help="Show decisions, and tracebacks of errors."),
)
REGISTRY = (
    option("--authfile", type=_PATH, help="The file with logins, instead of docker's and podman's."),
    option("--creds", metavar="USER[:PASSWORD]", help="A login for the image's registry."),
    option("--tls-verify/--no-tls-verify", default=True, help="Check registries' certificates."),
    option("--plain-http", is_flag=True, help="Speak plain HTTP with registries (loopback may in any case)."),
    option("--cert-dir", type=_PATH, help="A directory with *.crt, *.cert and *.key for registries."),
    option("--ca-cert", type=_PATH, multiple=True, help="A certificate authority to trust, for everything."),
    option("--mirror", type=Replacement(), multiple=True, help="Read PREFIX=MIRROR from a mirror first."),
)
REPOSITORY = (
    option("--repository", multiple=True, help="A repository, spelled as in the image, instead of the image's own."),
    option("--keyring", type=_PATH, multiple=True, help="Keys to trust besides the image's."),
    option("--repository-mirror", type=Replacement(), multiple=True, help="Replace the beginning of addresses."),
    option("--allow-network", type=Networks(), multiple=True, help="Networks where an image's repositories may be."),
    option("--public-only", is_flag=True, help="Refuse private networks for an image's repositories."),
    option(
        "--allow-expired-repository", is_flag=True, help="Use a Release file, or its key, past its date; it is named."
    ),
    option(
        "--allow-unsigned-repository", is_flag=True, help="Use repositories without a valid signature; they are named."
    ),
    option("--allow-repository-rollback", is_flag=True, help="Use a repository older than it was; it is named."),
    option("--allow-vendor-change", multiple=True, help="Packages that may be replaced by another vendor's."),
    option("--require-modern-signatures", is_flag=True, help="Refuse rpm signatures that only RSA itself finds right."),
    option(
        "--repository-secret", type=FileOf(), multiple=True, help="What subscribers' repositories want: see the docs."
    ),
    option("--experimental-apk-v3", is_flag=True, help="Use indexes and packages of apk-tools 3's own format."),
    option("--no-host-repositories", is_flag=True, help="Never use this machine's repositories and keys."),
)
PATCHING = (
    option("-i", "--image", required=True, cls=_Location),
    option("-r", "--report", type=_PATH, multiple=True, help="A scanner's report, a directory of reports, or -."),
    option("--report-format", default="", metavar="NAME", help="Their format.  [recognised]"),
    option("--platform", type=CommaList(), default="", help="Platforms, as in linux/amd64,linux/arm64.  [all]"),
    option("--ignore-errors", is_flag=True, help="Go on with what can be fixed."),
    option("--pkg-types", type=CommaList(), default="os", show_default=True, help="os, library."),
    option(
        "--strategy",
        type=click.Choice(("auto", "unpack", "exec")),
        default="auto",
        help="How updates are applied.  [auto]",
    ),
    option("--library-patch-level", type=click.Choice(("patch", "minor", "major")), help="Not supported yet."),
    option("-l", "--loader", help="Accepted and ignored: see --to."),
)


def apply(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[F], F]:
    """Add groups of options to a command, in their order."""

    def decorate(function: F) -> F:
        for one in reversed([o for group in groups for o in group]):
            function = one(function)
        return function

    return decorate


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Turn flags and environment into the library's settings."""
    from copacetic.api import Settings
    from copacetic.cli.builder import (
        make_builder_settings,
        make_engine_settings,
        repository_keys,
        select_tooling,
        select_worker,
    )
    from copacetic.cli.environment import auth_files, cache_folder, certs_dirs, proxies, registries_conf
    from copacetic.http import HttpSettings
    from copacetic.http.reach import Reach
    from copacetic.oci.registrysettings import RegistrySettings
    from copacetic.repository import RepositorySettings

    environment = os.environ
    ca_files = tuple(values["ca_cert"])
    worker = select_worker(values) if "addr" in values else None
    return Settings(
        cache_dir=None if values["no_cache"] else values["cache_dir"] or cache_folder(environment),
        http=HttpSettings(proxies=proxies(environment), ca_files=ca_files),
        registry=RegistrySettings(
            plain_http=values["plain_http"],
            tls_verify=values["tls_verify"],
            cert_dir=values["cert_dir"],
            certs_dirs=certs_dirs(),
            registries_conf=registries_conf(environment),
            mirrors=tuple(values["mirror"]),
        ),
        auth_files=(values["authfile"],) if values["authfile"] else auth_files(environment),
        credentials=_credentials(values),
        repository=RepositorySettings(
            definitions=tuple(values.get("repository", ())),
            keyrings=(*values.get("keyring", ()), *repository_keys(values)),
            mirrors=tuple(values.get("repository_mirror", ())),
            host_root=None if values.get("no_host_repositories") else Path("/"),
            allow_expired=values.get("allow_expired_repository", False),
            allow_unsigned=values.get("allow_unsigned_repository", False),
            allow_rollback=values.get("allow_repository_rollback", False),
            reach=Reach(
                networks=tuple(network for given in values.get("allow_network", ()) for network in given),
                public_only=values.get("public_only", False),
            ),
            allow_vendor_change=tuple(values.get("allow_vendor_change", ())),
            require_modern=values.get("require_modern_signatures", False),
            secrets=tuple(values.get("repository_secret", ())),
            experimental=frozenset(
                name.removeprefix(_EXPERIMENTAL).replace("_", "-")
                for name, given in values.items()
                if given and name.startswith(_EXPERIMENTAL)
            ),
        ),
        jobs=values["jobs"],
        engine=make_engine_settings(),
        builder=None if "addr" not in values or worker else make_builder_settings(values),
        worker_limits=worker,
        tooling_image=select_tooling(values),
    )


def _credentials(values: Mapping[str, Any]) -> Mapping[str, Credentials]:
    """A login is for the image's registry, or where the image is a file, for the result's."""
    if not values["creds"]:
        return {}
    from copacetic.oci.credentials import Credentials
    from copacetic.oci.location import Location

    user, _, password = values["creds"].partition(":")
    tag = values.get("tag") or ""
    places = (values.get("image"), values.get("destination"), tag if "/" in tag or ":" in tag else "")
    references = (Location.parse(place).reference for place in places if place)
    registry = next((reference.registry for reference in references if reference is not None), "")
    return {registry: Credentials(username=user, password=password, origin="--creds")}


def make_console(values: Mapping[str, Any]) -> Console:
    """Return the console that the flags and the environment ask for, and set up logging."""
    from copacetic.cli.ending import Ending
    from copacetic.console import Console

    environment = os.environ
    mode = values["progress"] or environment.get("BUILDKIT_PROGRESS", "auto")
    if values["quiet"]:
        mode = "quiet"
    if mode not in PROGRESS_MODES:
        mode = "auto"
    color = not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    plain = environment.get("TERM") == "dumb" or bool(environment.get("CI"))
    if values["debug"]:
        import logging

        logging.basicConfig(format="debug: %(name)s: %(message)s")
        logging.getLogger("copacetic").setLevel(logging.DEBUG)
    ending = click.get_current_context().find_object(Ending) or Ending()
    if values["timeout"]:
        ending.start_timer(values["timeout"])
    ending.console = Console(mode=mode, color=color, plain=plain)
    return ending.console
