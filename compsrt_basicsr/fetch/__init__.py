"""Getting files over the network, and where they are kept."""
