"""A row of the published table, from scratch: teacher, data, training, test, comparison."""
