"""Correcting a model: paint or outline what it got wrong, train, and see it do better."""

from .page import CorrectPage

__all__ = ["CorrectPage"]
