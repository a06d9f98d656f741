"""From an output folder's results.json to a table, a picture and a page. Reads files only: no JAX."""

from flax_agnews.report.files import read_results
from flax_agnews.report.page import write_report
from flax_agnews.report.tables import final_table

__all__ = ["final_table", "read_results", "write_report"]
