"""Loads and updates the format in machine-readable form, `esper_schemas/format.json`.

`python -m esper_schemas.testing.description` updates the file: it generates columns, limits and the types of JSON
records from the code. Names, bytes and ranges of values are written by hand; a test reads real files with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from esper_schemas import limits
from esper_schemas.examining.faults import Loss, Repair
from esper_schemas.metric.payload import METRICS
from esper_schemas.run.records import (
    MAX_JSON_BYTES,
    Attempt,
    BlackBoxRecord,
    RunHeader,
    Seal,
    ValueLossDefinition,
)
from esper_schemas.segment.active import SEQ_COLUMNS
from esper_schemas.segment.black_box import MAX_MINIBATCHES, MAX_NAMES, OWN_COLUMNS
from esper_schemas.segment.pages import MAX_HEADERS_BYTES
from esper_schemas.segment.sealed import MAX_FOOTER_BYTES

FILE = Path(limits.__file__).parent / "format.json"

_RECORDS: dict[str, type] = {
    "run": RunHeader,
    "attempt": Attempt,
    "seal": Seal,
    "black_box": BlackBoxRecord,
    "repair": Repair,
}
_NESTED: dict[tuple[type, str], type] = {
    (RunHeader, "value_loss_definition"): ValueLossDefinition,
    (Repair, "losses"): Loss,
}
"""Fields of records that contain another dataclass, as an object or as a list of objects."""

_BY_HAND = ("description", "minimum", "maximum", "pattern", "minLength", "if", "then", "else")
"""Keys of a schema that are written by hand; an update of the file keeps them."""

_IDENTITY = {"run_id": "string", "rank": "int32", "attempt": "int32"}
_NEVER_NULL = frozenset({"seq", "update"})
_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_WIDTH = 116


def load() -> dict[str, Any]:
    """Load the description from the package."""
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return document


def refreshed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The description, with everything that follows from the code regenerated."""
    return {
        **document,
        "format": limits.FORMAT_VERSION,
        "limits": {
            "segment_bytes": limits.MAX_SEGMENT_BYTES,
            "columns": limits.MAX_COLUMNS,
            "seq": limits.MAX_SEQ,
            "attempt": limits.MAX_ATTEMPTS,
            "json_bytes": MAX_JSON_BYTES,
            "parquet_footer_bytes": MAX_FOOTER_BYTES,
            "parquet_page_headers_bytes": MAX_HEADERS_BYTES,
            "minibatches": MAX_MINIBATCHES,
            "minibatch_numbers": MAX_NAMES,
            "minibatch_name_bytes": limits.MAX_NAME_BYTES,
        },
        "columns": {
            **document["columns"],
            "identity": [_column(name, dtype) for name, dtype in _IDENTITY.items()],
            "numbering": [_column(name, dtype) for name, dtype in SEQ_COLUMNS.items()],
            "metrics": [_column(metric.name, metric.dtype) for metric in METRICS.values()],
            "minibatch": [_minibatch_column(name, str(dtype)) for name, dtype in OWN_COLUMNS.items()],
        },
        "records": {
            name: _object(record, document["records"].get(name, {}), "https://json-schema.org/draft/2020-12/schema")
            for name, record in _RECORDS.items()
        },
    }


def _column(name: str, dtype: str) -> dict[str, Any]:
    return {"name": name, "type": dtype, **({"never_null": True} if name in _NEVER_NULL else {})}


def _minibatch_column(name: str, arrow: str) -> dict[str, Any]:
    """A column of a black box that none of its rows leaves out."""
    return {"name": name, "type": "float64" if arrow == "double" else arrow, "never_null": True}


# ------------------------------------------------------------------ JSON Schema from the dataclasses


def _object(record: type, document: Mapping[str, Any], dialect: str = "") -> dict[str, Any]:
    """The schema of an object with the fields of a dataclass; unknown keys are allowed."""
    hints = get_type_hints(record)
    stated = document.get("properties", {})
    properties = {}
    for entry in fields(record):
        schema = _value(hints[entry.name])
        nested = _NESTED.get((record, entry.name))
        before = stated.get(entry.name, {})
        if nested is not None and schema["type"] == "array":
            schema["items"] = _object(nested, before.get("items", {}))
        elif nested is not None:
            schema |= _object(nested, before)
        if entry.default is not MISSING:
            schema["default"] = entry.default
        properties[entry.name] = schema | _stated(before)
    required = [entry.name for entry in fields(record) if entry.default is entry.default_factory is MISSING]
    required = required or document.get("required", [])
    described = _stated(document)
    return {
        **({"$schema": dialect} if dialect else {}),
        **({"description": described.pop("description")} if "description" in described else {}),
        "type": "object",
        **({"required": required} if required else {}),
        "properties": properties,
        **described,
    }


def _stated(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in _BY_HAND if key in document}


def _value(declared: Any) -> dict[str, Any]:
    """The schema of a value. A Literal lists its words only as examples, since a later version may add some."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        options = [_value(option) for option in arguments]
        merged = {key: value for option in options for key, value in option.items()}
        return merged | {"type": [option["type"] for option in options]}
    if origin is Literal:
        return {"type": "string", "examples": list(arguments)}
    if origin is list:
        return {"type": "array"} if arguments[0] is Any else {"type": "array", "items": _value(arguments[0])}
    if origin is not None:  # Mapping
        kind = arguments[1]
        return {"type": "object"} if kind is Any else {"type": "object", "additionalProperties": _value(kind)}
    return {"type": _TYPES[declared]}


# ------------------------------------------------------------------ the file


def to_text(document: Mapping[str, Any]) -> str:
    """The text of the file; a value that fits on one line is on one line."""
    return _text(document, "") + "\n"


def _text(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not isinstance(value, (dict, list)):
        return line
    inner = indent + "  "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _text(item, inner) for item in value) + f"\n{indent}]"
    parts = (f"{inner}{json.dumps(key, ensure_ascii=False)}: {_text(item, inner)}" for key, item in value.items())
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"


if __name__ == "__main__":
    FILE.write_text(to_text(refreshed(load())), encoding="utf-8")
