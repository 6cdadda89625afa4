"""The shared words: architectures, published models, descriptors, recipes, bundle manifests.

Standard library only, because every other room imports this one.
"""
