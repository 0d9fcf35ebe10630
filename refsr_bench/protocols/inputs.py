"""From a sample to a model's input, and from its output to an 8-bit picture, exactly as a protocol says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import ImageError, RefsrError
from refsr_bench.images import crop_to_multiple, pad_zero, resize_bicubic
from refsr_bench.protocols.spec import EvalProtocol
from refsr_bench.schema import Image


class Inputs(NamedTuple):
    """What a model is given: uint8 RGB ``lr`` (h, w, 3) and ``refs`` of 4h x 4w px; ``hr`` is only for scoring."""

    hr: Image
    lr: Image
    refs: tuple[Image, ...]


def prepare_hr(hr: Image, protocol: EvalProtocol) -> Image:
    """The HR picture that scores are computed against: cropped to the protocol's multiple, never padded."""
    cropped = crop_to_multiple(hr, protocol.scale)
    if not cropped.size:
        raise ImageError(f"{hr.shape[1]}x{hr.shape[0]} px is smaller than one LR pixel at x{protocol.scale}")
    return cropped


def prepare_inputs(
    hr: Image, refs: Sequence[Image], protocol: EvalProtocol, *, shipped_lr: Image | None = None
) -> Inputs:
    """Make the LR picture and the references from uint8 RGB HR and references of any sizes.

    Both are cropped to multiples of 4 at the bottom and right, zero-padded there to their common largest size, and
    the LR picture is made from the *padded* HR, so the last LR row beside the padding is darkened: released
    behaviour, kept (paper's test code; ``docs/protocols.md``). ``shipped_lr`` is used in the place of that LR picture,
    zero-padded alike; it must be a quarter of the cropped HR in each direction.
    """
    hr = prepare_hr(hr, protocol)
    refs = [prepare_hr(ref, protocol) for ref in refs]
    height, width = (max(image.shape[axis] for image in (hr, *refs)) for axis in (0, 1))
    if shipped_lr is None:
        lr = resize_bicubic(pad_zero(hr, height, width), height // protocol.scale, width // protocol.scale)
    else:
        lr = pad_zero(require_quarter(shipped_lr, hr, protocol), height // protocol.scale, width // protocol.scale)
    return Inputs(hr, lr, tuple(pad_zero(ref, height, width) for ref in refs))


def require_quarter(lr: Image, hr: Image, protocol: EvalProtocol) -> Image:
    """The LR picture if it fits the cropped HR picture exactly, else `ImageError`."""
    if (lr.shape[0] * protocol.scale, lr.shape[1] * protocol.scale) != hr.shape[:2]:
        raise ImageError(
            f"the shipped LR is {lr.shape[1]}x{lr.shape[0]} px, which is no quarter of the HR, "
            f"{hr.shape[1]}x{hr.shape[0]} px"
        )
    return lr


def finish_output(sr: NDArray[np.float32], inputs: Inputs, protocol: EvalProtocol) -> Image:
    """Round a model's float output to 8 bits once and cut the padding: uint8 RGB of the HR picture's size.

    A wrong shape, NaN or a range that is not [0, 1] is refused with what it looks like.
    """
    expected = (inputs.lr.shape[0] * protocol.scale, inputs.lr.shape[1] * protocol.scale, 3)
    if sr.shape != expected or not np.issubdtype(sr.dtype, np.floating):
        raise RefsrError(f"the model returned {sr.dtype} {sr.shape} where float32 {expected} was due")
    if not np.isfinite(sr).all():
        raise RefsrError("the model returned NaN or infinite values")
    if sr.max() > 4 or sr.min() < -4:
        raise RefsrError(
            f"the model returned values from {sr.min():.4g} to {sr.max():.4g} where [0, 1] was due",
            "divide by 255 if they are grey levels" if sr.max() > 4 else None,
        )
    rounded: Image = np.rint(np.clip(sr, 0, 1) * np.float32(255)).astype(np.uint8)
    height, width = inputs.hr.shape[:2]
    return rounded[:height, :width]
