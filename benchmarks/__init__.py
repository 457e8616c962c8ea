"""Measurements of the package against references; each module is run with python -m."""
