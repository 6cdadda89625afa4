"""The cost of a graph at one input size: operations, bytes and memory. Needs onnx only."""
