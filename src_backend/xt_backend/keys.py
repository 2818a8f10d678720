"""The one place for file names, dataset names, attribute names and schema versions."""

from __future__ import annotations

from enum import IntEnum, IntFlag, StrEnum

__all__ = [
    "DEFAULT_COLORS",
    "DENSE_STRIDE",
    "MPP_MAX",
    "MPP_MIN",
    "PRODUCT",
    "RESEARCH_USE",
    "AnyH5",
    "CardMetrics",
    "DiffFile",
    "Doubt",
    "Encoding",
    "EvaluationFile",
    "FeaturesH5",
    "FeaturesMeta",
    "OverlayText",
    "RegionStatus",
    "RunFile",
    "RunH5",
    "RunMeta",
    "ScreeningMeta",
    "SlideStatus",
    "Stopped",
    "StoreH5",
]

PRODUCT = "napari-xt"
RESEARCH_USE = "For research use only. Not a medical device; not for diagnosis."
DENSE_STRIDE = 4
"""Region px per px of a mask or heat map."""
MPP_MIN = 0.05
"""Smallest believable um/px of a slide's level 0 or of a model."""
MPP_MAX = 5.0
"""Largest believable um/px of a slide's level 0 or of a model."""
DEFAULT_COLORS = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#cc79a7",
    "#0072b2",
    "#d55e00",
    "#f0e442",
    "#999999",
)
"""Class colours that colour-blind people can tell apart (Okabe and Ito), in the order of use."""


class RegionStatus(IntEnum):
    """What became of one selected region. Background never gets a row."""

    OK = 0
    EDGE = 1
    """Partly outside the slide; scored, and counted as ok."""
    READ_ERROR = 2
    """Its pixels could not be read; not scored."""
    SKIPPED = 3
    """Selected but not done: cancelled or failed."""
    SCREENED_OUT = 4
    """Not looked at: at low resolution it did not look like what was sought."""
    LEFT_OUT = 5
    """Taken out by hand to see what is predicted without it."""
    EXCLUDED = 6
    """Left out on request, because its picture is doubtful; see `Doubt`."""

    @property
    def label(self) -> str:
        """The word used in files and windows, e.g. ``read_error``."""
        return self.name.lower()

    @property
    def scored(self) -> bool:
        """Whether the region has logits."""
        return self in (RegionStatus.OK, RegionStatus.EDGE)


class Doubt(IntFlag):
    """What is doubtful about the picture of a region; a region may have several."""

    BLURRED = 1
    FOLDED = 2
    """Much darker in all colours than the slide's tissue is."""
    PEN = 4
    NOT_MEASURED = 128
    """It could not be read, or was not reached."""

    @property
    def label(self) -> str:
        """The words used in files, e.g. ``blurred+pen``; ``good`` without doubt, "" if unknown."""
        if Doubt.NOT_MEASURED in self:
            return ""
        return "+".join(str(doubt.name).lower() for doubt in self) or "good"


class SlideStatus(StrEnum):
    """The `status` column of slides.csv."""

    DONE = "done"
    FAILED = "failed"
    EMPTY = "empty"


class Stopped(StrEnum):
    """Why a slide of an interrupted run has no result; in slides.csv it is `failed`."""

    INTERRUPTED = "interrupted"
    """It was in hand."""
    NOT_STARTED = "not_started"


class AnyH5:
    """What every HDF5 file of ours has."""

    ATTR_DIGEST = "content_sha256"


class RunFile:
    """Names inside a run directory; `<id>` is put before those that start with a dot."""

    SLIDES_CSV = "slides.csv"
    RUN_JSON = "run.json"
    LOCAL_JSON = "local.json"
    LEDGER = "ledger"
    """Folder of what became of each slide, and of the plan; the two files above come from it."""
    PLAN = "plan.json"
    OUTCOME = ".outcome.json"
    EXPORT_JSON = "export.json"
    SCORE_MAP = ".run.h5"
    REGIONS_CSV = ".regions.csv"
    GEOJSON = ".geojson"
    GEOJSON_GZ = ".geojson.gz"
    OUTLINES = ".outlines.geojson"
    OUTLINES_GZ = ".outlines.geojson.gz"
    PROBABILITIES = ".probabilities.ome.tiff"
    SEGMENTATION = ".seg.dcm"
    OVERLAY_PNG = ".overlay.png"
    REPORT = ".report.html"
    BATCH_REPORT = "report.html"
    MASK = ".mask.ome.tiff"
    POINTS_CSV = ".points.csv"
    POINTS_GEOJSON = ".points.geojson"
    PARQUET = ".regions.parquet"
    FEATURES = ".features.h5"
    PARTIAL = ".partial"
    BAD = ".bad"

    @classmethod
    def of_every_result(cls) -> tuple[str, ...]:
        """Suffixes of the files that every slide that was scored has beside its map."""
        return (cls.REGIONS_CSV, cls.GEOJSON, cls.OVERLAY_PNG)

    @classmethod
    def of_slide(cls) -> tuple[str, ...]:
        """Suffixes of a slide's files, first those that say that it is done."""
        done = (cls.SCORE_MAP, cls.FEATURES)
        passing = (cls.PARTIAL, cls.BAD, cls.OUTCOME)
        named = [value for name, value in vars(cls).items() if name.isupper()]
        exported = [
            f".{kind}features.{end}"
            for kind in ("", "slide-", "context-", "slide-context-")
            for end in ("h5", "h5ad", "parquet")
        ]
        named = [v for v in (*named, *exported) if v.startswith(".") and v not in (*done, *passing)]
        return (*done, *named)


