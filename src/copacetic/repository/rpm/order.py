# SPDX-License-Identifier: Apache-2.0
"""The order in which packages come in: what others need first, as far as they don't need each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["order_packages"]


def order_packages(needs: Mapping[int, Iterable[int]]) -> list[int]:
    """
    Return the keys, each after those that it needs; in a circle the first of the mapping is the last.

    What is needed and isn't a key is there already.
    """
    placed: dict[int, None] = {}
    entered: set[int] = set()
    for start in needs:
        stack = [(start, iter(needs[start]))]
        while stack:
            number, others = stack[-1]
            entered.add(number)
            following = next((other for other in others if other in needs and other not in entered), None)
            if following is not None:
                stack.append((following, iter(needs[following])))
            else:
                placed.setdefault(number)
                stack.pop()
    return list(placed)
