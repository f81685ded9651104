"""Hierarchical learning as in arXiv:2001.04413: targets, learners, metrics. No web, database or queue."""
