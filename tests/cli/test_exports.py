"""Exports of finished runs: what a user types, and what is then in the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import openslide
import pandas as pd
import pytest
import shapely
import tifffile
import torch
from support.cli import Call, Finished, rows
from support.slides import GLASS, write_tiff_slide

import xt_backend
from xt_backend.model import load_model
from xt_backend.outputs import LAYOUTS
from xt_backend.store import ScoreMap

SECRET = "DOE^JOHN"
EXTRAS = {"h5ad": "anndata", "parquet": "pyarrow"}


@pytest.fixture(scope="module")
def made(tissue_slide: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run`` of a good, an empty and a broken slide, and its ``cache``."""
    home = tmp_path_factory.mktemp("exports") / SECRET
    slides = home / "slides"
    slides.mkdir(parents=True)
    text = f"Patient: {SECRET}, block 7"
    block = write_tiff_slide(slides / "block.tiff", tifffile.imread(tissue_slide), description=text)
    with openslide.OpenSlide(block) as opened:
        assert SECRET in opened.properties["openslide.comment"]
    write_tiff_slide(slides / "glass.tiff", np.full((512, 512, 3), GLASS, np.uint8))
    (slides / "broken.svs").write_bytes(b"no slide")
    shutil.copy(tiny_model, home / "tiny.safetensors")
    xt_backend.score(slides, str(home / "tiny.safetensors"), home / "run", cache=home / "cache")
    slides.rename(home / "away")
    return home


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, whose local.json still names the cache and the model."""
    copy = tmp_path / "run"
    shutil.copytree(made / "run", copy)
    return copy


def need(layout: str) -> None:
    if layout in EXTRAS:
        pytest.importorskip(EXTRAS[layout], exc_type=ImportError)


def h5(path: Path, name: str) -> Any:
    with h5py.File(path) as file:
        return file[name][:]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "parquet"])
def test_features_come_out_of_the_cache(call: Call, run: Path, layout: str, tmp_path: Path) -> None:
    need(layout)
    done = call("export", run, "--to", layout, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)["written"]
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert files - {"export.json"} == set(written)
    assert {name.rpartition("/")[2].split(".")[0].split("_")[0] for name in written} == {
        "block",
        "glass",
    }
    for path in (tmp_path / "out").rglob("*.*"):
        assert SECRET.encode() not in path.read_bytes()


def test_they_are_those_that_were_encoded(call: Call, run: Path, made: Path) -> None:
    assert call("export", run, "--to", "xt").returncode == 0
    assert call("export", run, "--to", "h5").returncode == 0
    model = load_model(made / "tiny.safetensors")
    found = ScoreMap.load(run / "block.run.h5")
    features = h5(run / "block.features.h5", "features")
    prediction = model.predict(
        torch.from_numpy(features), torch.from_numpy(found.lattice.centres_um(found.cells))
    )
    np.testing.assert_allclose(prediction.logits.numpy(), found.logits, atol=1e-4)
    plain = h5(run / "h5" / "block.h5", "features")
    np.testing.assert_allclose(plain, features.astype(np.float32).mean(axis=1), rtol=1e-6)
    coords = h5(run / "h5" / "block.h5", "coords")
    np.testing.assert_array_equal(coords, found.lattice.boxes(found.cells)[:, :2])
    assert h5(run / "h5" / "glass.h5", "features").shape == (0, 1280)


def test_features_after_context_are_what_the_head_sees(call: Call, run: Path, made: Path) -> None:
    for kind in ("xt", "trident"):
        done = call("export", run, "--to", kind, "--features", "after")
        assert done.returncode == 0, done.stderr
    model = load_model(made / "tiny.safetensors")
    found = ScoreMap.load(run / "block.run.h5")
    tokens = h5(run / "block.context-features.h5", "features")
    assert tokens.shape == (16, 1, 16)
    assert call("export", run, "--to", "xt").returncode == 0
    before = torch.from_numpy(h5(run / "block.features.h5", "features"))
    places = torch.from_numpy(found.lattice.centres_um(found.cells))
    wanted = model.predict(before, places).context_tokens.numpy()
    np.testing.assert_allclose(tokens[:, 0], wanted, atol=1e-5)
    (path,) = (run / "trident-context").glob("*/features_tiny/block.h5")
    np.testing.assert_array_equal(h5(path, "features"), tokens[:, 0])
    assert h5(run / "glass.context-features.h5", "features").shape == (0, 1, 16)


def test_no_folder_holds_two_kinds_of_files_of_one_name(
    call: Call, run: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def export(*arguments: str | Path, run: Path = run) -> Finished:
        return call("export", run, "--out", out, "--to", *arguments)

    assert export("stamp").returncode == 0
    first = (out / "block.h5").read_bytes()
    for arguments, said in (
        (("h5",), "kind is 'stamp' there, and 'h5' was asked for"),
        (("stamp", "--features", "after"), "'stamp-context' was asked for"),
        (("stamp", "--level", "slide"), "'stamp-slide' was asked for"),
        (("wsinfer",), "'wsinfer' was asked for"),
    ):
        done = export(*arguments)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
    # What has a name of its own may lie there too, and the same again.
    assert export("geojson").returncode == 0
    assert export("stamp").returncode == 0
    assert (out / "block.h5").read_bytes() == first
    # Another model's features are not what the folder holds.
    other = tmp_path / "other"
    shutil.copytree(run, other)
    about = json.loads((other / "run.json").read_text())
    about["configuration"]["model"]["sha256"] = "0" * 64
    (other / "run.json").write_text(json.dumps(about))
    done = export("stamp", run=other)
    assert done.returncode == 2
    assert "made_with.sha256" in done.stderr
    # Nor may they go among the files of a run, or among what nobody noted.
    done = call("export", run, "--to", "h5", "--out", run)
    assert done.returncode == 2
    assert "holds a run" in done.stderr
    (out / "export.json").unlink()
    done = export("stamp")
    assert done.returncode == 2
    assert "nothing says of what kind" in done.stderr


def test_features_of_whole_slides(call: Call, run: Path) -> None:
    for when in ("before", "after"):
        done = call("export", run, "--to", "stamp", "--level", "slide", "--features", when)
        assert done.returncode == 0, done.stderr
    one = h5(run / "stamp-slide" / "block.h5", "feats")
    assert one.shape == (1280,)
    assert call("export", run, "--to", "h5").returncode == 0
    every = h5(run / "h5" / "block.h5", "features")
    np.testing.assert_allclose(one, every.mean(axis=0), atol=2e-3)
    assert h5(run / "stamp-context-slide" / "block.h5", "feats").shape == (16,)
    assert h5(run / "stamp-slide" / "glass.h5", "feats").shape == (0, 1280)


def test_tables_of_features_know_the_predictions(call: Call, run: Path) -> None:
    need("parquet")
    assert call("export", run, "--to", "parquet").returncode == 0
    assert call("export", run, "--to", "parquet", "--features", "before").returncode == 0
    regions = pd.read_parquet(run / "block.regions.parquet")
    features = pd.read_parquet(run / "block.features.parquet")
    assert features["prob_tumour"].tolist() == regions["prob_tumour"].tolist()
    assert features["label"].tolist() == regions["label"].tolist()
    assert features["features"].map(len).unique().tolist() == [1280]
    assert pd.read_parquet(run / "glass.features.parquet").empty


def test_what_was_pruned_is_told_with_the_way_to_remake_it(
    call: Call, run: Path, made: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "pruned"
    shutil.copytree(made / "cache", cache)
    arguments = ("export", run, "--to", "h5", "--cache", cache, "--json")
    assert call(*arguments).returncode == 0
    before = h5(run / "h5" / "block.h5", "features")
    shutil.rmtree(run / "h5")
    for shard in cache.rglob("*.h5"):
        shard.unlink()
    done = call(*arguments)
    assert done.returncode == 3
    failed = json.loads(done.stdout)["failed"]
    assert list(failed) == ["block"]
    assert "16 of 16 regions of block are not in the cache" in failed["block"]
    assert "score it again" in failed["block"].lower()
    assert [path.name for path in (run / "h5").glob("*.h5")] == ["glass.h5"]
    # As it says: scored again, into another folder, the same features are there.
    slide, model = made / "away" / "block.tiff", made / "tiny.safetensors"
    xt_backend.score(slide, str(model), tmp_path / "again", cache=cache)
    assert call("export", run, "--to", "h5", "--cache", cache).returncode == 0
    np.testing.assert_array_equal(h5(run / "h5" / "block.h5", "features"), before)


def test_a_run_that_kept_nothing_says_so(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    xt_backend.score(tissue_slide, str(tiny_model), run, use_cache=False)
    done = call("export", run, "--to", "clam")
    assert done.returncode == 2
    assert "--no-cache" in done.stderr
    assert not (run / "clam").exists()


def test_another_model_is_not_taken_for_the_runs(
    call: Call, run: Path, made: Path, tmp_path: Path
) -> None:
    from support.models import write_tiny_model

    other = write_tiny_model(tmp_path / "other.safetensors", context="hyper")
    after = ("export", run, "--to", "h5", "--features", "after", "--model")
    done = call(*after, other)
    assert done.returncode == 2
    assert "is not the model of this run" in done.stderr
    moved = tmp_path / "moved.safetensors"
    shutil.copy(made / "tiny.safetensors", moved)
    (run / "local.json").unlink()
    done = call(*after, moved, "--cache", made / "cache")
    assert done.returncode == 0, done.stderr


def test_models_without_context_have_nothing_after_it(
    call: Call, tissue_slide: Path, tmp_path: Path
) -> None:
    from support.models import write_tiny_model

    model = write_tiny_model(tmp_path / "none.safetensors", context="none")
    xt_backend.score(tissue_slide, str(model), tmp_path / "run", cache=tmp_path / "cache")
    done = call("export", tmp_path / "run", "--to", "h5", "--features", "after")
    assert done.returncode == 2
    assert "no context encoder" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("clam", "--level", "slide"), "no features of whole slides"),
        (("geojson", "--features", "after"), "geojson does not hold"),
        (("stamp", "--merged"), "for predictions"),
        (("wsinfer", "--gzip"), "means nothing"),
        (("h5", "--level", "cell"), "--level"),
    ],
)
def test_what_does_not_fit_is_refused(
    call: Call, run: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = sorted(run.iterdir())
    done = call("export", run, "--to", *arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert sorted(run.iterdir()) == before


def test_predictions_in_every_format_hide_where_they_come_from(
    call: Call, run: Path, made: Path, tmp_path: Path
) -> None:
    need("parquet")
    for number, arguments in enumerate(
        (
            ("geojson", "--gzip"),
            ("geojson", "--merged"),
            ("wsinfer",),
            ("parquet",),
            ("ome-tiff",),
        )
    ):
        out = tmp_path / str(number)
        done = call("export", run, "--to", *arguments, "--out", out)
        assert done.returncode == 0, done.stderr
        files = [path for path in out.rglob("*") if path.is_file()]
        assert len(files) >= 2
        for path in files:
            data = path.read_bytes()
            assert SECRET.encode() not in data
            assert str(made.parent).encode() not in data


def test_dicom_of_other_slides_is_refused_slide_by_slide(call: Call, run: Path) -> None:
    pytest.importorskip("highdicom", exc_type=ImportError)
    done = call("export", run, "--to", "dicom", "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report["written"] == []
    assert set(report["failed"]) == {"block", "glass"}
    assert not list(run.glob("*.dcm"))


def test_one_odd_slide_ends_no_export(
    call: Call, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ScoreMap.load

    def odd(path: Path) -> ScoreMap:
        if path.name.startswith("block"):
            raise KeyError("what no one thought of")
        return load(path)

    monkeypatch.setattr(ScoreMap, "load", odd)
    done = call("export", run, "--to", "wsinfer")
    assert done.returncode == 3
    assert "block" in done.stderr
    assert "KeyError" in done.stderr
    assert (run / "wsinfer" / "model-outputs-csv" / "glass.csv").is_file()


def test_the_same_pixels_lie_in_the_same_place_with_bounds_and_without(
    call: Call, shared_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    layouts = shared_data / "slides-layouts"
    slides = {name: layouts / f"bcss_1015_crop_{name}" for name in ("leica.scn", "mirax.mrxs")}
    found: dict[str, Any] = {}
    for name, slide in slides.items():
        run = tmp_path / name
        arguments = (slide, "--model", tiny_model, "--out", run, "--tissue", "all")
        assert call("score", *arguments).returncode == 0
        for kind in ("wsinfer", "ome-tiff", "h5"):
            assert call("export", run, "--to", kind).returncode == 0
        assert call("export", run, "--to", "geojson", "--merged").returncode == 0
        table = pd.read_csv(run / "wsinfer" / "model-outputs-csv" / f"{slide.stem}.csv")
        with tifffile.TiffFile(run / f"{slide.stem}.probabilities.ome.tiff") as tiff:
            image = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
        found[name] = {
            "corners": table[["minx", "miny"]].to_numpy(),
            "coords": h5(run / "h5" / f"{slide.stem}.h5", "coords"),
            "place": [image["Pixels"]["Plane"][0][f"Position{axis}"] for axis in "XY"],
            "tiles": shapely.from_geojson((run / f"{slide.stem}.geojson").read_text()),
            "outlines": shapely.from_geojson((run / f"{slide.stem}.outlines.geojson").read_text()),
        }
    leica, mirax = found["leica.scn"], found["mirax.mrxs"]
    # In OpenSlide's frame the area begins at (4000, 4000), 0.25 um/px ...
    np.testing.assert_array_equal(leica["corners"] - 4000, mirax["corners"])
    np.testing.assert_array_equal(leica["coords"] - 4000, mirax["coords"])
    np.testing.assert_allclose(leica["place"], [1000, 1000])
    assert mirax["place"] == [0, 0]
    # ... and in QuPath's at (0, 0), as without bounds.
    for name in ("tiles", "outlines"):
        assert leica[name].bounds == mirax[name].bounds == (0, 0, 2048, 2048)
        assert shapely.union_all(leica[name]).area == 2048**2


def test_a_dicom_slide_gets_a_segmentation_in_its_own_frame(
    call: Call, shared_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    pydicom = pytest.importorskip("pydicom", exc_type=ImportError)
    pytest.importorskip("highdicom", exc_type=ImportError)
    slide, run = shared_data / "slides-layouts" / "bcss_1008_dicom", tmp_path / "run"
    assert call("score", slide, "--model", tiny_model, "--out", run).returncode == 0
    done = call("export", run, "--to", "dicom")
    assert done.returncode == 0, done.stderr
    found = pydicom.dcmread(run / "bcss_1008_dicom.seg.dcm")
    image = pydicom.dcmread(slide / "volume_3584x2560.dcm", stop_before_pixels=True)
    assert found.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert (found.TotalPixelMatrixColumns, found.TotalPixelMatrixRows) == (14, 10)
    assert [s.SegmentLabel for s in found.SegmentSequence] == ["normal", "tumour"]


FEATURES = (
    "--encoder", "tf_efficientnet_lite0", "--weights", "random", "--model-mpp", "1",
    "--region-px", "64",
)  # fmt: skip


def _exported(out: Path) -> dict[Path, bytes]:
    """The files of the layout, without what the ledger says of times."""
    found = out.rglob("block*.*")
    return {path: path.read_bytes() for path in found if path.parent.name != "ledger"}


@pytest.mark.parametrize("layout", ["trident", "clam", "slide2vec"])
def test_the_command_features_writes_and_resumes_every_layout(
    call: Call, tissue_slide: Path, layout: str, tmp_path: Path
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    arguments = ("features", tissue_slide, *FEATURES, "--layout", layout, "--cache", cache)
    done = call(*arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    first = _exported(out)
    assert len(first) >= 2
    done = call(*arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    assert _exported(out) == first
    assert rows(out)[0]["cache"] == "hit"
    # From the files of layout xt the same comes out.
    xt = tmp_path / "xt"
    done = call("features", tissue_slide, *FEATURES, "--cache", cache, "--out", xt)
    assert done.returncode == 0, done.stderr
    assert rows(xt)[0]["encoded_regions"] == "0"
    done = call("export", xt, "--to", layout, "--out", tmp_path / "exported")
    assert done.returncode == 0, done.stderr
    for path, data in first.items():
        assert (tmp_path / "exported" / path.relative_to(out)).read_bytes() == data
    done = call("export", out, "--to", "stamp")
    assert done.returncode == 2
    assert "not written in layout xt" in done.stderr
    # Another slide's results in the folder are told, wherever the layout keeps them.
    other = tmp_path / "other.tiff"
    shutil.copy(tissue_slide, other)
    done = call("features", other, *arguments[2:], "--out", out)
    assert done.returncode == 2
    assert "result of block" in done.stderr
    # A slide that fails now keeps nothing of what it had.
    broken = tmp_path / "block.tiff"
    broken.write_bytes(b"")
    done = call("features", broken, *arguments[2:], "--out", out)
    assert done.returncode == 3
    assert not _exported(out)
