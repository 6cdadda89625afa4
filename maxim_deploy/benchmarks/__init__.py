"""How fast and how large: timing method, memory, environment, suites and their records.

Imports nothing by itself: the worker processes that are measured must not carry PyTorch or ONNX
along.
"""
