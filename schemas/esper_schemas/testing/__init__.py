"""For whoever reads or writes the format: what a sound reader must find, so that a reader can test itself.

    golden      runs that version 0.1.0 recorded, with their rows, attempts and faults
    damages     a table of ways to damage a run, with every fault that must be found, and at which depth
    bases       the sound runs that the table damages, written without a recorder
    strategies  hypothesis strategies for values, rows, segments and records; needs `esper-recorder[testing]`
    segments    the bytes of a segment from rows that a test gives
    description the format in machine-readable form, `esper_schemas/format.json`

Nothing here is imported by `import esper_schemas`. A reader of your own takes the place of `MyReader` here; it looks at
every row, so its depth is `rows`:

    from pathlib import Path
    from tempfile import TemporaryDirectory

    from my_reader import MyReader

    from esper_schemas.testing import bases, damages, golden

    with TemporaryDirectory() as folder:
        root = Path(folder)
        for name in golden.NAMES:
            reader = MyReader(golden.copy_run(name, root))
            assert golden.wrong_columns(golden.rows(name).drop_columns("is_current"), reader.rows()) == []
            assert golden.expected(name).faults == reader.faults()
        sound = bases.write_bases(root)
        for damage in damages.DAMAGES:
            reader = MyReader(damage.copy_to(root / "damaged", sound))
            assert damage.objections(reader.faults(), "rows") == [], damage.name

`rows()` is an Arrow table by rank and sequence number; `faults()` a set of (rank, segment, kind), without notes.
"""
