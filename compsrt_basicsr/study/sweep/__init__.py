"""Many runs from one file: axes of options, what each run measured as JSON, and the tables made from that."""
