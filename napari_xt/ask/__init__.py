"""The page `Ask`: what a prediction looked at, what would be if, and what context changed."""

from .page import AskPage

__all__ = ["AskPage"]
