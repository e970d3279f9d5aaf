"""Understudy: a self-hosted server for the Assistants API."""

__version__ = "0.1.0"
