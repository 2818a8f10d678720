"""What only a GPU can show: is CUDA right, is it fast, and does mamba-ssm give the same.

Usage: python scripts/check_cuda.py [--quick] [--device cuda:0] [--compile]
Needs torch, timm and the package's other dependencies, but no installation, network or slide: the
encoders have random weights (seeded), regions and the slide are made. Prints one line a check and
ends with 1 when one fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src_backend"))

import numpy as np
import torch

from xt_backend.engine.device import Device, choose_device
from xt_backend.engine.encoder import BatchEncoder
from xt_backend.engine.encoders import EncoderBackend, Way, make_backend, probe
from xt_backend.engine.encoders.cuda import CudaBackend
from xt_backend.engine.encoders.plain import TorchBackend
from xt_backend.engine.encoders.probing import run_through
from xt_backend.model import RegionEncoder, build_context, build_region_encoder

SIDE = 256
CPU = Device("cpu", "fp32", "check")
Rows = Iterator[tuple[str, bool | None, str]]


def regions(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Coarse blots with grain: regions that differ, as tissue does."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 240, (n, 8, 8, 3)).repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)
    return np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)


def off(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    """Deviation over what tells regions apart."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    spread = np.linalg.norm(wanted - wanted.mean(axis=0))
    return float(np.linalg.norm(found - wanted) / spread)


def rate(backend: EncoderBackend, pixels: np.ndarray[Any, Any], rounds: int = 3) -> float:
    """Regions a second, the fastest of some rounds."""
    run_through(backend, pixels[: backend.batch])
    best = float("inf")
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run_through(backend, pixels)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return len(pixels) / best


def same_numbers(name: str, net: RegionEncoder, device: str) -> Rows:
    pixels = regions(96)
    truth = run_through(TorchBackend(net, CPU), pixels[:32])
    for precision, most in (("fp32", 0.01), ("fp16", 0.05), ("bf16", 0.25)):
        backend = CudaBackend(net, Device(device, precision, "check"))
        found = run_through(backend, pixels)
        error = off(found[:32], truth)
        yield f"{name} {precision}: features against CPU fp32", error < most, f"off by {error:.2%}"
        encoder = BatchEncoder(net, Device(device, precision, "check"))
        alone = np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(3)])
        back = encoder.encode(pixels[::-1])[::-1]
        good = alone.tobytes() == found[:3].tobytes() and back.tobytes() == found.tobytes()
        yield f"{name} {precision}: same bytes in any company", good, ""


def speeds(name: str, net: RegionEncoder, device: str, n: int, compiled: bool) -> Rows:
    pixels = regions(min(n, 512)).repeat(max(1, n // 512), 0)
    low = Device(device, "fp16", "check")
    plain = rate(TorchBackend(net, low), pixels)
    yield f"{name} fp16: one batch of 64 after the other", None, f"{plain:,.0f} regions/s"
    for batch in (64, 128, 256):
        found = rate(CudaBackend(net, low, batch), pixels)
        # A fifth for noise: copying beside computing must not be slower.
        good = None if batch != 64 else found > 0.8 * plain
        words = f"{found:,.0f} regions/s, {found / plain:.2f} x"
        yield f"{name} fp16: two in flight, batches of {batch}", good, words
    if compiled:
        started = time.perf_counter()
        backend = CudaBackend(net, low, compiled=True)
        run_through(backend, pixels[:64])
        took = time.perf_counter() - started
        found = rate(backend, pixels)
        words = f"{found:,.0f} regions/s, {found / plain:.2f} x, compiled in {took:.0f} s"
        yield f"{name} fp16: torch.compile", None, words


def full_memory(name: str, net: RegionEncoder, device: str) -> Rows:
    low = Device(device, "fp32", "check")
    pixels = regions(256)
    wanted = run_through(CudaBackend(net, low, 64), pixels)
    total = torch.cuda.get_device_properties(device).total_memory
    backend = CudaBackend(net, low, 256)
    backend.prepare()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run_through(CudaBackend(net, low, 32), pixels[:32])
    room = torch.cuda.max_memory_allocated(device) * 2
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total), device)
    try:
        found = run_through(backend, pixels)
        error = off(found, wanted)
        yield f"{name}: halves when memory is full", error < 0.01, f"off by {error:.3%}"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def probing(name: str, net: RegionEncoder, device: str) -> Rows:
    low = choose_device(device)
    ways = [Way("torch", low.precision, size) for size in (None, 128, 256)]
    choice = probe(net, low, [*ways, Way("torch", "bf16")], regions(96))
    yield f"{name}: the probe takes", not choice.tried[0].problem, f"{choice.way}: {choice.reason}"
    made = make_backend(net, low, choice.way, None)
    yield f"{name}: its numerics", None, str(made.numerics())


