"""One module a command; importing this package registers them all."""

from . import (
    bench,
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
    "bench",
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
