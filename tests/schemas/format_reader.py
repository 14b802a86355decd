"""A minimal reader of the format that knows only `format.json` and uses no code of Esper.

pyarrow decodes the Arrow schema of a header and the Parquet files; everything else follows the description.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq

_CHECKSUMS = {"CRC-32 (zlib)": zlib.crc32}
_METADATA_TYPES: Mapping[str, Callable[[str], Any]] = {"integer": int, "string": str}

Row = dict[str, Any]
"""Column → value; a float as its bits, a timestamp in its unit, and None for null."""


class FormatError(Exception):
    """A file is not as the description says."""


def expect(condition: object, otherwise: object) -> None:
    """FormatError unless the condition holds."""
    if not condition:
        raise FormatError(str(otherwise))


@dataclass
class Segment:
    """What is in the file of a segment: its metadata, its rows, and how and where the whole rows end."""

    metadata: dict[str, Any] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    end: str = "clean"
    offset: int = 0


class FormatReader:
    """Reads files by a description, and raises FormatError where they are not as it says."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.description = description
        self.types: Mapping[str, Any] = description["types"]
        self._active: Mapping[str, Any] = description["active"]
        self._prefix = struct.Struct(self._active["message_prefix"]["struct"])
        self._patterns: dict[str, str] = {}

    # ---------------------------------------------------------------- names

    def kind_of(self, name: str) -> tuple[Mapping[str, Any], dict[str, int]]:
        """What the description says of a file of a run, and the numbers in the file's name."""
        found = []
        for entry in self.description["names"]["files"]:
            if match := re.fullmatch(self._pattern(entry["path"]), name):
                numbers = {key: int(value) for key, value in match.groupdict().items() if key != "rest"}
                smallest: Mapping[str, int] = self.description["names"]["smallest"]
                if all(value >= smallest.get(key, 0) for key, value in numbers.items()):
                    found.append((entry, numbers))
        expect(len(found) == 1, f"{name} is {len(found)} kinds of file")
        return found[0]

    def _pattern(self, path: str) -> str:
        if path not in self._patterns:
            self._patterns[path] = self._made_pattern(path)
        return self._patterns[path]

    def _made_pattern(self, path: str) -> str:
        pattern = re.escape(path).replace(r"\{rest\}", "(?P<rest>.+)")
        for number, digits in self.description["names"]["digits"].items():
            one = f"(?P<{number}>[0-9]{{{digits}}}|[1-9][0-9]{{{digits},}})"
            pattern = pattern.replace(rf"\{{{number}\}}", one)
        return pattern

    # ---------------------------------------------------------------- columns and metadata

    def column_types(self, schema: pa.Schema, kind: str) -> dict[str, str]:
        """The type of each column, in order. Known columns stand in the order of the description, then extras."""
        known = self._known(kind)
        extra: str = self.description["columns"]["extras"]["type"]
        types = {name: known[name]["type"] if name in known else extra for name in schema.names}
        order = [name for name in schema.names if name in known]
        expect(order == [name for name in known if name in order], "the columns stand in another order")
        expect(schema.names[: len(order)] == order, "an extra stands before a column of the table")
        for name, column in known.items():
            expect(name in types or not column.get("never_null"), f"the column {name} is missing")
        for entry in schema:
            arrow = self.types[types[entry.name]]["arrow"]
            expect(str(entry.type) == arrow and entry.nullable, f"{entry.name} is {entry.type}, not {arrow}")
        return types

    def _known(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The columns of the description by name, in order."""
        groups = [group for group in self.description["columns"]["in"][kind] if group != "extras"]
        return {column["name"]: column for group in groups for column in self.description["columns"][group]}

    def metadata(self, found: Mapping[bytes, bytes], kind: str) -> dict[str, Any]:
        """The described metadata of a file; a checksum is left out."""
        values: dict[str, Any] = {}
        for key, entry in self.description["metadata"].items():
            text = found.get(key.encode())
            if kind not in entry["in"]:
                expect(text is None, f"{key} does not belong there")
            elif text is None:
                expect("optional" in entry, f"{key} is missing")
            elif entry["type"] != "checksum":
                values[key] = _METADATA_TYPES[entry["type"]](text.decode())
        ours = {key.decode() for key in found if key.startswith(b"esper.")}
        expect(ours <= self.description["metadata"].keys(), f"{ours} are not all described")
        expect(values["esper.format"] <= self.description["format"], "a newer format")
        return values

    # ---------------------------------------------------------------- active files

    def active(self, data: bytes) -> Segment:
        """The whole rows of an active file."""
        header = self._active["header"]
        segment, size = Segment(), self._message_bytes(header["bytes"], data)
        try:
            expect(0 < size <= len(data), "the header is not whole")
            schema = pa.ipc.read_schema(pa.py_buffer(data[:size]))
            self._check_header(data[:size], schema.metadata or {})
            segment.metadata = self.metadata(schema.metadata, "active")
        except (FormatError, pa.ArrowException, OSError):
            mark = bytes.fromhex(header["row_mark"]) in data[self._prefix.size :]
            segment.end = self._end(header["end"], data, is_whole=0 < size <= len(data) or size < 0, has_mark=mark)
            return segment
        types = self.column_types(schema, "active")
        segment.columns = list(types)
        self._read_rows(segment, data, size, types)
        return segment

    def _message_bytes(self, parts: Sequence[str], data: bytes) -> int:
        """Size of the message at the start of `data`; 0 if it cannot be told yet, negative if it is no message."""
        if len(data) < self._prefix.size:
            return 0
        prefix = self._active["message_prefix"]
        fields = dict(zip(prefix["fields"], self._prefix.unpack_from(data), strict=True))
        if fields["marker"] != prefix["marker"]:
            return -1
        return sum({"message_prefix": self._prefix.size, **fields}[part] for part in parts)

    def _checksum(self, data: bytes, digits: bytes) -> bool:
        rule = self._active["checksum"]
        try:
            text = digits.decode(rule["encoding"])
            return text == text.lower() and int(text, rule["base"]) == _CHECKSUMS[rule["algorithm"]](data)
        except ValueError:
            return False

    def _check_header(self, header: bytes, metadata: Mapping[bytes, bytes]) -> None:
        rule = self._active["header"]["checksum"]
        recorded, mark = metadata.get(rule["key"].encode(), b""), bytes.fromhex(rule["mark"])
        expect(recorded.startswith(mark) and header.count(recorded) == 1, "the header has no checksum")
        digits = recorded[len(mark) :]
        at = header.index(recorded) + len(mark)
        expect(len(digits) == rule["digits"], f"{digits!r} are no {rule['digits']} digits")
        expect(self._checksum(header[:at] + header[at + len(digits) :], digits), "the header's checksum differs")

    def _read_rows(self, segment: Segment, data: bytes, offset: int, types: Mapping[str, str]) -> None:
        numbering = self.description["numbering"]
        row_bytes: int = segment.metadata[self._active["row"]["bytes"]["key"]]
        last = segment.metadata[numbering["before_first_row"]] - numbering["step"]
        while offset < len(data):
            message = data[offset : offset + row_bytes]
            row = self._row(message, types) if len(message) == row_bytes else None
            if row is not None:
                gap = row[numbering["gap_column"]] or 0
                if gap < numbering["smallest_gap"] or row[numbering["column"]] != last + numbering["step"] + gap:
                    row = None
            if row is None:
                break
            segment.rows.append(row)
            last = row[numbering["column"]]
            offset += row_bytes
        rest = data[offset:]
        segment.offset = offset
        segment.end = self._end(self._active["row"]["end"], rest, is_whole=len(rest) >= row_bytes, row_bytes=row_bytes)

    def _row(self, message: bytes, types: Mapping[str, str]) -> Row | None:
        """One row; None if its checksum is wrong."""
        parts: dict[str, tuple[Mapping[str, Any], bytes]] = {}
        at = 0
        for part in self._active["row"]["parts"]:
            if part["name"] == "message":
                size = self._message_bytes(part["bytes"], message)
            else:
                size = part.get("bytes", 0) + part.get("bytes_per_column", 0) * len(types)
            parts[part["name"]] = (part, message[at : at + size])
            at += size
        rule, digits = parts["checksum"]
        if not self._checksum(b"".join(parts[name][1] for name in rule["covers"]), digits):
            return None
        expect(at == len(message), f"the parts of a row are {at} bytes, not {len(message)}")
        validity = list(self._cells(*parts["validity"], [parts["validity"][0]["struct"]] * len(types)))
        codes = [self.types[dtype]["cell"]["struct"] for dtype in types.values()]
        values = list(self._cells(*parts["values"], codes))
        row: Row = {}
        for name, (is_valid, _), (value, cell) in zip(types, validity, values, strict=True):
            rules = parts["validity"][0]
            expect(is_valid in (rules["valid"], rules["null"]), f"{name} is neither valid nor null")
            is_null = is_valid == rules["null"]
            expect(not is_null or set(cell) == {parts["values"][0]["null"]}, f"{name} is null and not empty")
            row[name] = None if is_null else bits(value)
        return row

    def _cells(self, part: Mapping[str, Any], data: bytes, codes: Sequence[str]) -> Iterator[tuple[Any, bytes]]:
        """The value and the bytes of each cell."""
        for i, code in enumerate(codes):
            cell = data[i * part["bytes_per_column"] : (i + 1) * part["bytes_per_column"]]
            size = struct.calcsize(code)
            expect(set(cell[size:]) <= {part["padding"]}, "a cell is not padded")
            yield struct.unpack(code, cell[:size])[0], cell

    def _end(
        self,
        rules: Sequence[Mapping[str, Any]],
        rest: bytes,
        *,
        is_whole: bool,
        row_bytes: int = 0,
        has_mark: bool = False,
    ) -> str:
        """How what is left looks, by the first rule that fits."""
        for rule in rules:
            at = rule.get("from_byte", 0)
            fits = {
                "nothing is left": not rest,
                "zeros": not rest[at if at >= 0 else row_bytes + at :].strip(b"\0"),
                "row_mark behind the prefix of a header that is not whole": has_mark and not is_whole,
                "not whole": not is_whole,
                "otherwise": True,
            }
            if fits[rule["when"]]:
                return str(rule["kind"])
        raise FormatError("no rule says how it ends")

    # ---------------------------------------------------------------- sealed files and records

    def sealed(self, data: bytes) -> Segment:
        """The rows of a sealed file."""
        file = pq.ParquetFile(io.BytesIO(data))
        metadata = self.metadata(file.metadata.metadata, "sealed")
        types = self.column_types(file.schema_arrow, "sealed")
        for i, dtype in enumerate(types.values()):
            column, rule = file.schema.column(i), self.types[dtype]["parquet"]
            expect(column.physical_type == rule["physical"], f"{column.name} is {column.physical_type}")
            logical = json.loads(column.logical_type.to_json())
            expect(rule["logical"].items() <= logical.items(), f"{column.name} is {logical}")
            for group in range(file.num_row_groups):
                chunk = file.metadata.row_group(group).column(i)
                expect(chunk.compression == self.description["sealed"]["compression"], chunk.compression)
                expect(rule.get("encoding") in (None, *chunk.encodings), f"{column.name} is {chunk.encodings}")
        table = file.read()
        arrays = {name: plain(table.column(name)) for name in types}
        for column in self._known("sealed").values():
            expect(not column.get("never_null") or None not in arrays[column["name"]], f"{column['name']} has a null")
        for name, entry in self.description["metadata"].items():
            if "column" in entry:
                expect(set(arrays.get(entry["column"], [None])) <= {metadata[name]}, f"{name} is not that of every row")
        rows = [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]
        return Segment(metadata, list(types), rows, "clean", len(data))

    def black_box(self, data: bytes) -> Segment:
        """The minibatches of a black box."""
        file = pq.ParquetFile(io.BytesIO(data))
        limits = self.description["limits"]
        expect(file.metadata.num_rows <= limits["minibatches"], f"{file.metadata.num_rows} minibatches")
        metadata = self.metadata(file.metadata.metadata, "black_box")
        types, known = self.column_types(file.schema_arrow, "black_box"), self._known("black_box")
        expect(len(types) - len(known) <= limits["minibatch_numbers"], f"{len(types)} columns")
        longest = max(len(name.encode()) for name in types)
        expect(longest <= limits["minibatch_name_bytes"], f"a name of {longest} bytes")
        for group in range(file.num_row_groups):
            for i in range(len(types)):
                compression = file.metadata.row_group(group).column(i).compression
                expect(compression == self.description["black_box"]["compression"], compression)
        table = file.read()
        arrays = {name: plain(table.column(name)) for name in types}
        for name, column in known.items():
            expect(not column.get("never_null") or None not in arrays[name], f"{name} has a null")
        rows = [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]
        return Segment(metadata, list(types), rows, "clean", len(data))

    def check_black_box(self, numbers: Mapping[str, int], record: Mapping[str, Any], data: bytes) -> Segment:
        """The minibatches of a black box, held against the numbers in its name and its record."""
        rule = self.description["black_box"]["record"]
        said: dict[str, Any] = {field: numbers[number] for field, number in rule["name"].items()}
        said |= {rule["size"]: len(data), rule["digest"]["field"]: _digest(rule["digest"]["algorithm"], data)}
        box = self.black_box(data)
        said |= {rule["rows"]: len(box.rows)}
        said |= {field: box.metadata[key] for field, key in rule["metadata"].items()}
        for number, key in self.description["black_box"]["path"].items():
            expect(box.metadata[key] == numbers[number], f"{key} is {box.metadata[key]}, the path says {numbers}")
        expect(said.items() <= record.items(), f"the record says {record}, the file {said}")
        return box

    def record(self, kind: str, text: bytes) -> dict[str, Any]:
        """A JSON record."""
        expect(len(text) <= self.description["limits"]["json_bytes"], "too large")
        value: dict[str, Any] = json.loads(text)
        errors = list(jsonschema.Draft202012Validator(self.description["records"][kind]).iter_errors(value))
        expect(not errors, [error.message for error in errors])
        return value

    def check_seal(self, seal: Mapping[str, Any], data: bytes, segment: Segment) -> None:
        """Hold a seal against its file."""
        rule = self.description["sealed"]["seal"]
        said: dict[str, Any] = {rule["size"]: len(data), rule["rows"]: len(segment.rows)}
        said[rule["digest"]["field"]] = _digest(rule["digest"]["algorithm"], data)
        for names, row in ((rule["first"], segment.rows[0]), (rule["last"], segment.rows[-1])):
            said |= {name: row[column] for name, column in names.items()}
        expect(said.items() <= seal.items(), f"the seal says {seal}, the file {said}")

    # ---------------------------------------------------------------- a run

    def run(self, folder: Path) -> tuple[dict[tuple[int, int], Segment], dict[str, Segment]]:
        """Every segment of a run by rank and number, and every black box by the name of its file without the suffix,
        once every file of the run has been looked at."""
        expect(re.fullmatch(self.description["names"]["run_id"], folder.name), "the folder has no name of a run")
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        segments: dict[tuple[int, int], Segment] = {}
        sealed: dict[tuple[int, int], bytes] = {}
        seals: dict[tuple[int, int], dict[str, Any]] = {}
        boxes: dict[str, tuple[dict[str, int], bytes]] = {}
        records: dict[str, dict[str, Any]] = {}
        for name in sorted(files):
            entry, numbers = self.kind_of(name)
            place = (numbers.get("rank", 0), numbers.get("segment", 0))
            if entry["holds"] == "active":
                segments[place] = self.active(files[name])
            elif entry["holds"] == "sealed":
                segments[place], sealed[place] = self.sealed(files[name]), files[name]
            elif entry["holds"] == "record":
                record = self.record(entry["record"], files[name])
                expect(record.get("run_id", folder.name) == folder.name, "the header is of another run")
                if entry["record"] == "seal":
                    seals[place] = record
                elif entry["record"] == "black_box":
                    records[str(Path(name).with_suffix(""))] = record
            elif entry["holds"] == "black box":
                boxes[str(Path(name).with_suffix(""))] = (numbers, files[name])
        expect(sealed.keys() == seals.keys(), "files and seals are not of the same segments")
        for place, data in sealed.items():
            self.check_seal(seals[place], data, segments[place])
        expect(boxes.keys() == records.keys(), "black boxes and records are not of the same names")
        found = {
            name: self.check_black_box(numbers, records[name], data) for name, (numbers, data) in sorted(boxes.items())
        }
        return dict(sorted(segments.items())), found


def _digest(algorithm: str, data: bytes) -> str:
    return hashlib.new(algorithm, data).hexdigest()


def bits(value: Any) -> Any:
    """A value so that equal means the same bits."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def plain(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as rows have them."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [bits(value) for value in column.to_pylist()]
