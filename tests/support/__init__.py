"""Slides and models that several rooms' tests make on the spot."""
