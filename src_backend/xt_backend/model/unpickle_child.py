"""Turn a pickled state dict into safetensors: ``python -I unpickle_child.py SRC DST``.

Runs in a process of its own, alone, so that a checkpoint which gets past the restricted unpickler
still meets nothing of the program that asked for it. It imports nothing of this package.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping

import torch
from safetensors.torch import save_file


def main(source: str, target: str) -> int:
    """Convert; 0 on success, else 3 and the reason on stderr."""
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model", "teacher"):
            if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
                state = state[key]
        tensors = {
            str(key).removeprefix("module."): value.detach().clone().contiguous()
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        }
        if not tensors:
            raise ValueError("no tensors in it")
        # safetensors sorts by itself; the order of the checkpoint can carry meaning.
        save_file(tensors, target, {"order": json.dumps(list(tensors))})
    except pickle.UnpicklingError:
        sys.stderr.write(f"UnpicklingError: {unsafe(source)}\n")
        return 3
    except (IndexError, KeyError, AttributeError, TypeError):
        # The unpickler's own words about bytes that are no pickle tell nobody anything.
        sys.stderr.write("ValueError: it is damaged, or no checkpoint\n")
        return 3
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}\n")
        return 3
    return 0


def unsafe(source: str) -> str:
    """What a pickle holds besides plain tensors, found without running it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(source)
    except Exception:  # whatever a file that is no checkpoint brings up
        names = []
    return f"it holds {', '.join(sorted(names)[:5])}" if names else "it is no plain state dict"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
