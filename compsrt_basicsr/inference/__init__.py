"""Using networks: loading them without an option file."""
