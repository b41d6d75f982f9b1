"""Masks compared with the truth, under a protocol that is named beside every figure."""
