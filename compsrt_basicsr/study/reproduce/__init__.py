"""From nothing to a row of the published table: teacher, data, training, test, comparison."""
