"""The xT model: region encoder, bottleneck, context encoder and heads in one module."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from xt_backend.errors import ModelError, UsageError
from xt_backend.model.card import ModelCard
from xt_backend.model.context import ContextEncoder, build_context
from xt_backend.model.dense_head import DenseHead
from xt_backend.model.heads import RegionHead, RegionOnlyHead, SlideHead
from xt_backend.model.orders import reading_order
from xt_backend.model.positions import token_positions_um
from xt_backend.model.prediction import Prediction
from xt_backend.model.reduce import Reduce, in_blocks
from xt_backend.model.region import RegionEncoder, cut_regions
from xt_backend.model.seeding import seeded

__all__ = ["XT", "Prediction"]

_REGIONS_AT_ONCE = 32
_FEATURES_AT_ONCE = 4096


class XT(nn.Module):
    """An xT model.

    Args:
        card: What the model is; fixes the shape of everything here.
        region_encoder: Of the sizes that the card names.
        generator: Source of the initial weights of all but the encoder; None is seed 0.

    Attributes:
        reduce: Whitening and projection, `Reduce`.
        context: The context encoder.
        region_only_head: Logits from the whitened tokens, before context.
        region_head: Logits per region after context; None for slide-task models.
        slide_head: Logits per slide; None for other models.
        dense_head: Logits per pixel of a mask (dense) or heat map (detection) at 1/4 of the
            region's resolution, `DenseHead`; None for other models.
        has_region_only: True: every model of this layout has a region-only head.

    Raises:
        ModelError: Card and encoder contradict each other, or the card's context is unknown.
    """

    has_region_only = True
    region_head: RegionHead | None
    slide_head: SlideHead | None
    dense_head: DenseHead | None

    def __init__(
        self,
        card: ModelCard,
        region_encoder: RegionEncoder,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name in ("region_px", "input_px", "tokens_per_region"):
            wanted, given = getattr(card, name), getattr(region_encoder, name)
            if wanted != given:
                raise ModelError(
                    f"The card of {card.name} has {name} {wanted}, its encoder {given}",
                    "build the encoder with the sizes of the card",
                )
        if card.region_encoder.name != region_encoder.info.name:
            raise ModelError(
                f"The card of {card.name} names the encoder {card.region_encoder.name}, given was "
                f"{region_encoder.info.name}",
                "put the encoder's info into the card",
            )
        self.card = card
        self.region_encoder = region_encoder
        n_classes = len(card.classes)
        dim = card.context.dim
        options: dict[str, Any] = {**card.context.options}
        taken = sorted({"generator", "kind", "dim", "layers"} & set(options))
        if taken:
            raise ModelError(f"Context options must not hold {', '.join(taken)}", "remove them")
        with seeded(generator):
            inner = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            self.reduce = Reduce(region_encoder.dim, card.reduce.components, dim)
            self.context: ContextEncoder = build_context(
                card.context.kind, dim, card.context.layers, generator=inner, **options
            )
            self.region_only_head = RegionOnlyHead(self.reduce.width, n_classes)
            slide = card.task == "slide"
            self.region_head = None if slide else RegionHead(dim, n_classes)
            self.slide_head = SlideHead(dim, n_classes, card.slide_head.kind) if slide else None
            self.dense_head = _dense_head(card, region_encoder) if card.has_dense_head else None

    @property
    def device(self) -> torch.device:
        """Where the context encoder and the heads live."""
        return self.reduce.project.weight.device

    @property
    def _dtype(self) -> torch.dtype:
        return self.reduce.project.weight.dtype

    def forward(self, image: Tensor) -> Tensor:
        """Predict a whole image, whose regions are one field.

        Args:
            image: (B, 3, H, W) float, already normalised; H and W multiples of region_px.

        Returns:
            Logits (B, C, rows, cols) for region task, (B, C) for slide task,
            (B, C, H/4, W/4) for dense, and for detection with the kinds of points as C.

        Raises:
            UsageError: Another shape.
        """
        batch = len(image)
        regions, rows, cols = cut_regions(image, self.card.region_px)
        parts = torch.split(regions, _REGIONS_AT_ONCE)
        if self.dense_head is None:
            pyramids: list[list[Tensor]] = []
            features = torch.cat([self.region_encoder(part) for part in parts])
        else:
            pyramids = [self.region_encoder.pyramid(part) for part in parts]
            features = torch.cat([self.region_encoder.tokens(one[-1]) for one in pyramids])
        features = features.reshape(batch, rows * cols, *features.shape[1:])
        y_um, x_um = torch.meshgrid(
            (torch.arange(rows, device=image.device) + 0.5) * self.card.region_um,
            (torch.arange(cols, device=image.device) + 0.5) * self.card.region_um,
            indexing="ij",
        )
        centres = torch.stack([x_um, y_um], dim=-1).reshape(1, -1, 2).expand(batch, -1, -1)
        found = self.decode(features, centres)
        if found.slide_logits is not None:
            return found.slide_logits
        if self.dense_head is not None:
            tokens = torch.split(found.context_tokens.flatten(0, 1), _REGIONS_AT_ONCE)
            maps = torch.cat(
                [self.dense_head(one, some) for one, some in zip(pyramids, tokens, strict=True)]
            )
            channels, length = maps.shape[1:3]
            maps = maps.reshape(batch, rows, cols, channels, length, length)
            return maps.permute(0, 3, 1, 4, 2, 5).reshape(
                batch, channels, rows * length, cols * length
            )
        return found.logits.transpose(1, 2).reshape(batch, -1, rows, cols)

    def decode(
        self, features: Tensor, positions_um: Tensor, padding_mask: Tensor | None = None
    ) -> Prediction:
        """From the features of B fields to logits, with gradients; what training calls.

        Args:
            features: (B, N, k * k, D) float.
            positions_um: (B, N, 2) x, y of the regions' centres in um.
            padding_mask: (B, N) bool, True = padding. Logits at padding places mean nothing.

        Returns:
            Logits with a leading B.
        """
        per_region = self.card.tokens_per_region**2
        _check_shape("features", features, (-1, per_region, self.region_encoder.dim))
        return self._decode(self.reduce.whiten(features), positions_um, padding_mask)

    def decode_reduced(
        self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None = None
    ) -> Prediction:
        """`decode` from whitened tokens (B, N, k * k, width), what `reduce.whiten` gives."""
        _check_shape("tokens", tokens, (-1, self.card.tokens_per_region**2, self.reduce.width))
        return self._decode(tokens, positions_um, padding_mask)

    def predict(self, features: Tensor, positions_um: Tensor) -> Prediction:
        """Predict the regions of one field.

        Regions are put into raster order first, so the result does not depend on the order in
        which they are given. A region with non-finite features is left out of the field and gets
        NaN. Gradients are only kept where `features` asks for them.

        Args:
            features: (N, k * k, D) float of any precision, on any device; N may be 0.
            positions_um: (N, 2) x, y of the regions' centres in um.

        Returns:
            float32 logits in the order of the input, on the model's device.

        Raises:
            UsageError: Shapes do not fit, or a place is not finite.
        """
        per_region = self.card.tokens_per_region**2
        _check_shape("features", features, (per_region, self.region_encoder.dim))
        with torch.set_grad_enabled(torch.is_grad_enabled() and features.requires_grad):
            parts = [
                self.reduce(part.to(self.device, self._dtype))
                for part in torch.split(features, _FEATURES_AT_ONCE)
            ]
            return self.predict_reduced(torch.cat(parts), positions_um)

    def predict_reduced(self, tokens: Tensor, positions_um: Tensor) -> Prediction:
        """`predict` from whitened tokens, which are far smaller than features.

        Args:
            tokens: (N, k * k, width), what `reduce` gives.
            positions_um: (N, 2) as in `predict`.

        Returns:
            As `predict`.

        Raises:
            UsageError: As `predict`.
        """
        per_region = self.card.tokens_per_region**2
        _check_shape("tokens", tokens, (per_region, self.reduce.width))
        places = positions_um.detach().to("cpu", torch.float64)
        if places.shape != (len(tokens), 2) or not bool(places.isfinite().all()):
            raise UsageError(
                f"positions_um must be ({len(tokens)}, 2) finite values, not {tuple(places.shape)}"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and tokens.requires_grad):
            tokens = tokens.to(self.device, self._dtype)
            finite = tokens.isfinite().all(dim=2).all(dim=1)
            order = reading_order(places[None])[0].to(self.device)
            order = order[finite[order]]
            # Apple's GPUs have no float64.
            places = places.float() if self.device.type == "mps" else places
            places = places.to(self.device)[order]
            found = self._decode(tokens[order][None], places[None], None)

            def as_given(logits: Tensor) -> Tensor:
                missing = logits.new_full((len(tokens), logits.shape[-1]), torch.nan)
                return missing.index_copy(0, order, logits[0]).float()

            slide, alone = found.slide_logits, found.region_only_slide_logits
            return Prediction(
                as_given(found.logits),
                self.region_only(tokens),
                as_given(found.context_tokens),
                None if slide is None else slide[0].float(),
                None if alone is None else alone[0].float(),
                None if found.slide_token is None else found.slide_token[0].float(),
            )

    def region_only(self, tokens: Tensor) -> Tensor:
        """Logits of regions seen by themselves; equal in whatever company they come.

        Args:
            tokens: (N, k * k, width), what `reduce` gives.

        Returns:
            (N, C) float32; NaN where tokens are not finite.
        """
        tokens = tokens.to(self.device, self._dtype)
        logits = in_blocks(self.region_only_head, tokens).float()
        broken = ~tokens.isfinite().all(dim=2).all(dim=1, keepdim=True)
        return logits.masked_fill(broken, torch.nan)

    def _decode(
        self, white: Tensor, positions_um: Tensor, padding_mask: Tensor | None
    ) -> Prediction:
        """White tokens (B, N, k * k, width) and the rest as in `decode`."""
        batch, n_regions, per_region, _ = white.shape
        card = self.card
        alone: Tensor = self.region_only_head(white)
        tokens = self.reduce.project(white).flatten(1, 2)
        places = token_positions_um(positions_um, card.tokens_per_region, card.region_um)
        mask = None if padding_mask is None else padding_mask.repeat_interleave(per_region, dim=1)
        head = self.slide_head
        if head is not None and head.has_class_token:
            tokens, places, mask = head.append_class_token(tokens, places, mask)
        mixed: Tensor = self.context(tokens, places, mask)
        regions = mixed[:, : n_regions * per_region].reshape(
            batch, n_regions, per_region, card.context.dim
        )
        means = regions.mean(dim=2)
        if head is None:
            return Prediction(cast("RegionHead", self.region_head)(regions), alone, means)
        whole = mixed[:, -1] if head.has_class_token else head.pool(means, padding_mask)
        counted = torch.ones(batch, n_regions, dtype=torch.bool, device=white.device)
        if padding_mask is not None:
            counted = ~padding_mask
        n_counted = counted.sum(dim=1, keepdim=True)
        mean_alone = (alone * counted.unsqueeze(-1)).sum(dim=1) / n_counted
        slide = head.classify(whole).masked_fill(n_counted == 0, torch.nan)
        return Prediction(head.classify(means), alone, means, slide, mean_alone, whole)


def _dense_head(card: ModelCard, encoder: RegionEncoder) -> DenseHead:
    detects = card.task == "detection"
    return DenseHead(
        encoder.pyramid_channels,
        encoder.pyramid_sides,
        region_px=card.region_px,
        dim=card.context.dim,
        n_channels=len(card.point_kinds) if detects else len(card.classes),
        width=card.dense_head.width,
        rare=detects,
    )


def _check_shape(name: str, tensor: Tensor, last: tuple[int, ...]) -> None:
    """Raise a UsageError unless the last sides are these (-1: any), with one more in front."""
    given = tuple(tensor.shape[1:])
    if len(given) != len(last) or any(b not in (-1, a) for a, b in zip(given, last, strict=True)):
        wanted = ", ".join("N" if side < 0 else str(side) for side in last)
        raise UsageError(f"{name} must be (.., {wanted}), not {tuple(tensor.shape)}")
