"""What a graph costs at one size of its input: operations, bytes and memory. Needs onnx only."""
