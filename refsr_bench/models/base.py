"""What a model, and what a matcher, has to be for the rest of the package: one attribute and one method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refsr_bench.schema import Matches, ModelCard


@runtime_checkable
class SRModel(Protocol):
    """A ×4 super-resolution model.

    A model's factory (the ``"module:function"`` named in `refsr_bench.lookup`) takes keyword options, loads its
    weights and returns such an object. It must not touch the network.
    """

    card: ModelCard
    """What this object really is, weights hash included."""

    def restore(self, lr: NDArray[np.uint8], refs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Super-resolve one image.

        lr : uint8 RGB ``(H, W, 3)``. refs : uint8 RGB references, any sizes; empty for a model whose card says
        ``uses_reference=False``. Returns float32 RGB ``(4H, 4W, 3)``, nominally in [0, 1]; the protocol clamps
        and rounds, the model must not.
        """
        ...


@runtime_checkable
class Matcher(Protocol):
    """Finds correspondences; an `SRModel` that has this method too is scored on them beside its pictures.

    A matcher is given nothing of the HR picture unless its card says ``sees="hr"``; then that picture stands in for
    ``lr_up``. Only one that says ``sees="truth"`` gets the keyword ``true_points``: ``(N, 2)``, for each node the true
    point in ``ref``, NaN where unknown.
    """

    card: ModelCard

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> Matches:
        """Find the point of ``ref`` that shows the same as each node of ``lr_up``.

        lr_up : uint8 RGB ``(4h, 4w, 3)``, the LR picture enlarged to HR size. ref : uint8 RGB, any size. The nodes
        of the answer are ``refsr_bench.geometry.patch_centres(4h, 4w)``.
        """
        ...
