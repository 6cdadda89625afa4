"""Measures time and memory: timing method, environment, suites and their records.

The package imports nothing by itself, so that measured worker processes do not load PyTorch or
ONNX.
"""
