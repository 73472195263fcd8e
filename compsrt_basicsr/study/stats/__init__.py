"""Statistics of paired results, test families, seeds and ranks: vectors in, frozen dataclasses out."""
