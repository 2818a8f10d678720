"""Small things the window keeps for this user and machine, as JSON in the configuration folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_xt.sample_data import SAMPLE_MODEL

if TYPE_CHECKING:
    from napari_xt.run_form import RunForm

__all__ = ["Choices", "keep", "kept_file", "read_kept"]

_log = logging.getLogger(__name__)
_CHOICES = "choices.json"


class Choices:
    """What was chosen for the last run, to begin the next one with.

    What makes a result less trustworthy (enlarged pixels, an entered pixel size) is asked anew.

    Attributes:
        model: Name or file; empty where none was chosen.
        device: As the form names it.
        exclude: Whether doubtful regions were left out.
    """

    def __init__(self) -> None:
        kept = read_kept(_CHOICES)
        values = kept if isinstance(kept, dict) else {}
        self.model = str(values.get("model", ""))
        self.device = str(values.get("device", "auto"))
        self.exclude = values.get("exclude") is True

    def show(self, form: RunForm) -> tuple[Path, ...]:
        """Choose in a form as before; the path of the model where it is a file by itself."""
        form.device.setCurrentIndex(max(0, form.device.findData(self.device)))
        form.exclude.setChecked(self.exclude)
        path = Path(self.model)
        return (path,) if path.is_absolute() and path.is_file() else ()

    def keep_form(self, model: str, form: RunForm) -> None:
        """Keep a model's name or file and what a form says."""
        self.keep(model=model, device=form.device.currentData(), exclude=form.exclude.isChecked())

    def keep(self, *, model: str, device: str, exclude: bool) -> None:
        """Begin the next run, also of another window, with these.

        The model for sample slides is not kept: on real tissue it means nothing.
        """
        self.model = self.model if model == SAMPLE_MODEL else model
        self.device, self.exclude = device, exclude
        keep(_CHOICES, vars(self))


def read_kept(name: str) -> Any:
    """What was kept under a file's name; None where nothing can be read."""
    try:
        return json.loads(kept_file(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def keep(name: str, values: Any) -> None:
    """Keep plain values for this user alone; a full disk loses them, which is logged."""
    from xt_backend.errors import OutputError
    from xt_backend.publishing import make_folder, publish_bytes

    path = kept_file(name)
    try:
        make_folder(path.parent)
        # File names may be those of patients.
        publish_bytes(path, json.dumps(values, indent=1).encode(), private=True, durable=False)
    except OutputError as error:
        _log.warning("%s is not kept: %s", name, error)


def kept_file(name: str) -> Path:
    """Where something is kept."""
    import platformdirs

    from xt_backend.keys import PRODUCT

    return platformdirs.user_config_path(PRODUCT, appauthor=False) / name
