"""What names a patient or a user's folders stays out of everything that is written or said."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.cli import Call, rows
from support.slides import tissue_image

from xt_backend.slides import open_slide

NAME = b"DOE^JOHN"
LABEL = np.random.default_rng(9).integers(0, 256, (64, 48, 3), np.uint8)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """An Aperio slide that tells a patient's name wherever a slide can."""
    folder = tmp_path / NAME.decode() / "archive of DOE^JOHN"
    folder.mkdir(parents=True)
    path = folder / "case.svs"
    image = tissue_image(512, 512, ((0, 0, 512, 512),))
    planted = "|".join(
        ["AppMag = 20", "MPP = 0.5"]
        + [f"{key} = DOE^JOHN" for key in ("User", "Filename", "Title", "ScanScope ID", "Barcode")]
    )
    described = f"Aperio Image Library v11.2.1 DOE^JOHN\r\n512x512 (256x256) DOE^JOHN|{planted}"
    common: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, tile=(256, 256), compression="deflate", description=described,
                   software="DOE^JOHN", extratags=[(315, 2, 0, "DOE^JOHN", True),
                                                   (316, 2, 0, "DOE^JOHN", True)],
                   **common)  # fmt: skip
        tiff.write(image[::8, ::8].copy(), rowsperstrip=64, description=described, **common)
        tiff.write(image[::4, ::4].copy(), tile=(128, 128), compression="deflate",
                   description=described, **common)  # fmt: skip
        for kind, subfile in (("label", 1), ("macro", 9)):
            tiff.write(
                LABEL,
                rowsperstrip=64,
                compression="lzw",
                subfiletype=subfile,
                description=f"Aperio Image Library\r\n{kind} 48x64 DOE^JOHN",
                **common,
            )
    import openslide

    with openslide.OpenSlide(path) as opened:
        planted_in = [key for key, value in opened.properties.items() if "DOE" in value]
        assert len(planted_in) >= 6
        assert set(opened.associated_images) >= {"label", "macro"}
    return path


def unpacked(path: Path) -> Iterator[tuple[str, bytes]]:
    """All that a reader could get out of a file: its bytes, and what is packed in it."""
    whole = path.read_bytes()
    yield path.name, path.name.encode() + b"\n" + whole
    if path.suffix == ".gz":
        yield f"{path.name}, unpacked", zlib.decompress(whole, 31)
    elif path.suffix in (".h5", ".h5ad"):
        yield f"{path.name}, unpacked", b"".join(_h5(path))
    elif path.suffix == ".png":
        with Image.open(io.BytesIO(whole)) as picture:
            yield f"{path.name}, unpacked", repr(picture.info).encode() + picture.tobytes()
    elif path.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                yield f"{path.name}, tags", repr(list(page.tags.values())).encode()
                yield f"{path.name}, unpacked", page.asarray().tobytes()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                yield f"{path.name}, {name}", packed.read(name)


def _h5(path: Path) -> Iterator[bytes]:
    with h5py.File(path) as file:
        found: list[Any] = [file]
        file.visititems(lambda name, item: found.append(item))
        for item in found:
            yield item.name.encode()
            yield repr(dict(item.attrs)).encode()
            if isinstance(item, h5py.Dataset):
                plain = item.shape is not None and item.dtype.kind != "O"
                yield item[()].tobytes() if plain else repr(item[()]).encode()


def leaks(folder: Path, secrets: dict[str, bytes]) -> list[str]:
    """Where below a folder something is told that must not be; local.json is for it alone."""
    return [
        f"{what} in {where}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "local.json"
        for where, content in unpacked(path)
        for what, secret in secrets.items()
        if secret in content
    ]


