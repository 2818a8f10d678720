"""Questions about a finished prediction, answered from the features that its run has stored.

Nothing is encoded for them. Names are loaded on first use: the window asks without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .asked import (
        About,
        Answer,
        Influence,
        InfluenceMap,
        Question,
        Repredicted,
        Spread,
        SpreadMap,
        WhatIf,
    )
    from .respondent import Respondent
    from .telling import context_change, entropy, most_telling

_HOMES = {
    "About": "asked",
    "Answer": "asked",
    "Influence": "asked",
    "InfluenceMap": "asked",
    "Question": "asked",
    "Repredicted": "asked",
    "Respondent": "respondent",
    "Spread": "asked",
    "SpreadMap": "asked",
    "WhatIf": "asked",
    "context_change": "telling",
    "entropy": "telling",
    "most_telling": "telling",
}

__all__ = [
    "About",
    "Answer",
    "Influence",
    "InfluenceMap",
    "Question",
    "Repredicted",
    "Respondent",
    "Spread",
    "SpreadMap",
    "WhatIf",
    "context_change",
    "entropy",
    "most_telling",
]

__getattr__ = lazy.attributes(__name__, _HOMES)
