"""Writing whole samples."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import openslide
import pytest

from xt_backend import publishing
from xt_backend.errors import NoSpaceError, OutputError, UsageError
from xt_backend.samples import Sample, write_samples
from xt_backend.samples import sample as sample_module


def _hashes(sample: Sample) -> list[str]:
    files = (sample.slide, sample.annotations, sample.truth)
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_openslide_opens_it_as_a_pyramid(sample: Sample) -> None:
    with openslide.OpenSlide(sample.slide) as slide:
        assert slide.detect_format(sample.slide) == "generic-tiff"
        assert slide.level_dimensions == ((2048, 2048), (512, 512))
        for axis in "xy":
            assert float(slide.properties[f"openslide.mpp-{axis}"]) == pytest.approx(0.5)
        corner = np.asarray(slide.read_region((0, 0), 0, (40, 40)))
        assert corner[..., :3].min() > 200
    assert [path.name for path in (sample.slide, sample.annotations, sample.truth)] == [
        "sample_4_0.tiff",
        "sample_4_0.geojson",
        "sample_4_0.truth.png",
    ]


def test_tile_borders_do_not_show(sample: Sample) -> None:
    with openslide.OpenSlide(sample.slide) as slide:
        size = slide.level_dimensions[0]
        pixels = np.asarray(slide.read_region((0, 0), 0, size).convert("L")).astype(float)
    for steps in (np.abs(np.diff(pixels, axis=1)), np.abs(np.diff(pixels, axis=0)).T):
        steps = steps.mean(axis=0)
        borders = np.arange(255, len(steps) - 32, 256)
        # JPEG itself steps a little every 8 px; a tile's border must be no worse.
        beside = [steps[borders + shift].mean() for shift in (-24, -16, -8, 8, 16, 24)]
        assert steps[borders].mean() < 1.15 * np.mean(beside)


def test_the_same_bytes_every_time_and_for_any_number_of_slides(tmp_path: Path) -> None:
    done: list[float] = []
    two = write_samples(tmp_path / "two", n=2, size_px=1024, seed=9, progress=done.append)
    one = write_samples(tmp_path / "one", n=1, size_px=(1024, 1024), seed=9)
    assert _hashes(two[0]) == _hashes(one[0])
    assert not set(_hashes(two[0])) & set(_hashes(two[1]))
    assert done == sorted(done)
    assert done[-1] == 2
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == sorted(
        file.name for file in (one[0].slide, one[0].annotations, one[0].truth)
    )


@pytest.mark.parametrize(
    ("n", "size_px", "seed"), [(0, 2048, 0), (1, 2048, -1), (1, 100, 0), (1, (4096, 10), 0)]
)
def test_bad_wishes_are_refused(
    tmp_path: Path, n: int, size_px: int | tuple[int, int], seed: int
) -> None:
    with pytest.raises(UsageError):
        write_samples(tmp_path / "out", n=n, size_px=size_px, seed=seed)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/out"):
        write_samples(tmp_path / "file" / "out", size_px=1024)


def test_files_last_through_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(publishing, "_flush_folder", flushed.append)
    write_samples(tmp_path / "out", size_px=1024)
    assert flushed == [tmp_path / "out"] * 3


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample_module, "write_pyramid", full)
    with pytest.raises(NoSpaceError, match=r"sample_0_0\.tiff"):
        write_samples(tmp_path, size_px=1024)
    assert list(tmp_path.iterdir()) == []
