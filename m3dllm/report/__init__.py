"""Scored runs to tables: `write_report` for Markdown and CSV files, `table` and `run_table` for the terminal.

A report is a function of its runs: the same runs give the same bytes. Nothing here scores anew or writes into a run.
"""

from m3dllm.report.files import write_report
from m3dllm.report.terminal import run_table, table

__all__ = ["run_table", "table", "write_report"]
