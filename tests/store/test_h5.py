from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.store import h5_image, open_checked

BUDGET = 1 << 20
DATASETS = {
    "features": np.arange(40 * 16, dtype=np.float16).reshape(40, 1, 16),
    "cell": np.arange(80, dtype=np.int32).reshape(40, 2),
    "nothing": np.zeros((0, 3), np.float32),
}
ATTRS = {"schema": 1, "meta": "ü" * 40_000, "empty": "", "third": 1 / 3}


def read_all(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with open_checked(path, BUDGET) as reader:
        data = {k: reader.read(k, reader.dtypes[k], reader.shapes[k]) for k in reader.shapes}
        reader.check_digest(data)
        return data, reader.attrs


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(h5_image(DATASETS, ATTRS))
    data, attrs = read_all(path)
    assert data.keys() == DATASETS.keys()
    for name, value in DATASETS.items():
        assert data[name].dtype == value.dtype
        np.testing.assert_array_equal(data[name], value)
    assert {name: attrs[name] for name in ATTRS} == ATTRS
    with open_checked(path, BUDGET) as reader:
        part = reader.read("cell", np.int32, (None, 2), slice(3, 5))
    np.testing.assert_array_equal(part, DATASETS["cell"][3:5])


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(h5_image(DATASETS, ATTRS))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features"], DATASETS["features"])
        meta = file.attrs["meta"]
        assert (meta.decode() if isinstance(meta, bytes) else meta) == ATTRS["meta"]


def test_chunks_of_about_1_mb_with_checksums_and_no_compression(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    data = np.zeros((5000, 2, 640), np.float16)
    image = h5_image({"features": data}, {})
    path.write_bytes(image)
    assert len(image) < 1.02 * data.nbytes
    with h5py.File(path) as file:
        features = file["features"]
        assert 500_000 < np.prod(features.chunks) * 2 <= 1 << 20
        assert features.fletcher32
        assert features.compression is None


def test_equal_content_equal_bytes_also_in_another_process(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np; from xt_backend.store import h5_image;"
        "d = {'a': np.arange(9000.0).reshape(-1, 3), 'b': np.ones(4, np.uint8)};"
        "sys.stdout.buffer.write(h5_image(d, {'x': 'y', 'n': 2}))"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    data = {"b": np.ones(4, np.uint8), "a": np.arange(9000.0).reshape(-1, 3)}
    assert h5_image(data, {"x": "y", "n": 2}) == other


def test_every_flipped_byte_is_seen_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    attrs = {"schema": 1, "meta": "m" * 200}
    image = h5_image(DATASETS, attrs)
    refused = 0
    for place in range(0, len(image), 9):
        damaged = bytearray(image)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            data, found = read_all(path)
        except StoreCorruptError:
            refused += 1
            continue
        assert all(np.array_equal(data[name], value) for name, value in DATASETS.items()), place
        assert {name: found[name] for name in attrs} == attrs, place
    assert refused > 0.7 * len(image) / 9


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "x.h5"
    image = h5_image(DATASETS, ATTRS)
    path.write_bytes(image[: int(kept * len(image))])
    with pytest.raises(StoreCorruptError, match=r"x\.h5 is truncated"):
        read_all(path)


def _write(path: Path, make: Callable[[Any], None]) -> None:
    with h5py.File(path, "w") as file:
        make(file)


def external_link(file: Any) -> None:
    file["features"] = h5py.ExternalLink("secret.h5", "/data")


def soft_link(file: Any) -> None:
    file["real"] = np.zeros(3)
    file["features"] = h5py.SoftLink("/real")


def external_storage(file: Any) -> None:
    file.create_dataset("features", (5,), "u1", external=[("secret.bin", 0, 5)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("secret.h5", "data", (3,))
    file.create_virtual_dataset("features", layout)


def objects(file: Any) -> None:
    file.create_dataset("features", (3,), h5py.string_dtype())


def references(file: Any) -> None:
    file.create_dataset("features", (3,), h5py.ref_dtype)


def group(file: Any) -> None:
    file.create_group("features")


def compressed(file: Any) -> None:
    file.create_dataset("features", data=np.zeros(100), compression="gzip")


def huge(file: Any) -> None:
    file.create_dataset("features", (10_000_000_000,), "f4", chunks=(1024,))


def never_written(file: Any) -> None:
    file.create_dataset("features", (1000,), "f4", chunks=(100,))


def object_attribute(file: Any) -> None:
    file.attrs["meta"] = "text of variable length"


def array_attribute(file: Any) -> None:
    file.attrs["meta"] = np.zeros(3)


def crowd(file: Any) -> None:
    for i in range(100):
        file[f"d{i}"] = np.zeros(1)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (external_link, "link into another file"),
        (soft_link, "soft link"),
        (external_storage, "in another file"),
        (virtual, "in another file"),
        (objects, "no plain number"),
        (references, "no plain number"),
        (group, "no dataset"),
        (compressed, "compressed"),
        (huge, "40000000000 bytes"),
        (never_written, "more data"),
        (object_attribute, "no text or number"),
        (array_attribute, "no text or number"),
        (crowd, "100 entries"),
    ],
)
def test_refused_before_any_data_is_read(
    tmp_path: Path, make: Callable[[Any], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "secret.h5", lambda file: file.create_dataset("data", data=np.ones(3)))
    (tmp_path / "secret.bin").write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.h5"
    _write(path, make)

    def read(*args: Any, **kwargs: Any) -> Any:
        pytest.fail("data was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    with pytest.raises(StoreCorruptError, match=why), open_checked(path, BUDGET):
        pass


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\xef\xbb\xbf  <html>", "is a web page"),
        (b"PK\x03\x04 and so on", "is not HDF5"),
    ],
)
def test_what_is_no_hdf5_at_all(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=why), open_checked(path, BUDGET):
        pass
    assert path.read_bytes() == content


def test_what_is_not_there_is_not_corrupt(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.h5"):
        with pytest.raises(StoreError) as caught, open_checked(path, BUDGET):
            pass
        assert not isinstance(caught.value, StoreCorruptError)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.h5")
        with pytest.raises(StoreError, match="is no file"), open_checked(tmp_path / "pipe.h5", 1):
            pass


def test_a_dataset_must_be_what_the_reader_expects(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(h5_image(DATASETS, ATTRS))
    with open_checked(path, BUDGET) as reader:
        for name, dtype, shape in [
            ("cell", np.int64, (40, 2)),
            ("cell", np.int32, (41, 2)),
            ("cell", np.int32, (40,)),
            ("other", np.int32, (40, 2)),
        ]:
            with pytest.raises(StoreCorruptError, match=name):
                reader.read(name, dtype, shape)
        for name, kind in [("meta", int), ("schema", str), ("absent", str)]:
            with pytest.raises(StoreCorruptError, match=name):
                reader.attr(name, kind)


def test_several_threads_build_images_at_once() -> None:
    """A run keeps features and what it measures of them, each in a thread."""
    parts = [{"rows": np.full((400, 600), number, np.float32)} for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda part: h5_image(part, {"n": 1}), parts))
    assert images == [h5_image(part, {"n": 1}) for part in parts]
