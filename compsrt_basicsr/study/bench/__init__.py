"""Time and memory of trained networks."""
