"""From an output folder's results.json to a table, a picture and a page. Reads files only: no JAX."""

from flax_agnews.report.page import write_report
from flax_agnews.report.tables import final_table
from flax_agnews.runs.result_files import read_results

__all__ = ["final_table", "read_results", "write_report"]
