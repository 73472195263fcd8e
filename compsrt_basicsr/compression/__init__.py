"""One command from a full-precision network to small files and a report of what they cost."""
