# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schemas, read strictly: what they don't name must not be there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry, Resource

__all__ = ["SCHEMAS", "faults"]

FOLDER = Path(__file__).parents[3] / "docs/reference/schemas"
SCHEMAS: Mapping[str, Any] = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def faults(document: Mapping[str, Any]) -> list[str]:
    """Say where a document isn't as the schema of its kind has it."""
    name = f"{str(document.get('kind')).removeprefix('copacetic.')}.json"
    if name not in SCHEMAS:
        return [f"{name}: there is no such schema"]
    return [f"{name}: {error.json_path}: {error.message[:500]}" for error in _validator(name).iter_errors(document)]


@cache
def _validator(name: str) -> Validator:
    return Draft202012Validator({"$ref": name}, registry=_registry())


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resources((name, Resource.from_contents(_strict(s))) for name, s in SCHEMAS.items())


def _strict(schema: Any) -> Any:
    """Readers pass over fields that they don't know, so the schemas as published allow them."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "required" in schema else {}
    return {**{key: _strict(value) for key, value in schema.items()}, **closed}
