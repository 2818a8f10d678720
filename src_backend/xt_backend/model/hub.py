"""Files of the Hugging Face hub: the local cache first, the network only if allowed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from xt_backend.errors import ModelError

__all__ = ["HubFile", "HubName", "hub_file", "hub_licence", "is_offline"]

_PREFIX = "hf-hub:"


@dataclass(frozen=True)
class HubName:
    """A repository of the hub and the revision to take.

    Attributes:
        repository: ``owner/name``.
        revision: Commit, tag or branch; None is the newest.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str, revision: str | None) -> HubName | None:
        """Parse ``hf-hub:owner/name[@revision]``; None for any other name.

        Raises:
            ModelError: The name starts like one but is none.
        """
        if not name.startswith(_PREFIX):
            return None
        repository, _, pinned = name.removeprefix(_PREFIX).partition("@")
        if repository.count("/") != 1 or not all(repository.split("/")):
            raise ModelError(f"{name!r} is no hub model", "write hf-hub:owner/name[@revision]")
        return cls(repository, pinned or revision)


@dataclass(frozen=True)
class HubFile:
    """A file in the local cache.

    Attributes:
        revision: The commit that it belongs to.
    """

    path: Path
    revision: str


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def hub_file(hub: HubName, filenames: tuple[str, ...], *, offline: bool | None = None) -> HubFile:
    """Find or fetch the first of some files of a repository.

    Args:
        hub: The repository and revision.
        filenames: In order of preference.
        offline: True never uses the network; None asks `is_offline`.

    Raises:
        ModelError: Not cached, and not to be had; names the repository and the file.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    what = f"{filenames[0]} of hf-hub:{hub.repository}"
    if hub.revision:
        what += f" at revision {hub.revision}"
    try:
        for filename in filenames:
            # Looks at the disk only; even a "local" download may ask the network on the side.
            cached = try_to_load_from_cache(hub.repository, filename, revision=hub.revision)
            if isinstance(cached, str):
                return _in_cache(cached)
        if is_offline() if offline is None else offline:
            raise ModelError(
                f"{what} is not on this computer, and the network is switched off",
                "fetch it once with `napari-xt models fetch`, the network switched on, or give a "
                "local file with --weights FILE",
            )
        for filename in filenames:
            try:
                return _in_cache(hf_hub_download(hub.repository, filename, revision=hub.revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    except GatedRepoError as error:
        raise ModelError(
            f"{what} needs the consent of its owners",
            f"ask for access at https://huggingface.co/{hub.repository} and set HF_TOKEN",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"There is no hub repository {hub.repository}, or it is private",
            "check the name, or set HF_TOKEN",
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"hf-hub:{hub.repository} is no valid name", "write hf-hub:owner/name"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{what} is not on this computer and could not be fetched",
            "check the network, or give a local file with --weights FILE",
        ) from error
    raise ModelError(
        f"hf-hub:{hub.repository} has none of the files {', '.join(filenames)}",
        "it is no timm model; give a local file with --weights FILE",
    )


def hub_licence(hub: HubName, *, offline: bool | None = None) -> str:
    """The licence that the page of a repository states, or empty where it cannot be known."""
    try:
        text = hub_file(hub, ("README.md",), offline=offline).path.read_text("utf-8")
    except (ModelError, OSError, UnicodeDecodeError):
        return ""
    start, head, _ = [*text.split("---\n", 2), "", ""][:3]
    try:
        facts = yaml.safe_load(head) if not start.strip() else None
    except yaml.YAMLError:
        return ""
    if not isinstance(facts, dict):
        return ""
    named = facts.get("license_name") if facts.get("license") == "other" else None
    return str(named or facts.get("license") or "")


def _in_cache(path: str) -> HubFile:
    # Cached files lie under snapshots/<commit>/.
    return HubFile(Path(path), Path(path).parent.name)
