"""Comparison of networks on one image: details, quality and sharpness."""
