"""From raw tables to train, test and production rows: read, check, explore, clean, split."""

from truefit.data_prep.clean import clean, column_roles
from truefit.data_prep.read import as_written, checksums, collect, read_table
from truefit.data_prep.schema import check, infer_schema
from truefit.data_prep.split import Split, leak_by_scaling, leak_by_selection, set_aside, split

__all__ = [
    "Split",
    "as_written",
    "check",
    "checksums",
    "clean",
    "collect",
    "column_roles",
    "infer_schema",
    "leak_by_scaling",
    "leak_by_selection",
    "read_table",
    "set_aside",
    "split",
]
