"""The machine at hand: memory, processors, GPU, and the libraries behind one door each."""
