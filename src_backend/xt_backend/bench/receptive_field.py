"""How far a context encoder looks: the effective receptive field, as in the xT paper."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.engine import BatchEncoder, choose_device
from xt_backend.keys import DEFAULT_COLORS
from xt_backend.model import XT, build_context, find_model, load_model
from xt_backend.model.positions import token_positions_um
from xt_backend.training import EvaluateSpec, TrainSpec
from xt_backend.training.annotations import pair_slides
from xt_backend.training.dataset import load_field

from .benchmark import Benchmark, Case, Result, Workplace
from .section import Picture, Section, Table, number
from .slides import sample_slides
from .spec import BenchSpec
from .transfer import MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ReceptiveField"]

KINDS = ("transformer-xl", "mamba2", "mamba", "hyper", "attention")
FAINTEST = 1e-4
"""Of the largest gradient: what the picture still shows."""

Map = npt.NDArray[np.float64]


class ReceptiveField(Benchmark):
    """Gradients of one region's output with respect to the tokens of all regions."""

    name = "receptive-field"
    title = "Effective receptive field"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            "regions": 7 if quick else 31,
            "draws": 2 if quick else 16,
            "slides": 1 if quick else 4,
            "size_px": 1024 if quick else 4096,
            "seed": 5000,
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        return [{"model": MODEL}, *({"model": "untrained", "context": kind} for kind in KINDS)]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe = self.recipe(workplace.spec.quick)
        if case["model"] == "untrained":
            spec = TrainSpec(slides=workplace.folder, out=workplace.folder, context=case["context"])
            region_um = spec.region_px * spec.model_mpp
            found = _untrained(spec, recipe, region_um)
        else:
            found, region_um = _trained(recipe, workplace)
        found /= found.max()
        return {
            "region_um": region_um,
            "map": [[float(f"{value:.3g}") for value in row] for row in found.tolist()],
        }

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe = self.recipe(quick)
        found: dict[str, tuple[Map, float]] = {}
        for one in sorted(results, key=lambda result: result.case["model"] == "untrained"):
            title = one.case["model"]
            if title == "untrained":
                title = f"{one.case['context']}, untrained"
            found[title] = np.array(one.values["map"]), one.values["region_um"]
        rows = [
            [
                title,
                number(own_share(values), 2),
                *(number(reach_um(values, region_um, share), 0) for share in (0.5, 0.9)),
            ]
            for title, (values, region_um) in found.items()
        ]
        side = recipe["regions"]
        return Section(
            self.title,
            [
                "The gradient of what is said about one region with respect to the tokens of every "
                "region, its length averaged over random directions of the output. Untrained: what "
                f"`train` builds before its first step, on {side} x {side} regions of random "
                f"tokens, {recipe['draws']} draws. `{MODEL}`: the bundled model on "
                f"{recipe['slides']} unseen sample slides, {recipe['draws']} regions of each in "
                "the middle. A region's own tokens have the share in the second column; of all "
                "the rest, half and nine tenths come from within the distances given.",
            ],
            [Table(("model", "own region", "half within, um", "nine tenths within, um"), rows)],
            [
                Picture(
                    self.name,
                    "Maps of the gradient around the region in the middle, logarithmic colours, "
                    "and its mean by distance",
                    lambda: _draw(found),
                )
            ],
        )


