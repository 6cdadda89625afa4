"""NVIDIA Triton: repositories of models for it, the model that it runs, a check of a server."""
