"""The options of everything, typed and checked."""
