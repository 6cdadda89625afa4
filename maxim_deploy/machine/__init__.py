"""The machine: memory, processors, GPU, and one module for each library that needs care."""
