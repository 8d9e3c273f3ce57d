# SPDX-License-Identifier: Apache-2.0
"""
`rpmdb.sqlite`, of EL 9 and later, Fedora, Amazon Linux 2023, Mariner and Azure Linux.

A new one is made from nothing but headers, in rollback format: rpm can read that also where it can't write, and turns
it into one with a log of its own accord. A log of the old file would be taken for the new one's.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Mapping
from contextlib import closing

from copacetic.inventory.rpm.index import BINARY_INDEXES, INDEXES, IndexRules
from copacetic.inventory.rpm.sqlitepages import SqlitePages
from copacetic.inventory.rpm.store import DATABASE_LIMIT, LOG_LIMIT, Contents, check_count, check_number, read_if_there
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm.header import RpmHeader

__all__ = ["FILES", "SqliteStore"]

FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "rpmdb.sqlite-shm", "rpmdb.sqlite-journal")
_PACKAGES = "Packages"
_SEQUENCE = "sqlite_sequence"
_ARRAYS = frozenset(INDEXES) - {"Name", "Group", "Installtid", "Sigmd5", "Sha1header"}
"""Indexes of tags with several values, whose rows are found by the package as well."""
_WRITER = 3_034_001
"""A release of sqlite, which each writer leaves in the file: that of the host must not be told from it."""


class SqliteStore:
    """`RpmStore` of one sqlite file."""

    format = "rpm sqlite"

    def __init__(self, path: str, contents: Contents, indexes: Iterable[str], stale: Iterable[str]) -> None:
        self.path = path
        self.contents = contents
        self._indexes = tuple(indexes)
        self._stale = tuple(stale)

    @classmethod
    def open(cls, fs: ImageFilesystem, folder: str) -> SqliteStore | None:
        """Open the file of a folder. Raises `InventoryError`."""
        path = fs.resolve(f"{folder}/{FILES[0]}")
        data = read_if_there(fs, path, DATABASE_LIMIT)
        if not data:
            return None
        pages = SqlitePages(data, path, read_if_there(fs, f"{path}-wal", LOG_LIMIT))
        if read_if_there(fs, f"{path}-journal", LOG_LIMIT).strip(b"\0"):
            raise pages.broken("it was left while something was written, and has to be mended by rpm first")
        headers: dict[int, bytes] = {}
        for number, row in pages.rows(_PACKAGES):
            if len(row) != 2 or not isinstance(row[1], bytes):
                raise pages.broken("a package has no header")
            headers[check_number(number, path)] = row[1]
            check_count(len(headers), path)
        highest = max(headers, default=0)
        for _, row in pages.rows(_SEQUENCE) if _SEQUENCE in pages.tables else ():
            if len(row) == 2 and row[0] == _PACKAGES.encode() and isinstance(row[1], int):
                highest = max(highest, row[1])
        if headers:
            check_number(highest, path)
        indexes = [name for name in pages.tables if name in INDEXES]
        stale = [other for other in (f"{path}{name[len(FILES[0]) :]}" for name in FILES[1:]) if fs.lookup(other)]
        return cls(path, Contents(headers, highest), indexes, stale)

    def notes(self) -> tuple[str, ...]:
        return ()

    def write(self, headers: Mapping[int, RpmHeader], highest: int, rules: IndexRules) -> Mapping[str, bytes | None]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute("begin")
            connection.execute(
                f"CREATE TABLE '{_PACKAGES}' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)"
            )
            rows = ((number, header.blob) for number, header in headers.items())
            connection.executemany(f"insert into '{_PACKAGES}' values(?, ?)", rows)
            connection.execute("delete from sqlite_sequence")
            connection.execute("insert into sqlite_sequence values(?, ?)", (_PACKAGES, highest))
            for index in self._indexes:
                _write_index(connection, index, headers, rules)
            connection.execute("commit")
            data = bytearray(connection.serialize())
        data[24:28] = data[92:96] = struct.pack(">I", 1)  # how often it was changed
        data[96:100] = struct.pack(">I", _WRITER)
        return {self.path: bytes(data), **dict.fromkeys(self._stale)}


def _write_index(
    connection: sqlite3.Connection, index: str, headers: Mapping[int, RpmHeader], rules: IndexRules
) -> None:
    """Make a table in rpm's own words, though it never compares them; names come from `INDEXES`."""
    is_text = index not in BINARY_INDEXES
    connection.execute(
        f"CREATE TABLE '{index}' (key '{'TEXT' if is_text else 'BLOB'}' NOT NULL, hnum INTEGER NOT NULL, "
        f"idx INTEGER NOT NULL, FOREIGN KEY (hnum) REFERENCES '{_PACKAGES}'(hnum))"
    )
    connection.executemany(
        # A text that isn't UTF-8 is none for Python, and one for sqlite.
        f"insert into '{index}' values({'cast(? as text)' if is_text else '?'}, ?, ?)",
        ((key, number, at) for number, header in headers.items() for key, at in rules.rows(header, index)),
    )
    if is_text:
        connection.execute(f"CREATE INDEX '{index}_key_idx' ON '{index}'(key ASC)")
    if index in _ARRAYS:
        connection.execute(f"CREATE INDEX '{index}_hnum_idx' ON '{index}'(hnum ASC)")
