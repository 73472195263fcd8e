"""Distributions of what is quantized, before and after a transform: measured, tested, written."""
