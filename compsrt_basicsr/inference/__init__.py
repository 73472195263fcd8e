"""Upscale images with a trained network."""
