"""Trimtab: learn to route requests over unequal servers, and see whether it was worth it."""

__version__ = "0.1.0"
