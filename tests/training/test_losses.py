from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xt_backend.training.losses import class_weights, soft_cross_entropy


def test_hard_labels_give_torchs_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(20, 3), torch.randint(0, 3, (20,))
    soft = F.one_hot(labels, 3).float()
    ours = soft_cross_entropy(logits, soft, torch.ones(20), torch.ones(3), smoothing=0.1)
    assert ours.item() == pytest.approx(
        F.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-5
    )


def test_zero_weight_means_left_out() -> None:
    logits = torch.randn(6, 3)
    soft = torch.softmax(torch.randn(6, 3), 1)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    changed = logits.clone()
    changed[3:] += 100.0
    ones = torch.ones(3)
    assert torch.equal(
        soft_cross_entropy(logits, soft, weights, ones),
        soft_cross_entropy(changed, soft, weights, ones),
    )
    assert soft_cross_entropy(logits, soft, torch.zeros(6), ones).item() == 0.0


def test_class_weights() -> None:
    soft = F.one_hot(torch.tensor([0] * 8 + [1] * 2), 3).float()
    ones = torch.ones(10)
    assert torch.allclose(class_weights(soft, ones, 0.0), torch.ones(3))
    full = class_weights(soft, ones, 1.0)
    assert (full[0] * 8).item() == pytest.approx((full[1] * 2).item())
    assert full[2] == full.max()
    assert full[2] / full[0] <= 10.0 + 1e-4
    # An average region has weight 1, so the learning rate means the same whatever the classes.
    assert (soft @ full).mean().item() == pytest.approx(1.0)
