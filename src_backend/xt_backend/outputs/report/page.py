"""From values to a published HTML page that needs nothing beside itself.

Every value is escaped by the template engine. The page tells the browser to load nothing and to
run no script but its own, which is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from xt_backend.keys import RESEARCH_USE, RunFile
from xt_backend.outputs.text import visible
from xt_backend.publishing import publish_bytes
from xt_backend.store.plain import writer_version
from xt_backend.wording import counted

__all__ = ["publish_page", "slide_link"]

_PACKAGE = "xt_backend.outputs.report"


def publish_page(path: Path, template: str, script: str = "", **values: Any) -> None:
    """Publish a page.

    Args:
        path: Where it should go.
        template: Its name.
        script: Name of the template that is its script; "" for none.
        **values: What the template shows.

    Raises:
        OutputError: It cannot be written.
    """
    made = _environment()
    code = made.get_template(script).render() if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    text = made.get_template(template).render(
        values,
        research_use=RESEARCH_USE,
        version=writer_version(),
        script=script,
        allowed_script=f"'sha256-{digest}'" if script else "'none'",
    )
    # Names of files may hold what is no Unicode.
    publish_bytes(path, text.encode("utf-8", "backslashreplace"))


def slide_link(slide_id: str) -> str:
    """Address of a slide's page from that of the batch."""
    return "./" + quote(f"{slide_id}{RunFile.REPORT}")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "count": _count,
        "counted": counted,
        "length_of_time": _length_of_time,
        "number": _number,
        "percent": _percent,
        "visible": visible,
    }
    return made


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _number(value: float | None) -> str:
    return f"{value:.4g}" if _known(value) else "–"


def _percent(value: float | None) -> str:
    return f"{value:.1%}" if _known(value) else "–"


def _length_of_time(seconds: float | None) -> str:
    if not _known(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"
