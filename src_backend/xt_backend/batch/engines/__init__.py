"""Where the slides of a batch are worked on: here, on a Ray cluster, by Slurm."""

from .choice import BatchEngine, EngineOptions, open_engine

__all__ = ["BatchEngine", "EngineOptions", "open_engine"]
