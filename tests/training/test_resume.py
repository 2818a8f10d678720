"""A training that was killed goes on, and ends as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from support.cli import Call
from support.training import tiny_training

from xt_backend.errors import StoreCorruptError, UsageError
from xt_backend.training import Progress, TrainSpec, train
from xt_backend.training.checkpoint import Checkpoint, Position


class Killed(BaseException):
    """What no handler of ours catches."""


@pytest.fixture(autouse=True)
def _keep_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xt_backend.training.fit.CHECKPOINT_S", 0.0)


@pytest.fixture
def spec(slides_folder: Path, tmp_path: Path) -> TrainSpec:
    return tiny_training(
        slides_folder,
        tmp_path / "whole.safetensors",
        name="same",
        cache=slides_folder / "cache",
        context_options={"dropout": 0.2},
        epochs=4,
        slides_per_step=1,
        workers=0,
    )


def kill_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Die right after a checkpoint was written, as by SIGKILL: nothing is tidied up."""
    save, done = Checkpoint.save, []

    def count(self: Checkpoint, position: Position, tensors: Any) -> None:
        save(self, position, tensors)
        done.append(1)
        if len(done) == saves:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", count)


@pytest.mark.parametrize(
    ("changes", "saves", "said"),
    [
        ({}, 1, ["going on in epoch 1 of 4, after step 1"]),
        ({}, 6, ["going on in epoch 2 of 4, after step 6"]),
        ({}, 8, ["going on with epoch 3 of 4"]),
        ({}, 16, ["all its epochs are done (4)"]),
        ({"end_to_end": True, "epochs": 2}, 3, ["going on in epoch 1 of 2, after step 3"]),
        (
            {"folds": 2, "epochs": 2},
            5,
            ["all its epochs are done (2)", "going on in epoch 2 of 2, after step 3"],
        ),
    ],
)
def test_resumed_training_gives_the_same_bytes(
    spec: TrainSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    saves: int,
    said: list[str],
) -> None:
    spec = spec.model_copy(update=changes)
    train(spec)
    killed = spec.model_copy(update={"out": tmp_path / "killed.safetensors"})
    with monkeypatch.context() as patch:
        kill_after(patch, saves)
        with pytest.raises(Killed):
            train(killed)
    assert not killed.out.exists()
    assert list(tmp_path.glob("killed*.resume.safetensors"))
    steps: list[int] = []
    with monkeypatch.context() as patch:
        save = Checkpoint.save

        def watch(self: Checkpoint, position: Position, tensors: Any) -> None:
            steps.append(position.step)
            save(self, position, tensors)

        patch.setattr(Checkpoint, "save", watch)
        torch.rand(5)
        heard: list[Progress] = []
        train(killed, heard.append)
    lines = [line for one in heard if one.stage == "notice" for line in one.lines]
    going_on = [line.partition("broken off: ")[2] for line in lines if "broken off" in line]
    assert going_on == said
    if not spec.folds and saves < 16:
        assert min(steps) == saves + 1
    assert killed.out.read_bytes() == spec.out.read_bytes()
    assert not list(tmp_path.glob("*.resume.safetensors"))
    logs = [path.with_suffix(".train.jsonl").read_text() for path in (spec.out, killed.out)]
    assert logs[0] == logs[1]


KILLED_IN_EPOCH_3 = """
import os, signal, sys
from xt_backend.training import TrainSpec, train

def kill(progress):
    if progress.stage == "train" and progress.done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

train(TrainSpec.model_validate_json(sys.argv[1]), kill)
"""


def test_a_kill_loses_no_epoch_that_was_done(spec: TrainSpec, tmp_path: Path, call: Call) -> None:
    """However short the epochs are; and the same command says from where it goes on."""
    train(spec)
    killed = spec.model_copy(update={"out": tmp_path / "killed.safetensors"})
    settings = killed.model_dump_json(exclude_unset=True)
    child = subprocess.run([sys.executable, "-c", KILLED_IN_EPOCH_3, settings], check=False)
    assert child.returncode == -signal.SIGKILL
    assert not killed.out.exists()
    config = tmp_path / "same.yaml"
    config.write_text(settings)  # JSON is YAML
    done = call("train", "--config", config)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "broken off" in line]
    assert told == [
        "killed.resume.safetensors was left by a training that was broken off: going on with "
        "epoch 3 of 4"
    ]
    assert killed.out.read_bytes() == spec.out.read_bytes()
    done = call("train", "--config", config)
    assert "broken off" not in done.stderr


def test_state_of_another_training_is_refused(
    spec: TrainSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            train(spec)
    other = spec.model_copy(update={"lr": 1e-3})
    with pytest.raises(UsageError, match=r"another training: recipe\.lr.*--no-resume"):
        train(other)
    kept = spec.out.with_name("whole.resume.safetensors")
    whole = kept.read_bytes()
    train(other.model_copy(update={"resume": False}))
    assert not kept.exists()
    kept.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreCorruptError, match="damaged"):
        train(spec)
    kept.write_bytes(b"")
    with pytest.raises(StoreCorruptError, match="damaged"):
        train(spec)


def test_state_of_another_encoder_is_refused(
    spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec.model_copy(update={"end_to_end": True})
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            train(spec)
    backbone = timm.create_model(spec.region_encoder, pretrained=False)
    other = tmp_path / "other.safetensors"
    save_file(backbone.state_dict(), other)
    with pytest.raises(UsageError, match=r"another training: weights.*--no-resume"):
        train(spec.model_copy(update={"weights": str(other)}))


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c.safetensors", {"seed": 3})
    assert checkpoint.load() is None
    position = Position(epoch=2, order=[1, 0], best_loss=float("inf"), rng={"state": 2**100})
    checkpoint.save(position, {"a": torch.arange(3)})
    found = checkpoint.load()
    assert found is not None
    assert found[0] == position
    assert torch.equal(found[1]["a"], torch.arange(3))
    with pytest.raises(AttributeError):
        checkpoint.save(Position(), {"a": None})  # type: ignore[dict-item]
    assert checkpoint.load() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]
