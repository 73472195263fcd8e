"""Models by name: what is known of them, where their files are, and how files are downloaded."""

SCHEME = 'zoo://'
