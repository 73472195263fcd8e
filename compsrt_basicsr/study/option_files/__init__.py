"""The published experiments: their option files, and the figures that were published."""
