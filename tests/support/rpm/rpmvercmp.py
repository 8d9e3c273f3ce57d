# SPDX-License-Identifier: Apache-2.0
"""The host's rpm, asked for the order of versions."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.deb.debian import need

_PROGRAM = '%{lua:for l in io.lines("PATH") do local a,b = l:match("(%S+) (%S+)"); print(rpm.vercmp(a,b)) end}'


def rpm_compares(pairs: Sequence[tuple[str, str]], folder: Path) -> list[int]:
    """Return what rpm says of each pair of versions (or of releases): -1, 0 or 1."""
    need("rpm")
    path = folder / "pairs"
    path.write_text("".join(f"{one} {other}\n" for one, other in pairs))
    program = _PROGRAM.replace("PATH", str(path))
    run = subprocess.run(["rpm", "--eval", program], capture_output=True, check=True, text=True)
    return [int(order) for order in re.findall("-?[01]", run.stdout)]  # not every rpm ends what it prints
