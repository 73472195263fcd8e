"""Quantizers as modules: configuration, learned state, calibration, and the conversion of whole networks."""
