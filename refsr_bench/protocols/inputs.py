"""From a sample to a model's input, and from its output to an 8-bit picture, exactly as a protocol says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import ImageError, RefsrError
from refsr_bench.images import crop_to_multiple, pad_replicate, pad_zero
from refsr_bench.protocols.downsample import DOWNSAMPLERS
from refsr_bench.protocols.spec import EvalProtocol
from refsr_bench.schema import Image

_CROPS = {"crop4": 4, "crop32": 32}
_REPLICATES = {"replicate32": 32, "replicate64": 64}


class Frame(NamedTuple):
    """Where a picture lies on its canvas, px: what is outside is padding."""

    x: int
    y: int
    width: int
    height: int


class Inputs(NamedTuple):
    """What a model is given: uint8 RGB ``lr`` (h, w, 3) and ``refs``; ``hr`` is only for scoring.

    The SR picture is due on a canvas of 4h x 4w px; ``hr_frame`` is the part of it that is scored. ``ref_frames`` are
    the parts of ``refs`` that are picture. Pixels inside the frames keep the coordinates of the stored pictures, moved
    by the frame's (x, y). ``hr_canvas`` is for a matcher whose card says that it sees the HR picture, for none else.
    """

    hr: Image
    lr: Image
    refs: tuple[Image, ...]
    hr_frame: Frame
    ref_frames: tuple[Frame, ...]
    hr_canvas: Image


def prepare_hr(hr: Image, protocol: EvalProtocol) -> Image:
    """The HR picture that scores are computed against: cropped if the protocol crops, never padded."""
    if protocol.mod not in _CROPS:
        return hr
    multiple = _CROPS[protocol.mod]
    cropped = crop_to_multiple(hr, multiple)
    if not cropped.size:
        what = f"one LR pixel at x{multiple}" if multiple == protocol.scale else f"the {multiple} px it is cropped to"
        raise ImageError(f"{hr.shape[1]}x{hr.shape[0]} px is smaller than {what}")
    return cropped


def prepare_inputs(
    hr: Image, refs: Sequence[Image], protocol: EvalProtocol, *, shipped_lr: Image | None = None
) -> Inputs:
    """Make the LR picture and the references from uint8 RGB HR and references of any sizes.

    ``c2-2021`` crops both to multiples of 4 at the bottom and right, zero-pads them there to their common largest size,
    and makes the LR picture from the *padded* HR, so the last LR row beside the padding is darkened: released
    behaviour, kept (paper's test code; ``docs/protocols.md``). ``shipped_lr``, a quarter of the stored HR picture,
    takes the place of that LR picture, cropped and zero-padded alike.
    """
    stored, hr = hr, prepare_hr(hr, protocol)
    refs = [prepare_hr(ref, protocol) for ref in refs]
    canvas, hr_frame = _whole(hr)
    if protocol.mod in _REPLICATES:
        canvas, hr_frame = _pad_centred(hr, _REPLICATES[protocol.mod])
    if protocol.pad == "zero2ref":
        # The crop modes give multiples of the scale already; the others need not.
        height, width = (
            _round_up(max(image.shape[axis] for image in (canvas, *refs)), protocol.scale) for axis in (0, 1)
        )
        canvas = pad_zero(canvas, height, width)
        placed = [(pad_zero(ref, height, width), _whole(ref)[1]) for ref in refs]
    else:
        placed = [_place_reference(ref, canvas, protocol) for ref in refs]
    lr_size = (canvas.shape[0] // protocol.scale, canvas.shape[1] // protocol.scale)
    if shipped_lr is None:
        lr = DOWNSAMPLERS[protocol.downsample](canvas, *lr_size)
    else:
        lr = pad_zero(_crop_shipped(shipped_lr, stored, hr, protocol), *lr_size)
    refs, frames = tuple(ref for ref, _ in placed), tuple(frame for _, frame in placed)
    return Inputs(hr, lr, refs, hr_frame, frames, canvas)


def _crop_shipped(lr: Image, stored: Image, hr: Image, protocol: EvalProtocol) -> Image:
    """The part of a shipped LR picture that the cropped HR picture covers; `ImageError` if it does not fit."""
    if protocol.mod in _REPLICATES:
        raise ImageError(f"a protocol with {protocol.mod} pads the HR picture, which a shipped LR picture has not seen")
    if lr.shape[:2] != (stored.shape[0] // protocol.scale, stored.shape[1] // protocol.scale):
        sizes = f"{lr.shape[1]}x{lr.shape[0]} px beside {stored.shape[1]}x{stored.shape[0]} px"
        raise ImageError(f"the shipped LR picture is no quarter of the HR picture ({sizes})")
    return lr[: hr.shape[0] // protocol.scale, : hr.shape[1] // protocol.scale]


def _place_reference(ref: Image, canvas: Image, protocol: EvalProtocol) -> tuple[Image, Frame]:
    height, width = ref.shape[:2]
    if protocol.pad == "like-hr":
        ref = ref[: canvas.shape[0], : canvas.shape[1]]
        return pad_zero(ref, *canvas.shape[:2]), _whole(ref)[1]
    if protocol.pad == "replicate16":
        return pad_replicate(ref, 0, -height % 16, 0, -width % 16), _whole(ref)[1]
    return _whole(ref)


def _pad_centred(image: Image, multiple: int) -> tuple[Image, Frame]:
    """Pad to a multiple on all sides alike; of an odd number the larger half is at the bottom and right."""
    height, width = image.shape[:2]
    down, across = -height % multiple, -width % multiple
    padded = pad_replicate(image, down // 2, down - down // 2, across // 2, across - across // 2)
    return padded, Frame(across // 2, down // 2, width, height)


def _whole(image: Image) -> tuple[Image, Frame]:
    return image, Frame(0, 0, image.shape[1], image.shape[0])


def _round_up(size: int, multiple: int) -> int:
    return size + -size % multiple


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
    x, y, width, height = inputs.hr_frame
    return rounded[y : y + height, x : x + width]
