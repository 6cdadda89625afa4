"""Formats of image files: contents beside the pixels, read and written as bytes."""
