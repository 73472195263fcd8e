"""Quantizers, quantized layers, calibration, pruning, and the conversion of whole networks."""
