"""ONNX graphs: names, files and checks. Needs onnx, never torch."""
