# SPDX-License-Identifier: Apache-2.0
"""How a job says that it can't be done, and whose fault that is."""

from __future__ import annotations

from typing import Literal

Kind = Literal["hostile", "corrupt", "image", "missing", "storage", "process", "unsupported", "result"]


class RefusalError(Exception):
    """
    Ends a job with a reason for the user.

    `hostile` and `corrupt` speak of a layer, `image` of what is in the image, `missing` of a path in the graph,
    `storage` of this machine's disk, `process` of a program that ran, `unsupported` of this machine, `result` of
    what can't be said in a layer.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
