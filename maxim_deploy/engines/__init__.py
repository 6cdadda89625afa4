"""From a bundle's graph to TensorRT engines, and what is known of those that are there."""
