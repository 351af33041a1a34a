"""Servers that keep what is stored: their addresses, how they are spoken to, what they must be."""
