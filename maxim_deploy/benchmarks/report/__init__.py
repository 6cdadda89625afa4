"""A report as one HTML file that needs no network."""

from maxim_deploy.benchmarks.report.page import write_report

__all__ = ["write_report"]
