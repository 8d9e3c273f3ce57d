# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from copacetic.buildkit.grpc import RpcError
from copacetic.errors import CopaError, PackageError, RefusedAddressError


def test_an_error_in_other_words_is_the_same_error() -> None:
    error = PackageError("broken", hint="repair it")
    error.package, error.also = "a:amd64", (CopaError("too"),)

    other = error.reworded(f"the plan: {error}")

    assert (type(other), str(other)) == (PackageError, "the plan: broken")
    assert (other.hint, other.package, other.also) == ("repair it", "a:amd64", error.also)
    assert str(error) == "broken"


def test_an_error_whose_type_is_made_in_its_own_way_can_be_reworded() -> None:
    other = RpcError(14, "no connection", details=b"more").reworded("https://user:secret@builder: gone\x1b[2J")

    assert (type(other), other.code, other.details) == (RpcError, 14, b"more")
    assert str(other) == r"https://builder: gone\x1b[2J"


def test_rewording_may_change_the_hint_and_else_leaves_the_types_own() -> None:
    assert RefusedAddressError("no").reworded("not at all").hint == RefusedAddressError.hint
    assert RefusedAddressError("no").reworded("no", hint="ask").hint == "ask"
