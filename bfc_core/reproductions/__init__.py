"""Theorems and published numbers as presets: what to run, what to expect, what was found.

Free of torch except for ``runner`` and ``__main__``, which train.
"""
