"""Events on their way to the counts, in streams."""
