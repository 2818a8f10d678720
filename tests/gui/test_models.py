"""What the list of models says about each."""

from __future__ import annotations

from support.reference import reference_model

from napari_xt.models import ModelChoice, choose, explain
from napari_xt.sample_data import is_sample


def test_a_model_without_a_pixel_size_is_explained_and_never_picked_first() -> None:
    bare = ModelChoice("bare", "bare", reference_model().card)
    stated = ModelChoice("stated", "stated", reference_model(model_mpp=0.5).card)
    assert not bare.fits(0.5, allow_upsample=True)
    assert "states no pixel size" in explain(bare, 0.5, False)
    assert "states no pixel size" in explain(bare, 0.5, False)
    assert "exactly what this slide has" in explain(stated, 0.5, False)
    assert choose([bare, stated], 0.5, False, "") == 1


def test_a_sample_slide_prefers_its_own_model_until_another_is_chosen() -> None:
    first, second = (
        ModelChoice(name, name, reference_model(model_mpp=0.75).card) for name in ("a", "b")
    )
    assert choose([first, second], 0.5, False, "") == 0
    assert choose([first, second], 0.5, False, "", "b") == 1
    assert choose([first, second], 0.5, False, "a", "b") == 0
    assert choose([first, second], 2.0, False, "", "b") == 0
    assert is_sample("sample_5_0.tiff")
    assert not is_sample("sample.tiff")
