"""A report as one HTML file that needs no network: `page.write_report`.

Imports nothing by itself.
"""
