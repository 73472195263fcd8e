"""Using trained networks: loading one without an option file, and what is done with it."""
