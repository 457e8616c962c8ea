"""In: pictures, their classes or graded pairs, and settings. Out: a backbone with other weights,
and its curves.
"""
