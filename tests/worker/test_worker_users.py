# SPDX-License-Identifier: Apache-2.0
"""The contract of every solver, held by the worker of somebody who is not root, and of root in a pod."""

from __future__ import annotations

import pytest

from support.builder.confined import run_as_user, run_in_pod

BOUNDS = (
    "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/worker/test_devices.py",
    "tests/worker/test_limits.py::test_a_program_that_multiplies_is_ended",
    "tests/worker/test_limits.py::test_a_program_that_takes_too_much_memory_is_ended",
)  # fmt: skip
CONTRACT = ("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-k", "worker]", "tests/contract")
pytestmark = pytest.mark.system


def test_the_contract_holds_for_a_user_with_subordinate_ids() -> None:
    result = run_as_user(CONTRACT, subordinate_ids=True)

    _assert_held(result.stdout, result.returncode, exceptions=0)


def test_the_contract_holds_for_a_user_without_subordinate_ids() -> None:
    result = run_as_user(CONTRACT, subordinate_ids=False)

    _assert_held(result.stdout, result.returncode, exceptions=1)


def test_the_contract_holds_for_root_in_a_pod() -> None:
    result = run_in_pod(CONTRACT)

    _assert_held(result.stdout, result.returncode, exceptions=6)


@pytest.mark.parametrize("subordinate_ids", [True, False])
def test_a_user_s_sandbox_has_the_same_devices_and_bounds(subordinate_ids: bool) -> None:
    result = run_as_user(BOUNDS, subordinate_ids=subordinate_ids)

    _assert_held(result.stdout, result.returncode, exceptions=0)


def _assert_held(output: str, code: int, *, exceptions: int) -> None:
    assert code == 0, output[-6000:]
    summary = output.strip().splitlines()[-1]
    assert " passed" in summary, output[-2000:]
    assert "skipped" not in summary, output[-2000:]
    assert (f" {exceptions} xfailed" in summary) == bool(exceptions), summary
