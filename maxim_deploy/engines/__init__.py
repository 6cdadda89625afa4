"""Build TensorRT engines from a bundle's graph, and inspect existing ones."""
