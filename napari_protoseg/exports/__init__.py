"""Masks written for other programs and for people to look at."""
