"""Each layout, read back with code written from the description of its format alone."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from support.feature_tables import DIM, make_feature_table
from support.score_maps import CLASSES, make_score_map

from xt_backend.errors import StoreCorruptError, UsageError
from xt_backend.outputs import LAYOUTS, FeatureTable, get_layout, read_features_h5, write_features
from xt_backend.slides.lattice import Lattice

# Of the 12 regions of the table 1 was not read, 2 not done, and 4 holds what is no number.
GOOD = [0, 3, 5, 6, 7, 8, 9, 10, 11]
JOB = "20x_256px_0px_overlap"
EXTRAS = {"h5ad": "anndata", "parquet": "pyarrow"}


@pytest.fixture(params=sorted(LAYOUTS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param in EXTRAS:
        pytest.importorskip(EXTRAS[request.param], exc_type=ImportError)
    return str(request.param)


def write(folder: Path, layout: str, **changes: Any) -> FeatureTable:
    table = make_feature_table(**changes)
    write_features(get_layout(layout), folder, table)
    return table


def expected(table: FeatureTable) -> np.ndarray[Any, Any]:
    return table.features[GOOD].astype(np.float32).mean(axis=1)


def corners(table: FeatureTable) -> np.ndarray[Any, Any]:
    """Top left corners in OpenSlide's frame, from the lattice's definition."""
    lattice = table.lattice
    step = lattice.stride_px * lattice.model_mpp / np.array(lattice.slide_mpp)
    return np.array(lattice.origin_px) + np.floor(table.cells[GOOD] * step + 0.5).astype(int)


def no_regions() -> FeatureTable:
    empty = make_score_map(cells=np.empty((0, 2), np.int32))
    return make_feature_table(score_map=empty, features=np.empty((0, 4, DIM), np.float16))


def test_trident(tmp_path: Path) -> None:
    table = write(tmp_path, "trident")
    encoder = "hf-hub-lab-vit.v1"
    with h5py.File(tmp_path / JOB / f"features_{encoder}" / "block-7.h5") as file:
        features, coords = file["features"], file["coords"]
        np.testing.assert_allclose(features[:], expected(table), rtol=1e-6)
        assert (features.dtype, coords.dtype) == (np.float32, np.int64)
        assert features.maxshape == (None, DIM)
        assert features.compression is None
        assert features.attrs["encoder"] == "hf-hub:lab/vit.v1"
        np.testing.assert_array_equal(coords[:], corners(table))
        attrs = dict(coords.attrs)
    with h5py.File(tmp_path / JOB / "patches" / "block-7_patches.h5") as file:
        np.testing.assert_array_equal(file["coords"][:], corners(table))
        assert set(file["coords"].attrs) == set(attrs)
    # What its reader makes of the attributes is the size that the regions have.
    derived = attrs["patch_size"] * attrs["level0_magnification"] // attrs["target_magnification"]
    assert derived == attrs["patch_size_level0"] == 512
    assert attrs["overlap"] == 0
    assert (attrs["level0_width"], attrs["level0_height"]) == (5000, 6000)
    assert {"name", "savetodir"} <= set(attrs)


@pytest.mark.parametrize(("slide_mpp", "model_mpp"), [(0.2524, 0.5), (0.23, 1.0), (0.5, 0.88)])
def test_trident_works_out_the_true_size_where_magnifications_are_odd(
    tmp_path: Path, slide_mpp: float, model_mpp: float
) -> None:
    lattice = Lattice.for_bounds((0, 0, 20000, 20000), (slide_mpp, slide_mpp), model_mpp, 256, 224)
    table = write(tmp_path, "trident", score_map=make_score_map(lattice=lattice))
    (path,) = tmp_path.glob("*x_256px_32px_overlap/patches/*.h5")
    with h5py.File(path) as file:
        attrs = dict(file["coords"].attrs)
    derived = attrs["patch_size"] * attrs["level0_magnification"] / attrs["target_magnification"]
    assert derived == pytest.approx(256 * model_mpp / slide_mpp)
    assert abs(derived - attrs["patch_size_level0"]) <= 0.5
    widths = np.unique(table.boxes[:, 2] - table.boxes[:, 0])
    assert np.abs(widths - attrs["patch_size_level0"]).max() <= 1


def test_clam(tmp_path: Path) -> None:
    table = write(tmp_path, "clam")
    bag = torch.load(tmp_path / "pt_files" / "block-7.pt", weights_only=True)
    assert type(bag) is torch.Tensor
    assert bag.dtype == torch.float32
    np.testing.assert_allclose(bag.numpy(), expected(table), rtol=1e-6)
    with h5py.File(tmp_path / "h5_files" / "block-7.h5") as file:
        np.testing.assert_array_equal(file["features"][:], bag.numpy())
        assert file["coords"].dtype == np.int32
        np.testing.assert_array_equal(file["coords"][:], corners(table))
        assert not file.attrs
        assert not file["features"].attrs
    with h5py.File(tmp_path / "patches" / "block-7.h5") as file:
        attrs = dict(file["coords"].attrs)
        np.testing.assert_array_equal(file["coords"][:], corners(table))
    assert (attrs["patch_size"], attrs["patch_level"]) == (512, 0)
    assert attrs["downsample"].tolist() == [1, 1]
    assert attrs["level_dim"].tolist() == [5000, 6000]


def test_stamp(tmp_path: Path) -> None:
    table = write(tmp_path, "stamp")
    with h5py.File(tmp_path / "block-7.h5") as file:
        attrs = dict(file.attrs)
        assert file["feats"].dtype == np.float16
        np.testing.assert_array_equal(file["feats"][:], expected(table).astype(np.float16))
        assert file["coords"].dtype == np.float32
        np.testing.assert_allclose(file["coords"][:], corners(table) * 0.25)
    assert attrs["unit"] == "um"
    assert attrs["feat_type"] == "tile"
    assert attrs["tile_size_um"] / attrs["tile_size_px"] == table.lattice.model_mpp
    assert {"stamp_version", "extractor", "code_hash"} <= set(attrs)


def test_stamp_refuses_what_float16_cannot_hold(tmp_path: Path) -> None:
    large = np.full((12, 1, DIM), 1e6, np.float32)
    with pytest.raises(UsageError, match="float16"):
        write(tmp_path, "stamp", features=large)
    assert not list(tmp_path.iterdir())


def test_slide2vec(tmp_path: Path) -> None:
    table = write(tmp_path, "slide2vec")
    tiles = torch.load(tmp_path / "tile_embeddings" / "block-7.pt", weights_only=True)
    np.testing.assert_allclose(tiles.numpy(), expected(table), rtol=1e-6)
    with np.load(tmp_path / "tiles" / "block-7.coordinates.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(np.stack([found["x"], found["y"]], 1), corners(table))
        assert found["x"].dtype == np.int64
        np.testing.assert_array_equal(found["tile_index"], np.arange(len(GOOD)))
        np.testing.assert_array_equal(found["tissue_fractions"], table.tissue[GOOD])
    meta = json.loads((tmp_path / "tile_embeddings" / "block-7.meta.json").read_text())
    assert (meta["artifact_type"], meta["encoder_level"]) == ("tile_embeddings", "tile")
    assert (meta["feature_dim"], meta["num_tiles"], meta["tile_size_lv0"]) == (DIM, len(GOOD), 512)
    assert (tmp_path / meta["coordinates_npz_path"]).is_file()
    assert (tmp_path / meta["coordinates_meta_path"]).is_file()


def test_plain_h5(tmp_path: Path) -> None:
    table = write(tmp_path, "h5")
    with h5py.File(tmp_path / "block-7.h5") as file:
        assert set(file) == {"features", "coords"}
        np.testing.assert_allclose(file["features"][:], expected(table), rtol=1e-6)
        np.testing.assert_array_equal(file["coords"][:], corners(table))


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    score_map = make_score_map()
    table = write(tmp_path, "parquet", score_map=score_map)
    frame = pd.read_parquet(tmp_path / "block-7.features.parquet")
    np.testing.assert_allclose(np.stack(frame["features"]), expected(table), rtol=1e-6)
    np.testing.assert_array_equal(frame[["minx", "miny"]], corners(table))
    np.testing.assert_array_equal(frame[["col", "row"]], table.cells[GOOD])
    assert set(frame["slide"]) == {"block-7"}
    assert "label" not in frame
    both = make_feature_table(score_map=score_map)
    both = FeatureTable(**{**vars(both), "score_map": score_map})
    write_features(get_layout("parquet"), tmp_path, both)
    frame = pd.read_parquet(tmp_path / "block-7.features.parquet")
    probabilities = frame[[f"prob_{name}" for name in CLASSES]]
    np.testing.assert_array_equal(probabilities, score_map.probabilities[GOOD])


def test_h5ad_opens_in_anndata(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata", exc_type=ImportError)
    score_map = make_score_map()
    table = make_feature_table()
    table = FeatureTable(**{**vars(table), "score_map": score_map})
    write_features(get_layout("h5ad"), tmp_path, table)
    found = anndata.read_h5ad(tmp_path / "block-7.features.h5ad")
    np.testing.assert_allclose(found.X, expected(table), rtol=1e-6)
    assert found.obs["tile_id"].tolist() == list(range(len(GOOD)))
    assert set(found.obs["slide"]) == {"block-7"}
    assert found.obs_names.is_unique
    middles = corners(table) + 256
    np.testing.assert_array_equal(found.obsm["spatial"], middles)
    key = found.uns["spatialdata_attrs"]
    assert set(found.obs[key["region_key"]]) == {key["region"]} == {"tiles"}
    assert found.obs[key["instance_key"]].is_unique
    assert found.uns["spatial"]["tiles"]["scalefactors"]["spot_diameter_fullres"] == 512
    labels = score_map.labels()[GOOD]
    shown = [CLASSES[i] if i >= 0 else None for i in labels]
    assert [None if pd.isna(v) else v for v in found.obs["label"]] == shown
    assert json.loads(found.uns["napari_xt"])["encoder"] == "hf-hub:lab/vit.v1"


def test_h5ad_is_a_table_of_spatialdata(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata", exc_type=ImportError)
    models = pytest.importorskip("spatialdata.models", exc_type=ImportError)
    write(tmp_path, "h5ad")
    found = anndata.read_h5ad(tmp_path / "block-7.features.h5ad")
    models.TableModel().validate(found)
    assert set(found.obs["library_id"]) == {found.uns["spatialdata_attrs"]["region"]}


def test_xt_comes_back(tmp_path: Path) -> None:
    table = write(tmp_path, "xt")
    path = tmp_path / "block-7.features.h5"
    found = read_features_h5(path, "block-7", (5000, 6000))
    for name in ("cells", "status", "tissue"):
        np.testing.assert_array_equal(getattr(found, name), getattr(table, name))
    np.testing.assert_array_equal(found.features[np.arange(12)], table.features)
    np.testing.assert_array_equal(
        found.features[np.array([0, 1, 7, 11])], table.features[[0, 1, 7, 11]]
    )
    assert (found.kind, found.numerics) == (table.kind, table.numerics)
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(StoreCorruptError):
        read_features_h5(path, "block-7", (5000, 6000))
    write(tmp_path, "xt", level="slide")
    with pytest.raises(UsageError, match="no features of regions"):
        read_features_h5(tmp_path / "block-7.slide-features.h5", "block-7", (5000, 6000))


def rows_in(folder: Path) -> list[tuple[int, ...]]:
    """Shapes of the features in every file of a folder that has some."""
    shapes = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".pt":
            shapes.append(tuple(torch.load(path, weights_only=True).shape))
        elif path.suffix in {".h5", ".h5ad"}:
            with h5py.File(path) as file:
                names = {"features", "feats", "X"} & set(file)
                shapes += [file[name].shape for name in names]
        elif path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            shapes.append((len(frame), *frame["features"].map(len).unique().tolist()))
    return shapes


def test_a_slide_without_regions_has_files_without_rows(name: str, tmp_path: Path) -> None:
    write_features(get_layout(name), tmp_path, no_regions())
    shapes = rows_in(tmp_path)
    assert shapes
    assert all(shape[0] == 0 for shape in shapes)
    if name != "parquet":
        assert all(shape[-1] == DIM for shape in shapes)


def test_features_of_a_slide(name: str, tmp_path: Path) -> None:
    layout, table = get_layout(name), make_feature_table(level="slide")
    if name == "clam":
        with pytest.raises(UsageError, match="whole slides"):
            layout.check("slide")
        return
    layout.check("slide")
    write_features(layout, tmp_path, table)
    (shape,) = rows_in(tmp_path)
    rows = {"xt": (1, 1), "h5ad": (1,), "parquet": (1,)}.get(name, ())
    assert shape == (*rows, DIM)
    np.testing.assert_allclose(table.squeezed, expected(table).mean(axis=0), rtol=1e-4)
    own = make_feature_table(level="slide", whole=np.arange(DIM, dtype=np.float32))
    assert own.squeezed.tolist() == list(range(DIM))


def test_the_same_table_gives_the_same_bytes_in_the_order_of_the_files(
    name: str, tmp_path: Path
) -> None:
    layout = get_layout(name)
    first = write_features(layout, tmp_path / "a", make_feature_table())
    again = write_features(layout, tmp_path / "b", make_feature_table())
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    names = layout.files(make_feature_table().kind, "block-7")
    assert [p.relative_to(tmp_path / "a").as_posix() for p in first] == list(names)
    assert sorted(p.as_posix() for p in (tmp_path / "a").rglob("*") if p.is_file()) == sorted(
        p.as_posix() for p in first
    )


def test_no_layout_tells_where_files_lie(name: str, tmp_path: Path) -> None:
    home = tmp_path / "DOE^JOHN"
    for path in write_features(get_layout(name), home, make_feature_table()):
        data = path.read_bytes()
        assert b"DOE^JOHN" not in data
        assert str(tmp_path).encode() not in data


def test_no_two_kinds_of_a_slide_share_a_file() -> None:
    for name in ("xt", "h5ad", "parquet"):
        kinds = [
            make_feature_table(level=level, when=when).kind
            for level in ("region", "slide")
            for when in ("before", "after")
        ]
        assert len({get_layout(name).files(kind, "a") for kind in kinds}) == 4


@pytest.mark.parametrize(("name", "package"), EXTRAS.items())
def test_a_missing_package_is_named(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"napari-xt\[{name}\]"):
        get_layout(name).check("region")


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(UsageError, match="There are: xt, trident"):
        get_layout("docx")


def test_a_tensor_is_nothing_but_a_tensor() -> None:
    import pickletools
    import zipfile

    (*_, write) = get_layout("clam").writers(make_feature_table())
    write(image := io.BytesIO())
    with zipfile.ZipFile(image) as file:
        (pickle,) = [file.read(n) for n in file.namelist() if n.endswith("data.pkl")]
    named = {arg for op, arg, _ in pickletools.genops(pickle) if op.name == "GLOBAL"}
    assert named <= {
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "collections OrderedDict",
    }
