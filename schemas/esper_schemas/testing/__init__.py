"""Test material for readers and writers of the format: runs, damages, and what a correct reader must find in them.

    golden      runs that version 0.1.0 recorded, with their rows, attempts and faults
    damages     a table of ways to damage a run, with every fault that a reader must find, and at which depth
    bases       the undamaged runs that the table damages, written without a recorder
    strategies  hypothesis strategies for values, rows, segments and records; needs hypothesis
    segments    encodes the rows of a test as the bytes of a segment
    description the format in machine-readable form, `esper_schemas/format.json`

`import esper_schemas` imports nothing of this. In this example, replace `MyReader` with your own reader. It reads every
row, so its depth is `rows`:

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

`rows()` returns an Arrow table sorted by rank and sequence number; `faults()` returns a set of (rank, segment, kind)
without notes.
"""
