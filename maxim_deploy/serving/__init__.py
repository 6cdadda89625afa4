"""Serving and scaling: Triton repositories, Ray, the small service."""
