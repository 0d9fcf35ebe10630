"""The certificate that importing a weight file leaves beside it: what became of every key, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from refsr_bench import disk
from refsr_bench.models import method, zoo
from refsr_bench.models.weights import Identified
from refsr_bench.schema import Frozen, Sha256


class Certificate(Frozen):
    """The ``<role>.certificate.json`` of an imported file."""

    model: str
    role: str
    source_file: str
    source_sha256: Sha256
    parameters: int
    shapes: dict[str, tuple[int, ...]]
    """The network's keys and shapes, every one of them filled from the file."""
    renamed: dict[str, str]
    """Those of the network's keys that the file calls otherwise, and how; "re-laid out" where the numbers moved too."""
    left_out: tuple[str, ...]
    """Keys of the file that the network has no use for, e.g. those of a discriminator."""
    forward: dict[str, float] | None
    """Mean, deviation and one sample of the output on a fixed picture; None for a part that cannot run by itself."""


def certify(model: str, path: Path, original: Mapping[str, Tensor], identified: Identified) -> Certificate:
    """Write down how the checkpoint ``original`` became ``identified``, and run the network once."""
    alone = model in zoo.HOMES and method.find_method(model).roles == (identified.role,)
    theirs = {id(value): key for key, value in original.items()}
    mapped = {key: theirs.get(id(value), "re-laid out") for key, value in identified.state.items()}
    listed = "re-laid out" in mapped.values()
    return Certificate(
        model=model,
        role=identified.role,
        source_file=path.name,
        source_sha256=disk.sha256_file(path),
        parameters=sum(value.numel() for value in identified.state.values()),
        shapes={key: tuple(value.shape) for key, value in identified.state.items()},
        renamed={ours: name for ours, name in mapped.items() if ours != name},
        left_out=() if listed else tuple(key for key in original if key not in mapped.values()),
        forward=method.forward_checksum(model, identified.state) if alone else None,
    )
