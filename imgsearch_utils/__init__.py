"""Teach an image search engine what you mean by "similar"."""

__version__ = "0.1.0"
