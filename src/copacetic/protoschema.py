# SPDX-License-Identifier: Apache-2.0
"""
Protocol-buffer messages from a schema written as a table, in a private descriptor pool.

    Input: digest=1 string, index=2 int64
    Op:    inputs=1 *Input, op.exec=2 ExecOp, op.source=3 SourceOp
    Meta:  caps=5 map string bool

`*` is a repeated field, `name.` before a field puts it into the oneof of that name. Field numbers and types are facts
of the wire; what isn't listed is skipped when it arrives. Text that a peer may fill with anything is declared `bytes`,
which is the same on the wire and never refused for its encoding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["Messages", "Schema"]

_FIELD = re.compile(r"(?:(?P<oneof>\w+)\.)?(?P<name>\w+)=(?P<number>\d+) (?P<star>\*?)(?P<type>[\w.]+(?: \w+ [\w.]+)?)")
_SCALARS = {"int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


class Messages:
    """The message classes of one schema, as attributes."""

    def __init__(self, classes: dict[str, Any]) -> None:
        self._classes = classes

    def __getattr__(self, name: str) -> Any:
        try:
            return self._classes[name]
        except KeyError:
            raise AttributeError(name) from None


class Schema:
    """A table of messages; `imports` are those whose messages it names as `package.Message`."""

    def __init__(self, package: str, table: str, *, imports: Sequence[Schema] = ()) -> None:
        self.package = package
        self._table = table
        self._imports = tuple(imports)

    def load(self) -> Messages:
        """Return the classes. The import of protobuf (25 ms) happens here, once per process."""
        from google.protobuf import descriptor_pool, message_factory

        pool = _pool(descriptor_pool)
        self.register(pool)
        names = [row.partition(":")[0] for row in _rows(self._table)]
        find = pool.FindMessageTypeByName
        return Messages(
            {name: message_factory.GetMessageClass(find(f"{_full(self.package)}.{name}")) for name in names}
        )

    def register(self, pool: Any) -> None:
        """Add the file and what it imports to a pool; adding the same file again changes nothing."""
        from google.protobuf import descriptor_pb2

        for schema in self._imports:
            schema.register(pool)
        file = descriptor_pb2.FileDescriptorProto(name=f"{self.package}.proto", package=_full(self.package))
        file.syntax = "proto3"
        file.dependency.extend(f"{schema.package}.proto" for schema in self._imports)
        for row in _rows(self._table):
            name, _, fields = row.partition(":")
            _describe(file.message_type.add(name=name), fields, self.package)
        pool.AddSerializedFile(file.SerializeToString())


_POOLS: list[Any] = []


def _pool(module: Any) -> Any:
    """Return our own pool: names in the default one might be another package's."""
    if not _POOLS:
        _POOLS.append(module.DescriptorPool())
    return _POOLS[0]


def _full(package: str) -> str:
    return f"copacetic.{package}"


def _rows(table: str) -> list[str]:
    """Return the lines of a table; an indented line goes on with the one before."""
    joined = re.sub(r"\n[ \t]+", " ", table.strip())
    return [line for line in joined.split("\n") if line]


def _describe(message: Any, fields: str, package: str) -> None:
    oneofs: list[str] = []
    for text in filter(None, (part.strip() for part in fields.split(","))):
        match = _FIELD.fullmatch(text)
        if match is None:
            raise ValueError(f"{package}.{message.name}: {text!r} is no field")
        field = message.field.add(name=match["name"], number=int(match["number"]))
        field.label = _REPEATED if match["star"] else _OPTIONAL
        if match["type"].startswith("map "):
            _describe_map(message, field, match["type"], package)
        else:
            _set_type(field, match["type"], package)
        if oneof := match["oneof"]:
            if oneof not in oneofs:
                oneofs.append(oneof)
                message.oneof_decl.add(name=oneof)
            field.oneof_index = oneofs.index(oneof)


def _set_type(field: Any, name: str, package: str) -> None:
    if name in _SCALARS:
        field.type = _SCALARS[name]
    else:
        field.type = _MESSAGE
        field.type_name = "." + _full(name if "." in name else f"{package}.{name}")


def _describe_map(message: Any, field: Any, text: str, package: str) -> None:
    """A map is a repeated message of key and value with a name that protobuf derives from the field's."""
    _, key, value = text.split(" ")
    entry = message.nested_type.add(name="".join(part.title() for part in field.name.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, (name, kind) in enumerate((("key", key), ("value", value)), 1):
        member = entry.field.add(name=name, number=number, label=_OPTIONAL)
        _set_type(member, kind, package)
    field.label, field.type = _REPEATED, _MESSAGE
    field.type_name = f".{_full(package)}.{message.name}.{entry.name}"
