"""One module a command; importing this package registers them all."""

from . import (
    doctor,
    evaluate,
    export,
    features,
    import_images,
    info,
    models,
    sample,
    score,
    train,
    view,
)

__all__ = [
    "doctor",
    "evaluate",
    "export",
    "features",
    "import_images",
    "info",
    "models",
    "sample",
    "score",
    "train",
    "view",
]
