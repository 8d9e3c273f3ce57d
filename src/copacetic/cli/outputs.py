# SPDX-License-Identifier: Apache-2.0
"""`-o`: documents about an outcome, each in a file of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from copacetic.attest import WRITERS, find_writer
from copacetic.errors import StorageError, UsageError

if TYPE_CHECKING:
    from copacetic.patch.outcome import Outcome


def check_outputs(texts: Sequence[str], default: str) -> tuple[tuple[str, str], ...]:
    """Return (format, path) pairs, checked before any work is done. Raises `UsageError`."""
    outputs = []
    for text in texts:
        name, equals, path = text.partition("=")
        pair = (name, path) if equals and name in {*WRITERS, "openvex"} else (default, text)
        if find_writer(pair[0]) is None:
            raise UsageError(f"the format {pair[0]} is not available yet", hint=f"available: {', '.join(WRITERS)}")
        if pair[1] != "-" and not Path(pair[1]).parent.is_dir():
            raise UsageError(f"there is no directory for {pair[1]}")
        outputs.append(pair)
    if sum(path == "-" for _, path in outputs) > 1:
        raise UsageError("only one output can go to stdout")
    return tuple(outputs)


def write_outputs(outcome: Outcome, outputs: Sequence[tuple[str, str]]) -> None:
    """Write every document. Raises `StorageError`."""
    for name, path in outputs:
        writer = find_writer(name)
        assert writer is not None
        data = writer(outcome)
        if path == "-":
            sys.stdout.write(data.decode())
            continue
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            raise StorageError(f"can't write {path}: {error.strerror}") from error
