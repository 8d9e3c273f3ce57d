# SPDX-License-Identifier: Apache-2.0
"""Parts of a plan's document."""

from __future__ import annotations

from typing import Any

__all__ = ["notes_of", "section_of"]


def section_of(plan: Any) -> Any:
    """Return the section of a plan that has one, as all images with one database have."""
    (only,) = plan["sections"]
    return only


def notes_of(plan: Any) -> list[str]:
    """Return all that a user is told."""
    return [*(note for section in plan["sections"] for note in section["notes"]), *plan["notes"]]
