# SPDX-License-Identifier: Apache-2.0
"""os-release, as images really have it and as hostile ones might."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.distro import Distro
from copacetic.errors import UnsupportedImageError
from support.floors import accepting, refusal


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


FIELDS = (b"ID=", b"VERSION_ID=", b"VERSION_CODENAME=", b"PRETTY_NAME=", b"ID_LIKE=", b"# ", b"")
VALUES = (b"debian", b"'12'", b'"a b"', b'"x', b"\\", b"$(id)")


@accepting(0.1)
@given(
    st.sampled_from([b"ID=debian", b""]),
    st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(VALUES) | st.binary(max_size=30)), max_size=8),
)
def test_any_bytes_are_read_or_refused(first: bytes, lines: list[tuple[bytes, bytes]]) -> None:
    with refusal(UnsupportedImageError):
        Distro.parse(b"\n".join([first, *(name + value for name, value in lines)]))
