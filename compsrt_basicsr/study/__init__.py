"""What compares and explains: nothing outside this package imports it."""
