"""``napari-xt cache``"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xt_backend.config import cache_folder
from xt_backend.wording import counted, size_words

from ..app import PlainCommand, app
from ..console import print_json, progress_bar, say, warn
from ..options import Cache, Json

if TYPE_CHECKING:
    from xt_backend.store import StoreInfo

kept = typer.Typer(help="The features that are kept, and their space.", no_args_is_help=True)
app.add_typer(kept, name="cache")


@kept.command("list", cls=PlainCommand)
def list_(cache: Cache = None, json: Json = False) -> None:
    """List what is kept, the longest unused first.

    Each store holds the features of one slide under one encoder, or what was measured of the
    pictures of its regions. No file name of a slide is known to it.
    """
    from xt_backend.store import all_stores

    place = cache or cache_folder()
    stores = all_stores(place)
    if json:
        print_json({"folder": str(place), "stores": [_values(info) for info in stores]})
        return
    for info in stores:
        say(_line(info))
    size = size_words(sum(info.size_bytes for info in stores))
    say(f"{counted(len(stores), 'store')}, {size}, in {place}")


@kept.command(cls=PlainCommand)
def verify(cache: Cache = None, json: Json = False) -> int:
    """Read everything that is kept, and set aside what is damaged.

    It is encoded again by the next run that needs it. Exit codes: 0 all is whole; 3 something was
    damaged.
    """
    from xt_backend.store import all_stores, verify_store

    place = cache or cache_folder()
    stores, problems = all_stores(place), []
    with progress_bar() as bar:
        task = bar.add_task("reading the cache", total=len(stores))
        for number, info in enumerate(stores, 1):
            problems += verify_store(info)
            bar.update(task, completed=number)
    if json:
        print_json({"folder": str(place), "stores": len(stores), "problems": problems})
    else:
        for problem in problems:
            warn(problem)
        say(f"{counted(len(stores), 'store')} read, {counted(len(problems), 'problem')}")
    return 3 if problems else 0


@kept.command(cls=PlainCommand)
def prune(
    max_gb: Annotated[
        float | None,
        typer.Option(
            min=0, help="Size that the stores may have; the longest unused go [default: any]."
        ),
    ] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Make space: remove what was longest unused.

    Without --max-gb only what is damaged goes. Results stay. What a later run needs of it is
    encoded again.
    """
    from xt_backend.store import prune_cache

    place = cache or cache_folder()
    done = prune_cache(place, None if max_gb is None else int(max_gb * 1e9))
    if json:
        removed = [_values(info) for info in done.removed]
        sizes = {"freed_bytes": done.freed_bytes, "left_bytes": done.left_bytes}
        print_json({"folder": str(place), "removed": removed, **sizes})
        return
    say(
        f"{counted(len(done.removed), 'store')} removed, {size_words(done.freed_bytes)} freed; "
        f"{size_words(done.left_bytes)} left in {place}"
    )


def _line(info: StoreInfo) -> str:
    used = datetime.fromtimestamp(info.used).strftime("%Y-%m-%d %H:%M")
    about = ", ".join(_about(info)) or info.problem
    return (
        f"{info.digest[:12]}  {used}  {size_words(info.size_bytes):>9}  "
        f"{info.n_regions:>9,} regions  {about}"
    )


def _about(info: StoreInfo) -> Iterator[str]:
    if info.key is None:
        return
    numerics, lattice = info.key.numerics, info.key.lattice
    yield "quality of regions" if "measures" in numerics else str(numerics.get("encoder", "?"))
    if "region_px" in lattice and "model_mpp" in lattice:
        yield f"{lattice['region_px']} px at {lattice['model_mpp']:g} um/px"
    if info.n_bad:
        yield f"{info.n_bad} damaged"


def _values(info: StoreInfo) -> dict[str, Any]:
    return {
        "digest": info.digest,
        "key": None if info.key is None else info.key.to_dict(),
        "version": info.version,
        "regions": info.n_regions,
        "bytes": info.size_bytes,
        "damaged": info.n_bad,
        "used": datetime.fromtimestamp(info.used).astimezone().isoformat(timespec="seconds"),
        "problem": info.problem,
    }
