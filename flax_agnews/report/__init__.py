"""The report of an experiment, made from its files without JAX: tables, picture, Markdown page, pandas frames."""

from flax_agnews.report.answer import read_answer
from flax_agnews.report.page import write_answer, write_report
from flax_agnews.report.tables import final_table
from flax_agnews.runs.result_files import read_results

__all__ = ["final_table", "read_answer", "read_results", "write_answer", "write_report"]
