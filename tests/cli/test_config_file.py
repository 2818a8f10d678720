"""`--config` holds any option that the command line has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.annotations import write_annotations
from support.cli import Call, rows


def write(folder: Path, text: str) -> Path:
    path = folder / "options.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_score_takes_everything_from_it(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config = write(
        tmp_path,
        f"model: {tiny_model}\nout: {out}\nstride: 64\nno-cache: true\ncontext: off\njson: true\n",
    )
    done = call("score", tissue_slide, "--config", config)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["done"] == 1
    options = json.loads((out / "run.json").read_text())["configuration"]["options"]
    assert (options["stride_px"], options["context"]) == (64, False)
    done = call("score", tissue_slide, "--config", config)
    assert rows(out)[0]["encoded_regions"] == "0"
    # Not from the cache: the folder is resumed, and another one encodes again.
    done = call("score", tissue_slide, "--config", config, "--out", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "other")[0]["encoded_regions"] == "16"


def test_flags_win(call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = write(tmp_path, f"model: no-such-model\nout: {tmp_path / 'a'}\ndry-run: true\n")
    out = tmp_path / "b"
    done = call(
        "score", tissue_slide, "--config", config, "--model", tiny_model, "--out", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slides"][0]["n_regions"] == 16
    assert not (tmp_path / "a").exists()
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out: run\n", "--model"),
        ("model: context-demo\n", "--out"),
        ("model: context-demo\nout: run\nstride: 1\nstride_px: 1\n", "one option"),
        ("model: context-demo\nout: run\nno_cache: maybe\n", "no_cache"),
        ("model: context-demo\nout: run\ndry-run: perhaps\n", "dry_run"),
        ("model: [a]\nout: run\n", "model"),
        ("model: context-demo\nout: run\nverbose: true\n", "verbose"),
    ],
)
def test_what_is_wrong_or_missing_is_named(
    call: Call, tissue_slide: Path, tmp_path: Path, text: str, said: str
) -> None:
    done = call("score", tissue_slide, "--config", write(tmp_path, text))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_are_json_when_the_file_asks_for_it(
    call: Call, tissue_slide: Path, tmp_path: Path
) -> None:
    config = write(tmp_path, f"model: no-such-model\nout: {tmp_path / 'run'}\njson: true\n")
    done = call("score", tissue_slide, "--config", config)
    assert done.returncode == 2
    assert "no-such-model" in json.loads(done.stdout)["error"]["cause"]


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("features", "slide.svs"), ("--encoder", "--out")),
        (("train",), ("--slides", "--out")),
        (("evaluate",), ("--model", "--slides")),
    ],
)
def test_other_commands_say_what_is_missing(
    call: Call, command: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    done = call(*command)
    assert done.returncode == 2
    assert any(f"Missing option {flag}" in done.stderr for flag in missing)


def test_features_and_evaluate_take_everything_from_it(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config = write(
        tmp_path,
        f"encoder: tf_efficientnet_lite0\nweights: random\nmodel-mpp: 1\nregion_px: 64\n"
        f"out: {tmp_path / 'features'}\n",
    )
    done = call("features", tissue_slide, "--config", config)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "features" / "block.features.h5").is_file()
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "a.tiff").write_bytes(tissue_slide.read_bytes())
    write_annotations(slides / "a.geojson", [("normal", (256, 256, 768, 768))])
    config = write(tmp_path, f"model: {tiny_model}\nslides: {slides}\nbootstrap: 0\njson: true\n")
    done = call("evaluate", "--config", config)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slides"] == {"a.tiff": {"regions": 16, "failed": 0}}
