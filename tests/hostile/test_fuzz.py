# SPDX-License-Identifier: Apache-2.0
"""
Every parser under inputs that are wrong by its own grammar: each is accepted, or is one of our errors, and soon.

A number of them has to be accepted, so that more than the first check is tried. `COPA_FUZZ` is how many inputs the
soak tries of each parser.
"""

from __future__ import annotations

import os
import resource
import time
import zlib
from random import Random

import pytest

from copacetic.errors import CopaError
from support.hostile.boundedchild import bounded_memory
from support.hostile.mutations import Mutate
from support.hostile.parsers import PARSERS
from support.hostile.seeds import seed_of

FEW = 300
MANY = int(os.environ.get("COPA_FUZZ", "50000"))
LONGEST = 1.0
"""Seconds of processor time for one input."""
MOST = 400 * 1024
"""KiB of memory of all of this process."""
_MISTAKES = (TypeError, AttributeError, AssertionError, LookupError, NameError, ArithmeticError)


def fuzz(name: str, count: int, first: int) -> None:
    """Try inputs; each comes from a number of its own, which a failure names."""
    parse, seed = PARSERS[name], seed_of(name)
    accepted = 0
    for number in range(first, first + count):
        random = Random(f"{name} {number}")
        data = seed.mutate(random, random.choice(seed.data))
        while random.random() < 0.2:
            data = _again(seed.mutate, random, data)
        started = time.process_time()
        try:
            parse(data)
            accepted += 1
        except CopaError as error:
            _check_cause(error, name, number, data)
        except Exception as error:
            raise AssertionError(f"{name} {number}: {error!r} for {data[:2_000]!r}") from error
        took = time.process_time() - started
        assert took < LONGEST, f"{name} {number}: {took:.1f} s for {data[:2_000]!r}"
    assert accepted >= seed.floor * count, f"{accepted} of {count} are accepted: only the first checks were tried"


def _again(mutate: Mutate, random: Random, data: bytes) -> bytes:
    """Change what was changed; what no mutation can read any more stays as it is."""
    try:
        return mutate(random, data)
    except (ValueError, IndexError, StopIteration, zlib.error):
        return data


def _check_cause(error: CopaError, name: str, number: int, data: bytes) -> None:
    """What a boundary translates is a library's refusal; a mistake of ours stays one, though no user sees it."""
    assert not isinstance(error.__cause__, _MISTAKES), f"{name} {number}: {error.__cause__!r} for {data[:2_000]!r}"


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_not_mutated_is_accepted(name: str) -> None:
    for data in seed_of(name).data:
        PARSERS[name](data)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", PARSERS)
def test_every_input_is_accepted_or_one_of_our_errors(name: str) -> None:
    fuzz(name, FEW, 0)


@pytest.mark.soak
@pytest.mark.parametrize("name", PARSERS)
def test_every_one_of_very_many_inputs_is_accepted_or_one_of_our_errors(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with bounded_memory():
        fuzz(name, MANY, FEW)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < max(before, MOST)
