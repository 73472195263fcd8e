"""Quantized networks as files that hold their codes."""