def contexts(device: str, length: int) -> Rows:
    torch.manual_seed(0)
    tokens = torch.randn(1, length, 192)
    places = torch.arange(length)
    positions = torch.stack([places % 64, places // 64], dim=-1)[None].float() * 128
    for kind in ("mamba", "mamba2", "transformer-xl", "hyper"):
        context = build_context(kind, 192, 2).eval()
        with torch.inference_mode():
            wanted = context(tokens, positions)
            context, there = context.to(device), (tokens.to(device), positions.to(device))
            for _ in range(2):
                torch.cuda.synchronize()
                started = time.perf_counter()
                found = context(*there)
                torch.cuda.synchronize()
                took = time.perf_counter() - started
        error = float((found.cpu() - wanted).abs().max())
        words = f"max difference {error:.1e}, {took * 1e3:.1f} ms for {length} tokens"
        yield f"context {kind} against the CPU", error < 5e-3, words


def mamba_kernel(device: str, length: int) -> Rows:
    from xt_backend.model.context import kernels, mamba

    if kernels._kernel() is None:
        yield "mamba-ssm", None, "cannot be imported here"
        return
    torch.manual_seed(0)
    context = build_context("mamba", 192, 2).eval().to(device)
    tokens = torch.randn(1, length, 192, device=device)
    positions = torch.rand(1, length, 2, device=device) * 10000
    found, took = {}, {}
    known = mamba.scan_kernel
    for what, choose in (("plain", lambda like: None), ("mamba-ssm", known)):
        mamba.scan_kernel = choose
        try:
            with torch.inference_mode():
                for _ in range(3):
                    torch.cuda.synchronize()
                    started = time.perf_counter()
                    found[what] = context(tokens, positions)
                    torch.cuda.synchronize()
                    took[what] = time.perf_counter() - started
        finally:
            mamba.scan_kernel = known
    error = float((found["plain"] - found["mamba-ssm"]).abs().max())
    ratio = took["plain"] / took["mamba-ssm"]
    words = f"max difference {error:.1e}, {ratio:.1f} x as fast at {length} tokens"
    yield "mamba-ssm against plain torch", error < 1e-3, words


def whole_slide(name: str, net: RegionEncoder, device: str, side_px: int) -> Rows:
    """From a slide to features: how long the device waits for pixels."""
    from xt_backend.bench.noise_slide import MPP, noise_slide
    from xt_backend.config import FeatureOptions
    from xt_backend.engine import collect, prepare

    with tempfile.TemporaryDirectory(prefix="check-cuda-") as folder:
        path = noise_slide(Path(folder), side_px)
        chosen = choose_device(device)
        for workers in (2, 8):
            options = FeatureOptions(tissue="all", use_cache=False, workers=workers)
            encoder = BatchEncoder(net, chosen)
            encoder.encode(regions(64))
            encoder.seconds = 0.0
            started = time.perf_counter()
            with prepare(path, MPP, SIDE, options).slide:
                pass  # what is done once a slide is not the reader's fault
            before = time.perf_counter() - started
            prepared = prepare(path, MPP, SIDE, options)
            started = time.perf_counter()
            with prepared.slide:
                found = collect(prepared, encoder, options)
            took = time.perf_counter() - started
            words = (
                f"{len(found.features) / took:,.0f} regions/s, waiting for pixels "
                f"{found.seconds['wait'] / took:.0%}; preparing took {before:.1f} s"
            )
            yield f"{name}: slide to features, {workers} readers", found.complete, words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device here")
    device = arguments.device
    n = 1024 if arguments.quick else 4096
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}", flush=True)
    side_px = 8192 if arguments.quick else 20480
    checks: list[tuple[str, Callable[[], Rows]]] = []
    for name in ("tf_efficientnet_lite0", "swinv2_tiny_window16_256"):
        net = build_region_encoder(name, region_px=SIDE, weights="random")
        checks += [
            (f"{name} numbers", lambda name=name, net=net: same_numbers(name, net, device)),
            (
                f"{name} speed",
                lambda name=name, net=net: speeds(name, net, device, n, arguments.compile),
            ),
            (f"{name} memory", lambda name=name, net=net: full_memory(name, net, device)),
            (f"{name} probe", lambda name=name, net=net: probing(name, net, device)),
        ]
        if name.startswith("tf"):
            checks.append(
                ("slide", lambda name=name, net=net: whole_slide(name, net, device, side_px))
            )
    length = 2048 if arguments.quick else 8192
    checks += [
        ("contexts", lambda: contexts(device, length)),
        ("mamba-ssm", lambda: mamba_kernel(device, length)),
    ]
    failed = 0
    for name, check in checks:
        try:
            for what, good, words in check():
                failed += good is False
                mark = {True: "ok  ", False: "FAIL", None: "    "}[good]
                print(f"{mark} {what:<60} {words}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {name}: {traceback.format_exc()}", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
