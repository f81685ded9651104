"""Kernels in closed form and the ridge regression that every kernel learner shares."""
