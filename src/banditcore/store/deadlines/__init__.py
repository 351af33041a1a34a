"""Small questions to a store, each answered or given up by a deadline."""