class DiffFile:
    """Names inside the folder that ``diff --out`` writes; `<id>` stands before the last two."""

    SLIDES = "diff.csv"
    SUMMARY = "diff.json"
    REGIONS = ".diff.csv"
    PICTURE = ".diff.png"


class OverlayText:
    """Keywords of the texts within an overlay's PNG."""

    PICTURE = "napari-xt picture"
    """``width,height`` of the slide's picture, which is in the top-left corner; px."""
    POINTS = "napari-xt points"
    """How many points of a detection model there are; pictures of version 0.1.0 show none."""


class EvaluationFile:
    """Names inside the folder that ``evaluate --out`` writes."""

    METRICS = "metrics.json"
    PREDICTIONS = "predictions.csv"
    CONFUSION = "confusion.png"
    RELIABILITY = "reliability.png"


class StoreH5:
    """Region store: one HDF5 shard per finished block of work (DESIGN section 6)."""

    SCHEMA = 1
    FEATURES = "features"
    CELL = "cell"
    STATUS = "status"
    ATTR_SCHEMA = "napari_xt_store_schema"
    ATTR_KEY = "key"
    ATTR_KEY_DIGEST = "key_digest"
    ATTR_VERSION = "napari_xt_version"
    ATTR_ROWS = "rows"
    ATTR_COMPLETE = "complete"
    INDEX = "index.json"
    SHARD_SUFFIX = ".h5"
    QUALITY = "quality"
    """Folder inside the cache, apart from the features: a few bytes a region, of use to every
    model."""


class RunH5:
    """The score map `<id>.run.h5`."""

    SCHEMA = 2
    """The newest that is read: some regions are screened out."""
    SCHEMA_ALL_LOOKED_AT = 1
    """Of a map in which none is, so that versions before there were any read it."""
    ATTR_SCHEMA = "napari_xt_run_schema"
    ATTR_VERSION = "napari_xt_version"
    ATTR_META = "meta"
    META_SLIDE_IDENTITY = "slide_identity"
    CELL = "cell"
    STATUS = "status"
    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    REGION_ONLY_LOGITS = "region_only_logits"
    SLIDE_LOGITS = "slide_logits"
    TISSUE = "tissue"
    QUALITY = "quality"
    QUALITY_MEASURES = "quality_measures"


class RunMeta:
    """Keys of `ScoreMap.run_meta` that are read again."""

    NOTES = "notes"
    """What the user should know of the slide, as sentences."""
    WARNINGS = "warnings"
    """Those of the notes that put a prediction in doubt."""
    TISSUE_MASK_PX = "tissue_mask_px"
    """Dense models: pixels of each class in the mask that lie on tissue, by class name."""
    MASK_PX = "mask_px"
    """The same on tissue or not; in files of older versions."""
    N_POINTS = "n_points"
    """Detection models: points of each kind, by its name."""
    FEATURES = "features"
    """What tells where the regions' features are, kept or not; see `FeaturesMeta`."""
    LEFT_OUT = "left_out_regions"
    """Of a prediction made again: number of regions that were taken out by hand."""
    CONTEXT = "context"
    """Whether the regions were judged together; as of `RunSpec`."""
    SCREENING = "screening"
    """Of a run with ``--screen``: see `ScreeningMeta`."""


class FeaturesMeta:
    """What finds the features of a run in a cache, besides slide and lattice."""

    NUMERICS = "numerics"
    """Of the region store's key."""
    SHAPE = "shape"
    """(k*k, D) of one region."""


class CardMetrics:
    """Keys of `ModelCard.metrics` that are read again."""

    TUNING = "tuning"
    """Of a model that was corrected by hand: from what, on which slides, and what it changed."""
    TUNING_SLIDES = "slides"
    """Within it: a mark of each corrected slide's content, see `corrected_mark`."""
    TUNING_EARLIER = "earlier"
    """Within it: the same of the model that it was made from, if that was corrected too."""


class ScreeningMeta:
    """What is told of a slide that was screened."""

    CLASSES = "classes"
    """Names of the classes that were sought."""
    RECALL = "recall"
    """Share of the regions of these classes that was to be looked at."""
    CONFIDENCE = "confidence"
    """Probability that it was, over the draws."""
    DRAWN = "drawn_regions"
    """Regions drawn at random, and looked at in any case."""
    POSITIVES = "positives"
    """Those that the cut was chosen by: drawn, of these classes, and not learnt from."""
    NEEDED = "positives_needed"
    """So many it takes; with fewer, nothing is left out."""
    BOUND = "recall_bound"
    """The share that was looked at, at least; 1 where nothing was left out."""
    SCREENED_OUT = "screened_out_regions"
    SHARE = "screened_out_share"
    """Of all selected regions."""


class FeaturesH5:
    """The feature export of layout ``xt``, `<id>.features.h5`."""

    SCHEMA = 1
    ATTR_SCHEMA = "napari_xt_features_schema"
    ATTR_MPP = "model_mpp"
    ATTR_REGION_PX = "region_px"
    ATTR_LATTICE = "lattice"
    ATTR_NUMERICS = "numerics"
    ATTR_LEVEL = "level"
    ATTR_CONTEXT = "context"
    FEATURES = "features"
    COORDS = "coords"
    BOXES = "boxes"
    CELL = "cell"
    STATUS = "status"
    TISSUE = "tissue"


class Encoding(StrEnum):
    """How a run used the region store (the `cache` column)."""

    HIT = "hit"
    PARTIAL = "partial"
    MISS = "miss"

    @classmethod
    def of(cls, reused: int, encoded: int) -> Encoding:
        """By the number of regions that came out of the store and of those encoded anew."""
        if not reused:
            return cls.MISS
        return cls.PARTIAL if encoded else cls.HIT
