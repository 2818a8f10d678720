"""Region features of any number of slides, without any prediction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xt_backend.config import FeatureOptions, check_stride
from xt_backend.engine import BatchEncoder, Device, choose_device
from xt_backend.outputs import get_layout
from xt_backend.slides.reading import wants_direct

from .configuration import plain_options
from .encoding import Encodes, batch_encoder
from .engaged import run_on
from .feature_job import Extractor, FeatureFiles, FeatureJob, region_encoder
from .folder import RunFolder
from .inputs import read_inputs
from .isolation import Isolation
from .plan import in_rows, plan
from .planned import PlannedBatch
from .result import Run
from .retry import unfinished

__all__ = ["FeatureBatch", "features"]


class FeatureBatch(PlannedBatch):
    """A planned extraction.

    Args:
        inputs: Slides, folders, manifests.
        encoder: timm name of a region encoder.
        out: Folder for the files of `FeatureOptions.layout` and slides.csv.
        retry_failed: Leave alone what the run in `out` has finished, without a look at it.
        device: Of workers elsewhere, on which nothing can be tried from here; None for one of
            this machine.
        isolation: This process opens no slide; who executes the batch does. None where it may.

    Raises:
        UsageError: Anything that is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output folder cannot be made.
    """

    job: FeatureJob

    def __init__(
        self,
        inputs: Sequence[Path],
        encoder: str,
        out: Path,
        options: FeatureOptions,
        *,
        retry_failed: bool = False,
        device: Device | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        super().__init__()
        wants_direct()  # A wrong wish is told before any work
        self.inputs = read_inputs(inputs, isolation)
        check_stride(options.stride_px, options.region_px)
        get_layout(options.layout).check(options.level)
        elsewhere = device is not None
        self.device = device or choose_device(options.device, options.precision)
        with self._stages.timed("load"):
            net = region_encoder(encoder, options)
        ordered = plan(self.inputs, options)
        self.tasks = in_rows(ordered)
        encodes = Encodes(
            what=net.numerics(),
            model_mpp=options.model_mpp,
            region_px=options.region_px,
            stain=None,
            load=lambda: (net, None),
        )
        with self._stages.timed("probe"):
            self.choice, opened = batch_encoder(
                encodes,
                self.tasks,
                options,
                self.device,
                out,
                dry_run=elsewhere,
                isolate=isolation is not None,
            )
        self._encoder = opened or BatchEncoder(net, self.device)
        configuration = {
            "command": "features",
            "numerics": self._encoder.numerics(),
            "options": plain_options(options),
            **self._encoder.told(),
        }
        self.folder = RunFolder(out, configuration, result=FeatureFiles(encoder, options))
        self._previous = self.folder.claim([task.slide_id for task in self.tasks])
        self.todo = ordered
        if retry_failed:
            self.todo = unfinished(self.folder, ordered, options, self._previous)
        self.job = FeatureJob(options, self.folder, self.choice, encoder)

    def _worker(self) -> Extractor:
        return Extractor(self.job, self._encoder)


def features(
    slides: Path | str | Sequence[Path | str],
    encoder: str,
    out: Path | str,
    *,
    retry_failed: bool = False,
    engine: str = "local",
    processes: int | None = None,
    address: str | None = None,
    slurm: Sequence[str] = (),
    isolate: bool = False,
    give_up_after: float | None = None,
    **options: Any,
) -> Run:
    """Export region features: the command ``napari-xt features`` for scripts.

    Args:
        slides: A slide, a DICOM folder, a folder, a manifest, or several of them.
        encoder: timm name of a region encoder, e.g. ``tf_efficientnet_lite0``.
        out: Folder for the files of the layout and slides.csv.
        retry_failed: Leave alone what the run in `out` has finished, without a look at it.
        engine: Who works on the slides: ``local``, ``ray`` or ``slurm``.
        processes: Workers of the engine, each with an encoder; None for one for each GPU.
        address: HOST:PORT of a Ray cluster, or ``auto``; None starts one on this machine.
        slurm: ``KEY=VALUE`` for Slurm's jobs.
        isolate: Open slides in a process of their own: one that ends or holds it fails alone.
        give_up_after: Minutes without progress after which an isolated slide fails; None for 120.
        **options: Fields of `FeatureOptions`, e.g. ``model_mpp=0.5``, ``region_px=256``.

    Raises:
        UsageError: Something is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        EngineError: The engine cannot be reached, or was lost.
        OutputError: The output cannot be written.

    Returns:
        The run; `Run.slides` has a row for every input, and `Run.folder` the files.

    Example:
        >>> import h5py
        >>> import xt_backend as xt
        >>> run = xt.features(
        ...     "slide.tiff",
        ...     "tf_efficientnet_lite0",
        ...     "features",
        ...     weights="random",  # "pretrained" if left out
        ...     model_mpp=2.0,
        ...     region_px=128,
        ...     layout="h5",
        ... )
        >>> with h5py.File(run.folder / "slide.h5") as file:
        ...     features, coords = file["features"][:], file["coords"][:]  # coords: level-0 px
        >>> features.shape == (run.slides["n_regions"][0], 1280), features.dtype, coords.shape[1]
        (True, dtype('float32'), 2)
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    checked = FeatureOptions.checked(options)
    paths = [Path(item) for item in listed]
    plan_for = partial(FeatureBatch, paths, encoder, Path(out), checked, retry_failed=retry_failed)
    return run_on(
        checked,
        plan_for,
        engine=engine,
        processes=processes,
        address=address,
        slurm=slurm,
        isolate=isolate,
        give_up_after=give_up_after,
    )
