"""Measurements behind every number in the documents: ``python -m benchmarks --help``."""
