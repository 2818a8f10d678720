"""Several processes: what they share, and that one of them changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import Call
from support.training import tiny_training

from xt_backend.errors import UsageError
from xt_backend.training import train
from xt_backend.training.processes import Processes

from .test_end_to_end import make_learner


class TwoOfTwo:
    """The second of two processes, whose companion found the same: sums are doubled."""

    num_processes = 2
    process_index = 1
    is_main_process = False
    device = torch.device("cpu")

    def reduce(self, values: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return 2 * values

    def wait_for_everyone(self) -> None:
        pass


def test_two_processes_share_and_add_up() -> None:
    two = Processes(TwoOfTwo())  # type: ignore[arg-type]
    assert (two.count, two.is_main, two.device) == (2, False, "cpu")
    assert list(two.mine([1, 2, 3, 4, 5])) == [2, 4]
    # Pixels are counted so, of which a set of slides has more than float32 can tell apart.
    assert two.add(np.array([1.5, 2**24 + 1])).tolist() == [3.0, 2 * (2**24 + 1)]
    net = torch.nn.Linear(2, 1)
    net.weight.grad = torch.tensor([[1.0, 2.0]])
    two.add_gradients(net.parameters())
    assert net.weight.grad.tolist() == [[2.0, 4.0]]
    # No process used the bias: the optimizer must go on passing it over.
    assert net.bias.grad is None


def test_launched_alone_or_without_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Processes.launched()
    assert (alone.count, alone.is_main, alone.device) == (1, True, None)
    values = np.arange(3.0)
    assert alone.add(values) is values
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
    with pytest.raises(UsageError, match="accelerate, which is not installed"):
        Processes.launched()


def test_only_the_main_process_speaks(
    slides_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """Eight GPUs would print eight tables."""
    spec = tiny_training(
        slides_folder, tmp_path / "a.safetensors", epochs=1, end_to_end=True, workers=0
    )
    config = tmp_path / "train.yaml"
    config.write_text(json.dumps(spec.model_dump(mode="json", exclude_unset=True)))
    monkeypatch.setattr(
        "xt_backend.training.loop.Processes.launched",
        classmethod(lambda cls: Processes(TwoOfTwo())),  # type: ignore[arg-type]
    )
    for more in ((), ("--json",)):
        done = call("train", "--config", config, *more)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not spec.out.exists()


@pytest.fixture
def accelerated() -> Iterator[Processes]:
    accelerate = pytest.importorskip("accelerate", reason="the train extra is not installed")
    yield Processes(accelerate.Accelerator(cpu=True))
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_one_process_of_accelerate_changes_nothing(
    slides_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerated: Processes
) -> None:
    spec = tiny_training(
        slides_folder,
        tmp_path / "a.safetensors",
        name="same",
        epochs=1,
        end_to_end=True,
        workers=0,
    )
    train(spec)
    with monkeypatch.context() as patch:
        patch.setattr(
            "xt_backend.training.loop.Processes.launched", classmethod(lambda cls: accelerated)
        )
        train(spec.model_copy(update={"out": tmp_path / "b.safetensors"}))
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    learner = make_learner(spec)
    accelerated.agree(learner.model)
    assert list(accelerated.mine([1, 2])) == [1, 2]
