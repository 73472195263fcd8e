"""Quantization methods as data: each is a set of options of the same pipeline."""
