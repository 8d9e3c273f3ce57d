# SPDX-License-Identifier: Apache-2.0
"""The builders that `docker buildx` made, read from its files: which there are, and which one is selected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from copacetic.connect.dockercontext import read_json
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import DaemonUnreachableError

__all__ = ["BuildxBuilder", "BuildxNode", "load_builder", "selected_builder"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._+-]{0,127}")
_MAX_NODES = 64


class BuildxNode(Struct, frozen=True, kw_only=True):
    """One machine of a builder. Its name fits into the name of a container, its endpoint still needs a grammar."""

    name: str
    endpoint: str
    options: Mapping[str, str] = {}


class BuildxBuilder(Struct, frozen=True, kw_only=True):
    """A builder; its driver says how its nodes are reached."""

    name: str
    driver: str
    nodes: tuple[BuildxNode, ...]


def selected_builder(settings: BuilderSettings, endpoint: str) -> str:
    """
    Return the name of the builder that buildx would use for an endpoint of docker; empty when none is selected.

    BUILDX_BUILDER goes before `docker buildx use`. Raises `DaemonUnreachableError` for a broken file.
    """
    if settings.buildx_builder:
        return settings.buildx_builder
    folder = _folder(settings)
    if folder is None:
        return ""
    current = read_json(folder / "current") or {}
    name = current.get("Name", "")
    if isinstance(name, str) and name and (current.get("Global") is True or current.get("Key") == endpoint):
        return name
    try:
        text = (folder / "defaults" / hashlib.sha256(endpoint.encode()).hexdigest()[:20]).read_text("utf-8")
    except (OSError, ValueError):
        return ""
    return text.strip()[:200]


def load_builder(settings: BuilderSettings, name: str) -> BuildxBuilder | None:
    """Read a builder; None when buildx has none of that name. Raises `DaemonUnreachableError` for a broken file."""
    folder = _folder(settings)
    if folder is None or not _NAME.fullmatch(name):
        return None
    path = folder / "instances" / name.lower()
    document = read_json(path)
    if document is None:
        return None
    entries = document.get("Nodes")
    if not isinstance(entries, list) or not entries:
        raise DaemonUnreachableError(f"{path}: the builder {name} has no nodes", hint="create it again")
    nodes = tuple(_parse_node(entry, path) for entry in entries[:_MAX_NODES])
    driver = document.get("Driver")
    return BuildxBuilder(name=name, driver=driver if isinstance(driver, str) else "", nodes=nodes)


def _folder(settings: BuilderSettings) -> Path | None:
    if settings.buildx_config is not None:
        return settings.buildx_config
    return None if settings.docker_config is None else settings.docker_config / "buildx"


def _parse_node(entry: object, path: Path) -> BuildxNode:
    fields = entry if isinstance(entry, dict) else {}
    name, endpoint, options = fields.get("Name"), fields.get("Endpoint"), fields.get("DriverOpts")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(endpoint, str):
        raise DaemonUnreachableError(f"{path}: {str(name)[:80]!r} is not a usable node", hint="create it again")
    texts = options.items() if isinstance(options, dict) else ()
    return BuildxNode(name=name, endpoint=endpoint, options={k: v for k, v in texts if isinstance(v, str)})
