"""The HTTP API: one file per noun, and what turns requests into calls."""
