"""What an evaluation and a comparison of two leave behind for people: pages, tables for papers, figures."""

from medsam.evaluation.report.compare_page import write_comparison
from medsam.evaluation.report.page import write_report

__all__ = ["write_comparison", "write_report"]
