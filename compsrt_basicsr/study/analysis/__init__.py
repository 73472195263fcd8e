"""Measures, tests and figures of quantized tensors before and after a transform."""
