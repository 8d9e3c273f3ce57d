# SPDX-License-Identifier: Apache-2.0
"""Headers of packages, held against rpm's own reader; built, extended, mutated."""

from __future__ import annotations

import hashlib
import io
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.rpm import HeaderError, RpmEntry, RpmHeader, RpmIdentity, RpmPackage, tags
from copacetic.rpm.header import (
    CHAR,
    HEADER_MAGIC,
    INT16,
    INT64,
    STRING,
    binary_entry,
    number_entry,
    text_entry,
    texts_entry,
)
from copacetic.rpm.identity import NO_ARCHITECTURE, source_of
from support.floors import accepting, refusal
from support.image.images import fixture
from support.rpm.realrpm import query_packages

ASKED = "%{name} %|epoch?{%{epoch}}:{-}| %{version} %{release} %{arch} %{sourcerpm} %{#requirename} %{size}\n"


OTHER = 5999
"""A tag that nobody knows."""


def real_packages() -> list[Path]:
    found = sorted(fixture("rpm").rglob("*.rpm")) + sorted(fixture("el7").rglob("*.rpm"))
    return [path for path in found if path.parent.name not in {"libzypp-sig", "rpm-testsuite"}]


def read_package(path: Path) -> RpmPackage:
    with path.open("rb") as file:
        return RpmPackage.read(file)


def describe(header: RpmHeader) -> str:
    identity = RpmIdentity.of(header)
    epoch = "-" if identity.epoch is None else identity.epoch
    source = header.text(tags.SOURCE_RPM, "(none)")
    requires, size = header.count(tags.REQUIRE_NAMES), header.number(tags.SIZE)
    return (
        f"{identity.name} {epoch} {identity.version} {identity.release} {identity.architecture} "
        f"{source} {requires or '(none)'} {size}"
    )


SHOWN = "%{buildhost} %{name} %{version} %{release} %|epoch?{%{epoch}}:{-}| %{arch} [%{filemodes} ]%{longsize}\n"


def shown(header: RpmHeader) -> str:
    """What rpm prints by `SHOWN` behind the build host."""
    words = [header.text(tag, "(none)") for tag in (tags.NAME, tags.VERSION, tags.RELEASE)]
    words.append(str(header.numbers(tags.EPOCH)[0]) if tags.EPOCH in header else "-")
    words.append(header.text(tags.ARCH, "(none)"))
    modes = "".join(f"{mode} " for mode in header.numbers(tags.FILE_MODES))
    return f"{' '.join(words)} {modes}{header.number(tags.LONG_SIZE) or header.number(tags.SIZE) or '(none)'}"


def sample() -> RpmHeader:
    return RpmHeader.build(
        [
            text_entry(tags.NAME, "foo"),
            text_entry(tags.VERSION, "1.0"),
            text_entry(tags.RELEASE, "2.el9"),
            text_entry(tags.ARCH, "x86_64"),
            number_entry(tags.EPOCH, [3]),
            number_entry(tags.FILE_MODES, [0o100644, 0o40755], INT16),
            number_entry(tags.LONG_SIZE, [2**40], INT64),
            texts_entry(tags.BASE_NAMES, ["a", "\udcff"]),
            binary_entry(OTHER, b"\0\1\2"),
        ]
    )


def test_real_packages_are_read_as_rpm_reads_them() -> None:
    paths = real_packages()

    said = query_packages(paths, ASKED)

    assert [describe(read_package(path).header) for path in paths] == said
    assert len(said) > 150


def test_what_was_signed_has_the_digests_that_the_packages_say() -> None:
    checked = 0
    for path in real_packages():
        package = read_package(path)
        signed = package.header.signed_bytes
        data = path.read_bytes()
        assert data[package.header_start : package.payload_start] == signed
        for tag, algorithm in ((tags.SHA1_HEADER, "sha1"), (tags.SHA256_HEADER, "sha256")):
            said = package.signature.text(tag)
            if said:
                checked += 1
                assert hashlib.new(algorithm, signed).hexdigest() == said, path.name
    assert checked > 250


def test_values_that_are_put_in_come_out_again() -> None:
    header = sample()

    assert header.text(tags.NAME) == "foo"
    assert header.number(tags.EPOCH) == 3
    assert header.numbers(tags.FILE_MODES) == (0o100644, 0o40755)
    assert header.numbers(tags.LONG_SIZE) == (2**40,)
    assert header.texts(tags.BASE_NAMES) == ("a", "\udcff")
    assert header.binary(OTHER) == b"\0\1\2"
    assert str(RpmIdentity.of(header)) == "foo-3:1.0-2.el9.x86_64"
    assert header.is_immutable


