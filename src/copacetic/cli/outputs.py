# SPDX-License-Identifier: Apache-2.0
"""`-o`: documents about an outcome, each in a file of its own."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from copacetic.errors import StorageError, UsageError

if TYPE_CHECKING:
    from copacetic.pipeline.outcome import Outcome

_IN_PLACE = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY})
_HINT = "free some space, or name another file"


def check_outputs(texts: Sequence[str], default: str) -> tuple[tuple[str, str], ...]:
    """Return (format, path) pairs, checked before any work is done. Raises `UsageError`."""
    from copacetic.attest import FORMATS

    outputs = []
    for text in texts:
        name, equals, path = text.partition("=")
        pair = (name, path) if equals and name in {*FORMATS, "openvex"} else (default, text)
        if pair[0] not in FORMATS:
            raise UsageError(f"the format {pair[0]} is not available yet", hint=f"available: {', '.join(FORMATS)}")
        if pair[1] != "-":
            check_file(Path(pair[1]))
        outputs.append(pair)
    if sum(path == "-" for _, path in outputs) > 1:
        raise UsageError("only one output can go to stdout")
    return tuple(outputs)


def write_outputs(outcome: Outcome, outputs: Sequence[tuple[str, str]]) -> None:
    """Write every document where it shall go. Raises `StorageError`."""
    for name, path in outputs:
        data = outcome.documents[name].data
        if path == "-":
            sys.stdout.write(data.decode())
            continue
        write_file(Path(path), data)


def check_file(path: Path) -> None:
    """Raise `UsageError` when a file can't be written there, before any work is done."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path} is a directory" if path.is_dir() else f"there is no directory for {path}")


def write_file(path: Path, data: bytes) -> None:
    """
    Write a file whole or not at all; a device or pipe is written to as it is. Raises `StorageError`.

    What others can read stays readable for them: a new file gets the permissions that it would have had anyway.
    """
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        try:
            _replace(target, data)
        except OSError as error:
            if not target.exists() or error.errno not in _IN_PLACE:
                raise
            target.write_bytes(data)  # a file that is mounted by itself, or in a folder that others own
    except OSError as error:
        raise StorageError(f"can't write {path}: {(error.strerror or str(error)).lower()}", hint=_HINT) from error


def _replace(target: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
