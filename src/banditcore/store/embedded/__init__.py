"""A server of our own on a data directory."""
