"""The shared words: architectures, published models, descriptors, recipes, bundle manifests.

Standard library only: every other room stands on this one.
"""