def test_what_is_added_counts_and_leaves_what_was_signed_as_it_is() -> None:
    header = sample()

    installed = header.with_entries([number_entry(tags.INSTALL_TIME, [7]), number_entry(tags.EPOCH, [4])])

    assert installed.number(tags.INSTALL_TIME) == 7
    assert installed.number(tags.EPOCH) == 4
    assert installed.signed_bytes == header.signed_bytes
    assert header.is_immutable
    assert not installed.is_immutable


def test_a_trusted_key_has_no_architecture_and_no_region() -> None:
    rows = [
        text_entry(tags.NAME, "gpg-pubkey"),
        text_entry(tags.VERSION, "b86b3716"),
        text_entry(tags.RELEASE, "5e69f29c"),
    ]

    header = RpmHeader.build(rows, region=0)

    assert RpmIdentity.of(header).architecture == NO_ARCHITECTURE
    assert header.signed_bytes == b""


def test_a_source_package_is_named_by_its_file() -> None:
    header = RpmHeader.build([text_entry(tags.SOURCE_RPM, "a-b-1.0-2.el9.src.rpm"), number_entry(tags.EPOCH, [1])])

    assert source_of(header) == ("a-b", "1:1.0-2.el9")
    assert source_of(RpmHeader.build([text_entry(tags.SOURCE_RPM, "(none)")])) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((tags.NAME, "a/../b"), "not a package name"),
        ((tags.NAME, ""), "not a package name"),
        ((tags.VERSION, "1-2"), "has the version"),
        ((tags.RELEASE, "1 2"), "has the version"),
        ((tags.ARCH, "../x"), "is for"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(fields: tuple[int, str], message: str) -> None:
    good = {tags.NAME: "foo", tags.VERSION: "1", tags.RELEASE: "1", tags.ARCH: "noarch"}
    header = RpmHeader.build([text_entry(tag, text) for tag, text in {**good, fields[0]: fields[1]}.items()])

    with pytest.raises(HeaderError, match=message):
        RpmIdentity.of(header)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "truncated"),
        (struct.pack(">II", 0, 0), "0 entries"),
        (struct.pack(">II", 0x10000, 0), "65536 entries"),
        (struct.pack(">II", 1, 2**28), "bytes of data"),
        (struct.pack(">IIIIiI", 1, 2, tags.NAME, STRING, 0, 1) + b"ab", "has no end"),
        (struct.pack(">IIIIiI", 1, 2, tags.NAME, STRING, 0, 1) + b"a\0b", "and has"),
        (struct.pack(">IIIIiI", 1, 2, tags.NAME, STRING, -1, 1) + b"a\0", "no place of its own"),
        (struct.pack(">IIIIiI", 1, 2, tags.NAME, STRING, 3, 1) + b"a\0", "no place of its own"),
        (struct.pack(">IIIIiI", 1, 2, tags.NAME, STRING, 0, 2) + b"a\0", "has 2 values"),
        (struct.pack(">IIIIiI", 1, 2, tags.NAME, CHAR, 0, 1) + b"a\0", "has a value of type 2|has a value of type 1"),
        (struct.pack(">IIIIiI", 1, 4, 5000, 4, 0, 2**31) + b"abcd", "has 2147483648 values"),
        (struct.pack(">IIIIiI", 1, 8, 5000, 4, 2, 1) + b"abcdefgh", "of type 4 at 2"),
        (struct.pack(">IIIIiI", 1, 2, 5000, 10, 0, 1) + b"a\0", "of type 10"),
        (struct.pack(">IIIIiIIIiI", 2, 4, 5000, 6, 2, 1, 5001, 6, 0, 1) + b"a\0b\0", "no place of its own"),
        (struct.pack(">IIIIiIIIiI", 2, 4, 5000, 6, 0, 1, 5000, 6, 2, 1) + b"a\0b\0", "stands there twice"),
        (struct.pack(">IIIIiI", 1, 16, 63, 7, 0, 16) + bytes(16), "end as it begins"),
        (struct.pack(">IIIIiI", 1, 16, 63, 7, 8, 16) + bytes(16), "has no place"),
    ],
)
def test_what_is_no_header_is_refused(blob: bytes, message: str) -> None:
    with pytest.raises(HeaderError, match=message):
        RpmHeader(blob)


