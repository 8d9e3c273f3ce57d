# SPDX-License-Identifier: Apache-2.0
"""`copa cache`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from copacetic.cli.options import Duration, option

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?", re.IGNORECASE)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Size(click.ParamType[Any]):
    """`500M`, `2GiB`: powers of 1024. Gives bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _SIZE.fullmatch(str(value))
        if match is None:
            self.fail(f"{str(value)[:40]!r} is not a size such as 500M or 2G", param, ctx)
        return int(match[1]) << (10 * _UNITS[match[2].upper()])


def _folder(folder: Path | None) -> Path:
    from copacetic.cli.environment import cache_folder

    return folder or cache_folder(os.environ)


_CACHE_DIR = option("--cache-dir", type=click.Path(path_type=Path), help="Another folder than the default.")


@click.group
def cache() -> None:
    """Look at the cache, or make it smaller. It can be removed at any time."""


@cache.command
@_CACHE_DIR
@option("--format", "format_", type=click.Choice(("table", "json")), default="table", help="[table]")
def info(cache_dir: Path | None, format_: str) -> None:
    """Show what the cache holds."""
    from copacetic.cache import Cache
    from copacetic.worker.housekeeping import worker_usage

    folder = _folder(cache_dir)
    usage = (*Cache(folder).usage(), *worker_usage(folder))
    if format_ == "json":
        from copacetic.documents import write_document

        rows = [{"name": u.name, "entries": u.entries, "size": u.size} for u in usage]
        sys.stdout.write(write_document("cache", {"path": str(folder), "buckets": rows}).decode())
        return
    from copacetic.tables import format_size, format_table

    table = [("CONTENT", "ENTRIES", "SIZE"), *((u.name, str(u.entries), format_size(u.size)) for u in usage)]
    sys.stdout.write(f"{folder}\n\n{format_table(table)}")


@cache.command
@_CACHE_DIR
@option("--keep", type=Size(), default="0", help="Leave this much, the last used.  [0]")
@option("--unused-for", type=Duration(), default=None, help="Remove only what wasn't used for so long.")
def prune(cache_dir: Path | None, keep: int, unused_for: float | None) -> None:
    """Remove what was used longest ago."""
    from copacetic.cache import Cache
    from copacetic.tables import format_size
    from copacetic.worker.housekeeping import prune_worker

    folder = _folder(cache_dir)
    freed = Cache(folder).prune(keep_bytes=keep, unused_for=unused_for)
    freed += prune_worker(folder, keep_bytes=keep, unused_for=unused_for)
    sys.stderr.write(f"freed {format_size(freed)}\n")
