"""Scored runs compared: `write_report` for a page, tables and figures, `compare` for data frames, `table` for text.

A report is a function of its runs: the same runs give the same bytes. Nothing here scores again or writes into a run.
`scored` reads runs, `groups` decides which are comparable, `assembly` makes tables and figures as plain values
(`layout`), and each of html, markdown, latex, tidy, svg and pdf writes them in one form.
"""

from m3dllm.report.dataframes import Comparison, compare, load_run
from m3dllm.report.files import write_report
from m3dllm.report.terminal import run_summary, run_table, table

__all__ = ["Comparison", "compare", "load_run", "run_summary", "run_table", "table", "write_report"]
