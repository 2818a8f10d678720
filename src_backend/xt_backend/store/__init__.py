"""Everything that napari-xt writes and reads back itself: region stores, score maps, publishing."""

from __future__ import annotations

from xt_backend.publishing import (
    make_folder,
    publish,
    publish_bytes,
    scratch,
    sweep_partials,
)
from xt_backend.store.blocks import Blocks, blocks_of, parts
from xt_backend.store.cache import (
    StoreInfo,
    disk_use,
    keys_of_slide,
    list_stores,
    remove_store,
)
from xt_backend.store.feature_rows import (
    FeatureRows,
    FileRows,
    ScratchRows,
    SomeRows,
    StoredRows,
    in_blocks,
)
from xt_backend.store.h5 import H5Reader, content_digest, h5_image, open_checked
from xt_backend.store.h5_stream import H5Stream, h5_stream, write_h5
from xt_backend.store.housekeeping import Pruned, all_stores, prune_cache, verify_store
from xt_backend.store.mask_grid import MaskGrid
from xt_backend.store.plain import (
    Difference,
    canonical_json,
    differences,
    plain_json,
    writer_version,
)
from xt_backend.store.points import Points
from xt_backend.store.region_store import RegionStore
from xt_backend.store.score_map import ScoreMap
from xt_backend.store.store_index import store_folder
from xt_backend.store.store_key import StoreKey

__all__ = [
    "Blocks",
    "Difference",
    "FeatureRows",
    "FileRows",
    "H5Reader",
    "H5Stream",
    "MaskGrid",
    "Points",
    "Pruned",
    "RegionStore",
    "ScoreMap",
    "ScratchRows",
    "SomeRows",
    "StoreInfo",
    "StoreKey",
    "StoredRows",
    "all_stores",
    "blocks_of",
    "canonical_json",
    "content_digest",
    "differences",
    "disk_use",
    "h5_image",
    "h5_stream",
    "in_blocks",
    "keys_of_slide",
    "list_stores",
    "make_folder",
    "open_checked",
    "parts",
    "plain_json",
    "prune_cache",
    "publish",
    "publish_bytes",
    "remove_store",
    "scratch",
    "store_folder",
    "sweep_partials",
    "verify_store",
    "write_h5",
    "writer_version",
]
