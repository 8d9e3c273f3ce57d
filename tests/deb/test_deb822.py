# SPDX-License-Identifier: Apache-2.0
"""Control files: parsed strictly, written back unharmed, searched without being parsed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.deb.deb822 import Deb822Error, PackagesIndexer, find_package, format_stanza, parse_stanza, parse_stanzas

_names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True)
_values = st.from_regex(r"[a-z0-9(),.:]([a-z0-9 (),.:]{0,20}[a-z0-9])?", fullmatch=True)
_stanzas = st.lists(st.tuples(_names, _values), min_size=1, max_size=6, unique_by=lambda pair: pair[0].lower())


def test_a_stanza_has_its_fields_in_order_and_its_lines() -> None:
    (stanza,) = parse_stanzas("Package: a\nDescription: short\n long\n .\n more\nEmpty:\n")

    assert list(stanza.fields.items()) == [("Package", "a"), ("Description", "short\nlong\n.\nmore"), ("Empty", "")]
    assert stanza.find("PACKAGE") == "a"
    assert stanza.find("absent", "x") == "x"


@given(st.lists(_stanzas, min_size=1, max_size=5))
def test_what_is_written_is_read_back(stanzas: list[list[tuple[str, str]]]) -> None:
    text = "\n\n".join(format_stanza(stanza) for stanza in stanzas)

    parsed = list(parse_stanzas(text))

    assert [list(stanza.fields.items()) for stanza in parsed] == stanzas
    assert "\n\n".join(stanza.text for stanza in parsed) == text


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused_with_a_line(text: str) -> None:
    try:
        list(parse_stanzas(text))
    except Deb822Error as error:
        assert "line" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" lost", "line 1: a continuation of nothing"),
        ("A: 1\nno field", "line 2: not a field"),
        ("\n\nA: 1\na: 2", "line 4: a second a"),
        ("-A: 1", "not a field"),
        ("\n".join(f"F{n}: x" for n in range(600)), "more than 500 fields"),
    ],
)
def test_a_broken_stanza_names_its_line(text: str, message: str) -> None:
    with pytest.raises(Deb822Error, match=message):
        list(parse_stanzas(text))


def test_comments_count_only_where_the_format_has_them() -> None:
    assert len(list(parse_stanzas("# no\nA: 1\n# no\nB: 2", comments=True))) == 1
    with pytest.raises(Deb822Error):
        list(parse_stanzas("# no\nA: 1"))


@pytest.mark.no_cover
def test_a_field_of_very_many_lines_costs_no_more_than_its_lines() -> None:
    lines = 400_000
    started = time.process_time()

    (stanza,) = parse_stanzas("A: x" + "\n y" * lines + "\nB: z\n w")

    assert time.process_time() - started < 5
    assert stanza.fields["A"] == "x" + "\ny" * lines
    assert stanza.fields["B"] == "z\nw"


@pytest.mark.parametrize("name", ["a 1 2", "a\0b", "A", "-a", "a" * 200, ""])
def test_a_stanza_without_a_packages_name_is_not_found_and_misleads_nobody(name: str) -> None:
    table = _index(f"Package: {name}\nVersion: 1\n\nPackage: a\nVersion: 2\n".encode(), 100)

    assert len(list(find_package(table, "a"))) == 1
    for word in ("1", "a" * 200, "", "A", name):
        assert not list(find_package(table, word))


def test_one_stanza_is_one() -> None:
    with pytest.raises(Deb822Error, match="2 stanzas"):
        parse_stanza("A: 1\n\nB: 2")


def _index(data: bytes, piece: int) -> bytes:
    indexer = PackagesIndexer()
    for at in range(0, len(data), piece):
        indexer.feed(data[at : at + piece])
    return indexer.finish()


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("first", ["Package: a", "Architecture: all\nPackage: a"])
def test_every_stanza_of_a_package_is_found(first: str, piece: int) -> None:
    data = f"{first}\nVersion: 1\n\nPackage: ab\nVersion: 2\n\nPackage: a\nVersion: 3\n".encode()
    table = _index(data, piece)

    found = [data[start:end].decode().strip() for start, end in find_package(table, "a")]

    assert sorted(found) == sorted([f"{first}\nVersion: 1", "Package: a\nVersion: 3"])
    assert list(find_package(table, "b")) == []
    assert list(find_package(_index(b"", piece), "a")) == []


@given(names=st.lists(st.from_regex(r"[a-c][a-c+.-]{0,3}", fullmatch=True)), piece=st.integers(1, 100))
def test_a_table_finds_what_reading_everything_finds(names: list[str], piece: int) -> None:
    data = "\n\n".join(f"Package: {name}\nVersion: {number}" for number, name in enumerate(names)).encode() + b"\n"
    table = _index(data, piece)

    for name in {*names, "a", "b", "c"}:
        found = [data[start:end].decode().split("Version: ")[1].strip() for start, end in find_package(table, name)]
        assert sorted(found) == sorted(str(number) for number, other in enumerate(names) if other == name)


def test_a_stanza_beyond_all_measure_is_refused() -> None:
    indexer = PackagesIndexer()

    with pytest.raises(Deb822Error, match="a stanza of more than"):
        for _ in range(64):
            indexer.feed(b"x" * (1 << 20))
