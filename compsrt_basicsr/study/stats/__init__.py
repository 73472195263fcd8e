"""Statistics of paired results, families of tests, seeds and ranks: vectors in, frozen dataclasses out."""
