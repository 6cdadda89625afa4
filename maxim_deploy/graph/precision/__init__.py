"""Mixed precision: decision tables, casts, and their verification.

In order: `default_table`, `magnitudes` on pictures, `with_safe_range`, `low_precision`,
`verify_types`, and `compare_graphs` on the result's `simulated_in_float32`.
"""
