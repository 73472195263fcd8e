"""Weights: the models inside the package, and reading of weight files."""
