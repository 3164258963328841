"""A factory of temporal preference datasets."""

__version__ = "0.1.0"
