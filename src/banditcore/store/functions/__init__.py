"""Server-side functions, and their typed bindings."""
