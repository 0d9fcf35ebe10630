"""Arrays in ``.npz`` files, also those of an older kind that hide a pickle; nothing in it is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and nothing else: TensorLayer saved its lists of arrays as one array of objects."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return super().find_class(module, name)


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read the arrays of an archive by key; the elements of a list of arrays get "0000", "0001", … as keys.

    ``pickle.UnpicklingError``: it holds objects that are not arrays.
    """
    found: dict[str, Tensor] = {}
    # Opened here because NumPy forgets to close a file that turns out to be no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for key in arrays.files:
            items = _listed(arrays.zip, key)
            if items is None:
                found[key] = torch.from_numpy(arrays[key])
            else:
                found |= {f"{i:04d}": torch.from_numpy(np.array(item, np.float32)) for i, item in enumerate(items)}
    return found


def _listed(archive: ZipFile, key: str) -> list[object] | None:
    """The elements of an array of objects; None for an ordinary array."""
    with archive.open(f"{key}.npy") as member:
        read = (
            np.lib.format.read_array_header_1_0
            if np.lib.format.read_magic(member) == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        if not read(member)[2].hasobject:
            return None
        return list(np.asarray(_ArraysOnly(member, encoding="latin1").load(), dtype=object).ravel())
