"""Frozen feature encoders, their weights and licences, and the cache of their results."""
