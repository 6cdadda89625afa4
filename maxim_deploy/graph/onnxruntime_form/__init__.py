"""The form of a float32 graph that ONNX Runtime runs fastest on a CPU."""
