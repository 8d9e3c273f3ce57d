# SPDX-License-Identifier: Apache-2.0
"""os-release, as images really have it and as hostile ones might."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.distro import Distro
from copacetic.errors import UnsupportedImageError


def test_the_usual_fields_are_read() -> None:
    text = b'# x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID=\'12\'\nVERSION_CODENAME=bookworm\nID_LIKE="a b"\n'

    distro = Distro.parse(text)

    assert (distro.id, distro.version_id, distro.codename, distro.id_like) == ("debian", "12", "bookworm", ("a", "b"))
    assert distro.pretty_name == "Debian GNU/Linux 12 (bookworm)"


@pytest.mark.parametrize("text", [b"", b"NAME=x", b"ID=\n", b"ID='a b'", b"ID=../x", b'ID="unclosed'])
def test_without_a_usable_id_it_is_refused(text: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="no usable ID"):
        Distro.parse(text)


def test_a_name_can_t_steer_the_terminal() -> None:
    assert Distro.parse(b'ID=x\nPRETTY_NAME="a\x1b[2Jb"\n').pretty_name == r"a\x1b[2Jb"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        Distro.parse(data)
    except UnsupportedImageError:
        pass
