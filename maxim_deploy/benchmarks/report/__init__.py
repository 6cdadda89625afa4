"""The benchmark report: one self-contained HTML file."""

from maxim_deploy.benchmarks.report.page import write_report

__all__ = ["write_report"]
