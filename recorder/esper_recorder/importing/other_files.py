"""Says what a file is that is no log, and what a person can do about it."""

from __future__ import annotations

import codecs
import re

COMPRESSED = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
"""How files begin that a person can make readable, and what they are."""

_ZIP = b"PK\x03\x04"  # a checkpoint of PyTorch begins so, too
_IN_OFFICE = (b"[Content_Types].xml", b"docProps/", b"_rels/", b"xl/", b"application/vnd.oasis.opendocument")
"""What is among the first names in the archive that a spreadsheet is."""

_SHEET = "an Excel sheet or another document of Office"

_OTHERS = {
    b"\xd0\xcf\x11\xe0": f"{_SHEET}; save the sheet as CSV",
    b"\x93NUMPY": "an array of NumPy, whose columns have no names; write it as CSV with a header",
    b"\x89HDF": "an HDF5 file; write its table as CSV or Parquet",
    b"ARROW1": "an Arrow or Feather file; write it as Parquet or CSV",
    b"FEA1": "a Feather file; write it as Parquet or CSV",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}
_PICKLES = tuple(bytes([0x80, version]) for version in (2, 3, 4, 5))
_FEW_BYTES = 8  # which tell what every second one is

_ROWS = re.compile(r"\[\s*\[\s*-?\d")
_DECIMAL_COMMAS = re.compile(r"loss\w*[\"']?\s*[:=]\s*[\"']?[-+]?\d+,\d", re.IGNORECASE)
"""A loss as a program prints it where decimals are separated by a comma."""

_PROGRESS = re.compile(r"\d%\||\d(?:it/s|s/it)")
"""What tqdm prints."""

_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_PAGES = ("<!doctype", "<html", "<?xml")


def describe_start(start: bytes) -> str:
    """Guess from its first bytes what a file is that is not a log."""
    if not start:
        return "an empty file"
    if not start.strip():
        return "blank lines"
    for magic, name in COMPRESSED.items():
        if start.startswith(magic):
            return f"{name} data; decompress it first"
    if start.startswith(_ZIP):
        is_sheet = any(name in start for name in _IN_OFFICE)
        return f"{_SHEET}; save the sheet as CSV" if is_sheet else "a zip archive; unpack it first"
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            return name
    if start.startswith(_PICKLES):
        return "a pickle, which is not opened since it can run any program; write its table as CSV or Parquet"
    if len(start) >= _FEW_BYTES and 0 not in start[::2] and not any(start[1::2]):
        return "text in UTF-16 without a byte-order mark; save it as UTF-8"
    if start.startswith(_UTF32):
        return "text in UTF-32; save it as UTF-8"
    text = start.decode(errors="replace")
    if "\0" in text or "\ufffd" in text[:-4]:
        return "binary data"
    return _describe_text(text.strip())


def _describe_text(text: str) -> str:
    if text.startswith("#{"):
        return "the episodes that a Monitor of Stable-Baselines3 logs, without losses; pass its progress.csv"
    if _ROWS.match(text):
        return "rows of numbers in JSON, whose columns have no names; write a list of objects"
    if text.lower().startswith(_PAGES):
        return "a page in HTML or XML; save its table as CSV"
    if ", episodic_return=" in text and "global_step=" in text:
        return "the console output of CleanRL, which has no losses; its event files have: pass runs/<name>"
    first, end, _ = text.partition("\n")
    if has_decimal_commas(text):
        return "printed lines with decimal commas, which may separate numbers, too; print the numbers with a point"
    lines = first.split("\r")
    if not end and len(lines) > 2 and _PROGRESS.search(first):
        return "a progress bar that writes over its own line; print a line for each update"
    if not end and len(lines) > 2 and "," in lines[0]:
        return "a table whose lines end with a carriage return only; save it with the line ends of Unix or Windows"
    return f"text that begins {first[:60]!a}"


def has_decimal_commas(text: str) -> bool:
    """Whether the first line of a text is printed, with a loss whose decimals are separated by a comma."""
    return _DECIMAL_COMMAS.search(text.lstrip().partition("\n")[0]) is not None
