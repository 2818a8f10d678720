"""One module a command; importing this package registers them all."""

from . import (
    bench,
    diff,
    doctor,
    evaluate,
    export,
    features,
    import_images,
    info,
    models,
    sample,
    score,
    summarise,
    train,
    tune,
    view,
)

__all__ = [
    "bench",
    "diff",
    "doctor",
    "evaluate",
    "export",
    "features",
    "import_images",
    "info",
    "models",
    "sample",
    "score",
    "summarise",
    "train",
    "tune",
    "view",
]