def test_case_25_nothing_tells_patient_user_or_place(
    call: Call,
    slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("USER", "u-planted-user")
    monkeypatch.setenv("LOGNAME", "u-planted-user")
    secrets = {
        "the patient's name": NAME,
        "the folder": str(tmp_path).encode(),
        "the user": b"u-planted-user",
        "the label's pixels": LABEL[10].tobytes()[:60],
        "the label's pixels as RGBA": np.dstack([LABEL[10:11], np.full((1, 48), 255, np.uint8)])
        .tobytes()[:80],
    }  # fmt: skip
    out, cache = tmp_path / "run", tmp_path / "cache"
    # One slide that is done, one that fails after it was opened, one that does not open.
    coarse = slide.with_name("coarse.svs")
    coarse.write_bytes(slide.read_bytes().replace(b"MPP = 0.5", b"MPP = 4.5"))
    broken = slide.with_name("broken.svs")
    broken.write_bytes(slide.read_bytes()[:3000])
    with caplog.at_level(logging.INFO):
        done = call("score", slide.parent, "--model", tiny_model, "--out", out, "--cache", cache,
                    "--layouts", "parquet")  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert [row["status"] for row in rows(out)] == ["failed", "done", "failed"]
    for kind in ("geojson", "wsinfer", "h5ad", "ome-tiff", "trident"):
        more = ("--gzip",) if kind == "geojson" else ()
        exported = call("export", out, "--to", kind, "--out", tmp_path / "exports" / kind, *more)
        assert exported.returncode == 0, (kind, exported.stderr)
    dry = ("score", slide.parent, "--model", tiny_model, "--out", out, "--dry-run")
    for command in (("info", slide), ("info", slide, "--json"), dry):
        said = call(*command)
        assert b"DOE" not in said.stdout.replace(str(slide), "").encode()
    found = [leak for folder in (out, cache, tmp_path / "exports") for leak in
             leaks(folder, secrets)]  # fmt: skip
    assert found == []
    assert len(list((tmp_path / "exports").rglob("*.*"))) >= 5
    assert not list((tmp_path / "exports").rglob("local.json"))
    said = done.stdout.replace(str(out), "") + done.stderr.replace(str(out), "") + caplog.text
    assert "DOE" not in said
    local = out / "local.json"
    assert "DOE^JOHN" in local.read_text(), "the search would find it"
    if os.name != "nt":
        assert local.stat().st_mode & 0o777 == 0o600


def test_case_25_with_a_key_no_file_name_either(
    call: Call, slide: Path, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, out, cache = tmp_path / "secret.key", tmp_path / "run", tmp_path / "cache"
    key.write_bytes(b"0123456789abcdef")
    done_one = slide.rename(slide.with_name("DOE^JOHN.svs"))
    content = done_one.read_bytes()
    done_one.with_name("DOE^JOHN coarse.svs").write_bytes(
        content.replace(b"MPP = 0.5", b"MPP = 4.5")
    )
    done_one.with_name("DOE^JOHN broken.svs").write_bytes(content[:3000])
    done_one.with_name("DOE^JOHN.txt").write_text("no slide")
    command = ("score", slide.parent, "--model", tiny_model, "--out", out, "--cache", cache)
    with caplog.at_level(logging.INFO):
        done = call(*command, "--pseudonymise", key)
    assert done.returncode == 3, done.stderr
    found = rows(out)
    assert sorted(row["status"] for row in found) == ["done", "failed", "failed"]
    assert all(re.fullmatch("[0-9a-f]{16}", row["id"]) for row in found)
    assert [row["slide"] for row in found] == [row["id"] for row in found]
    for kind in ("geojson", "wsinfer", "ome-tiff", "trident", "report"):
        exported = call("export", out, "--to", kind, "--out", tmp_path / "exports" / kind)
        assert exported.returncode == 0, (kind, exported.stderr)
    secrets = {
        "the patient's name": NAME,
        "the folder": str(tmp_path).encode(),
        "the key": b"789abc",
    }
    assert [leak for folder in (out, cache, tmp_path / "exports") for leak in
            leaks(folder, secrets)] == []  # fmt: skip
    assert "DOE" not in (done.stdout + done.stderr + caplog.text).replace(str(tmp_path), "")
    # The same key finds what is done; another one, or none, is another run.
    again = call(*command, "--pseudonymise", key, "--json")
    assert {row["cache"] for row in json.loads(again.stdout)["slides"] if row["cache"]} == {"hit"}
    assert call(*command).returncode == 2
    key.write_bytes(b"another secret, as long")
    assert call(*command, "--pseudonymise", key).returncode == 2


@pytest.mark.parametrize("content", [None, b"short"])
def test_case_25_a_key_that_is_none_is_refused(
    call: Call, slide: Path, tiny_model: Path, tmp_path: Path, content: bytes | None
) -> None:
    key = tmp_path / "secret.key"
    if content is not None:
        key.write_bytes(content)
    done = call("score", slide, "--model", tiny_model, "--out", tmp_path / "run",
                "--pseudonymise", key)  # fmt: skip
    assert done.returncode == 2
    assert "openssl rand" in done.stderr
    assert not (tmp_path / "run").exists()


def test_case_25_metadata_of_a_slide_has_no_free_text(slide: Path) -> None:
    with open_slide(slide) as opened:
        assert "DOE" not in repr(opened.info)
        assert "DOE" not in repr(opened)