def as_package(blob: bytes) -> bytes:
    """A package file with this header; whether it is a good one or not."""
    signature = RpmHeader.build([number_entry(tags.SIG_SIZE, [1])], region=tags.HEADER_SIGNATURES)
    lead = struct.pack(">IBBhh66shh16x", 0xEDABEEDB, 3, 0, 0, 1, b"foo", 1, 5)
    data = lead + HEADER_MAGIC + signature.blob
    return data + bytes(-len(data) % 8) + HEADER_MAGIC + blob


def mutate(blob: bytes, source: random.Random) -> bytes:
    """Another number in the index, mostly one near the old; and sometimes other bytes in the data."""
    changed = bytearray(blob)
    count = struct.unpack_from(">I", blob)[0]
    if source.random() < 0.7:
        at = 8 + 4 * source.randrange(4 * count)
        old = struct.unpack_from(">I", blob, at)[0]
        new = source.choice((old + 1, old - 1, 0, 2**31, 2**32 - 1, old ^ 4, source.randrange(200), 1000, 63))
        struct.pack_into(">I", changed, at, new % 2**32)
    else:
        at = source.randrange(8 + 16 * count, len(blob))
        changed[at] = source.choice((0, 1, 255, ord("a")))
    return bytes(changed)


def test_mutated_headers_are_read_as_rpm_reads_them(tmp_path: Path) -> None:
    """What a header has is told by its build host; rpm also wants each tag's own type, and no gaps between values."""
    source, ours, paths, ambiguous = random.Random(5), {}, [], set()
    for number in range(400):
        host = text_entry(tags.BUILD_HOST, f"#{number}")
        blob = mutate(RpmHeader.build([*sample().entries(), host]).blob, source)
        path = tmp_path / f"{number}.rpm"
        path.write_bytes(as_package(blob))
        paths.append(path)
        try:
            header = RpmPackage.read(io.BytesIO(path.read_bytes())).header
        except HeaderError as error:
            if "stands there twice" in str(error):
                ambiguous.add(f"#{number}")
            continue
        ours[header.text(tags.BUILD_HOST)] = shown(header)

    lines = (line.partition(" ") for line in query_packages(paths, SHOWN))
    theirs = {host: rest for host, _, rest in lines if host.startswith("#") and host not in ambiguous}

    assert {host: ours.get(host) for host in theirs} == theirs
    assert 100 < len(theirs) < len(ours) < 1.2 * len(theirs)


TEXT = st.text("aé\udcff", max_size=5)
NUMBER = st.integers(0, 2**32 - 1)
ENTRIES = st.lists(
    st.one_of(
        st.builds(text_entry, st.sampled_from([tags.NAME, tags.VERSION, 5500]), TEXT),
        st.builds(texts_entry, st.sampled_from([tags.BASE_NAMES, 5501]), st.lists(TEXT, min_size=1, max_size=5)),
        st.builds(number_entry, st.sampled_from([tags.FILE_FLAGS, 5502]), st.lists(NUMBER, min_size=1, max_size=3)),
        st.builds(binary_entry, st.sampled_from([tags.RSA_HEADER, 5503]), st.binary(min_size=1, max_size=9)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda entry: entry.tag,
)


@given(ENTRIES, ENTRIES)
def test_any_values_come_out_again(first: list[RpmEntry], added: list[RpmEntry]) -> None:
    header = RpmHeader.build(first).with_entries(added)

    want = {entry.tag: entry for entry in (*sorted(first, key=lambda one: one.tag), *added)}
    assert {entry.tag: entry for entry in header.entries()} == want


@accepting(0.15)
@given(st.integers(0, 2**32))
def test_any_mutation_is_refused_or_can_be_read_to_the_end(seed: int) -> None:
    source = random.Random(seed)
    blob = mutate(sample().with_entries([number_entry(tags.FILE_STATES, [0, 0], CHAR)]).blob, source)
    with refusal(HeaderError):
        header = RpmHeader(blob)
        for entry in header.entries():
            assert len(header.texts(entry.tag)) + len(header.numbers(entry.tag)) + len(header.binary(entry.tag)) > 0
            header.text(entry.tag), header.number(entry.tag)
        assert len(header.signed_bytes) <= len(blob) + 8
