# SPDX-License-Identifier: Apache-2.0
"""apt repositories: `sources.list(5)` in, verified packages out."""

from copacetic.repository.apt.repository import AptRepository

__all__ = ["AptRepository"]