def own_share(values: Map) -> float:
    """Share of the gradient that the region in the middle itself has."""
    middle = values[values.shape[0] // 2, values.shape[1] // 2]
    return float(middle / values.sum())


def reach_um(values: Map, region_um: float, share: float) -> float:
    """Distance within which lies a share of the gradient beyond the region itself."""
    distances = _distances(values) * region_um
    outside = distances.ravel() > 0
    order = np.argsort(distances.ravel()[outside], kind="stable")
    summed = np.cumsum(values.ravel()[outside][order])
    if summed[-1] <= 0:
        return 0.0
    place = int(np.searchsorted(summed, share * summed[-1]))
    return float(distances.ravel()[outside][order][place])


def _distances(values: Map) -> Map:
    """Of each region from the one in the middle, in regions."""
    rows, cols = (np.arange(n) - n // 2 for n in values.shape)
    return np.asarray(np.hypot(rows[:, None], cols[None, :]))


def _untrained(spec: TrainSpec, recipe: dict[str, Any], region_um: float) -> Map:
    side, k = recipe["regions"], spec.tokens_per_region or 2
    options: dict[str, Any] = {**spec.context_arguments}
    context = build_context(spec.context, spec.dim, spec.layers, **options).eval()
    places = torch.arange(side, dtype=torch.float64)
    y, x = torch.meshgrid(places, places, indexing="ij")
    centres = torch.stack([x, y], dim=-1).reshape(1, -1, 2) * region_um
    positions_um = token_positions_um(centres, k, region_um)
    generator = torch.Generator().manual_seed(recipe["seed"])
    middle = side * side // 2
    total = torch.zeros(side * side)
    for _ in range(recipe["draws"]):
        tokens = torch.randn(1, side * side * k * k, spec.dim, generator=generator)
        tokens.requires_grad_()
        mixed = context(tokens, positions_um).reshape(side * side, k * k, spec.dim)
        total += _gradient(mixed[middle].mean(dim=0), tokens, generator).reshape(-1, k * k).sum(1)
    return total.reshape(side, side).double().numpy()


def _trained(recipe: dict[str, Any], workplace: Workplace) -> tuple[Map, float]:
    work, side = workplace.folder, recipe["regions"]
    slides = sample_slides(
        work, recipe["slides"], recipe["size_px"], recipe["seed"], workplace.tell
    )
    options = EvaluateSpec(model=MODEL, slides=slides, cache=work / "regions")
    device = choose_device(options.device, options.precision)
    model = load_model(find_model(MODEL))
    if not isinstance(model, XT):
        raise TypeError(f"{MODEL} is no model of our layout")
    encoder = BatchEncoder(model.region_encoder, device)
    model.to(device.name)
    generator = torch.Generator().manual_seed(recipe["seed"])
    total: Map = np.zeros((side, side))
    for source in pair_slides(slides, [slides]):
        workplace.tell(source.name)
        field = load_field(source, model.card, encoder, options)
        pitch_um = field.pitch_um
        features = torch.from_numpy(field.features).to(device.name, torch.float32)
        with torch.no_grad():
            white = model.reduce(features)
        positions_um = torch.from_numpy(field.positions_um)
        centre_um = field.positions_um.mean(axis=0)
        nearest = np.argsort(np.hypot(*(field.positions_um - centre_um).T), kind="stable")
        for middle in nearest[: recipe["draws"]]:
            tokens = white.clone().requires_grad_()
            logits = model.predict_reduced(tokens, positions_um).logits
            lengths = _gradient(logits[int(middle)], tokens, generator).sum(dim=1)
            offset = field.positions_um - field.positions_um[middle]
            cells = np.round(offset / pitch_um).astype(int) + side // 2
            inside = ((cells >= 0) & (cells < side)).all(axis=1)
            np.add.at(total, (cells[inside, 1], cells[inside, 0]), lengths.cpu().numpy()[inside])
    return total, model.card.region_um


def _gradient(
    output: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Lengths (..., T) of the gradients of `output` (n,) along a random direction."""
    direction = torch.randn(output.shape, generator=generator).to(output.device)
    (gradient,) = torch.autograd.grad((output * direction / direction.norm()).sum(), tokens)
    lengths: torch.Tensor = gradient.norm(dim=-1)
    return lengths


def _draw(found: dict[str, tuple[Map, float]]) -> Figure:
    from matplotlib.colors import LogNorm

    from xt_backend.training.plots import new_figure

    figure = new_figure(13, 6.4, "Benchmarks")
    grid = figure.add_gridspec(2, 4)
    panels = []
    image = None
    for place, (title, (values, region_um)) in enumerate(found.items()):
        axes = figure.add_subplot(grid[divmod(place, 4)])
        reach = values.shape[0] / 2 * region_um
        image = axes.imshow(
            np.maximum(values, FAINTEST),
            cmap="cividis",  # light and dark mean the same to every eye, and in print
            norm=LogNorm(FAINTEST, 1.0),
            extent=(-reach, reach, reach, -reach),
        )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("um")
        panels.append(axes)
    if image is not None:
        figure.colorbar(image, ax=panels, shrink=0.6, label="gradient, of the largest")
    last = figure.add_subplot(grid[1, 2:])
    styles = zip(found.items(), DEFAULT_COLORS, itertools.cycle(("-", "--")), strict=False)
    for (title, (values, region_um)), color, dashes in styles:
        rings = np.round(_distances(values)).astype(int)
        sums = np.bincount(rings.ravel(), weights=values.ravel())
        means = (sums / np.bincount(rings.ravel()))[: values.shape[0] // 2 + 1]
        last.plot(
            np.arange(len(means)) * region_um, means, color=color, linestyle=dashes, label=title
        )
    last.set_yscale("log")
    last.set_ylim(FAINTEST, 1.5)
    last.set_xlabel("distance, um")
    last.set_title("mean by distance", fontsize=10)
    last.spines[["top", "right"]].set_visible(False)
    last.legend(frameon=False, fontsize=8)
    return figure
