"""Generators of the demo model's training and test data, from a seed."""
