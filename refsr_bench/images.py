"""Reading, writing and resizing pictures; every rule about pixels is decided here and only here.

Rules of `decode_image`, each one recorded in the result where it applied:

* EXIF orientation is applied (as the released C2-Matching reader does; Pillow alone would not).
* Alpha is dropped without compositing, as the released reader does.
* 16-bit samples keep their upper byte; grey becomes three equal channels; palettes are looked up. A PPM or PGM whose
  samples end at another number than 255 is refused (but for grey 65535), because Pillow would rescale it.
* CMYK is converted by Pillow's plain formula; embedded colour profiles are ignored: numbers are taken as they are.
* Of a file with several frames the first is taken.
* The content must be the format that the file name says, one of `FORMATS`; at most `MAX_PIXELS` pixels, checked
  before anything is decoded; a truncated file is refused, never half read.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageOps, TiffImagePlugin, WebPImagePlugin  # noqa: F401  (importing registers them)

from refsr_bench.errors import ImageError
from refsr_bench.schema import Image

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),  # a JPEG with a second picture behind it, as phones write
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
SUFFIXES = tuple(sorted({suffix for suffixes in FORMATS.values() for suffix in suffixes}))
_OPENED_AS = [name for name in FORMATS if name != "MPO"]  # Pillow opens it as a JPEG first
MAX_PIXELS = 100_000_000
MAX_BYTES = 500_000_000

_Scalar = TypeVar("_Scalar", bound=np.generic)

_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error)


class Decoded(NamedTuple):
    """A picture and what had to be done to make it 8-bit RGB."""

    pixels: Image
    conversions: tuple[str, ...]


def load_image(path: Path) -> Image:
    """Read a picture as uint8 RGB ``(H, W, 3)`` by the rules of this module; `ImageError` names file and reason."""
    return decode_image(read_bytes(path), str(path)).pixels


def read_bytes(path: Path) -> bytes:
    """Read a picture file's bytes; `ImageError` if it is missing, unreadable or larger than `MAX_BYTES`."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"{path}: {size:,} bytes is more than the limit of {MAX_BYTES:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None


def decode_image(data: bytes, name: str) -> Decoded:
    """Decode a picture from memory; ``name`` (a path or URL ending in the suffix) is used in messages and checked.

    >>> decode_image(b"hello", "note.png")
    Traceback (most recent call last):
    refsr_bench.errors.ImageError: note.png: not a picture in any accepted format (PNG, JPEG, BMP, PPM, TIFF, WEBP)
    """
    if not data:
        raise ImageError(f"{name}: the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # size limits and broken metadata are judged below, not warned about
        try:
            picture = PilImage.open(io.BytesIO(data), formats=_OPENED_AS)
        except PilImage.DecompressionBombError:
            raise ImageError(f"{name}: declares far more than {MAX_PIXELS:,} pixels; refused before decoding") from None
        except _DECODE_ERRORS:
            raise ImageError(f"{name}: not a picture in any accepted format ({', '.join(_OPENED_AS)})") from None
        with picture:
            _check_declared(picture, name)
            try:
                return _to_rgb8(picture, name)
            except _DECODE_ERRORS as error:
                raise ImageError(f"{name}: truncated or damaged ({error})") from None


def _check_declared(picture: PilImage.Image, name: str) -> None:
    suffix = Path(name).suffix.lower()
    content = picture.format or "?"
    if suffix not in FORMATS.get(content, ()):
        raise ImageError(
            f"{name}: its content is {content} but its name ends in {suffix or 'nothing'}",
            f"rename it to {FORMATS[content][0]}" if content in FORMATS else None,
        )
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError(
            f"{name}: declares {picture.width}x{picture.height} pixels, more than the limit of {MAX_PIXELS:,}; "
            "refused before decoding"
        )
    for codec, _, _, arguments in getattr(picture, "tile", []):
        if codec in {"ppm", "ppm_plain"} and isinstance(arguments, tuple) and arguments[1] != 255:
            raise ImageError(f"{name}: samples up to {arguments[1]} have no defined conversion to 8 bits")


def _to_rgb8(picture: PilImage.Image, name: str) -> Decoded:
    conversions = []
    if getattr(picture, "n_frames", 1) > 1:
        picture.seek(0)
        conversions.append("first of several frames")
    sixteen_bit = picture.mode.startswith("I;16") or _has_16_bit_samples(picture)
    turned = _is_turned(picture)  # asked twice: decoding a TIFF applies and forgets it, a PNG may name it at its end
    picture.load()
    turned = turned or _is_turned(picture)
    upright = ImageOps.exif_transpose(picture)
    if turned:
        conversions.append("EXIF orientation applied")
    if sixteen_bit:
        conversions.append("16-bit reduced to 8")
    mode = upright.mode
    if mode.startswith("I;16") or (mode == "I" and sixteen_bit):
        grey = (np.asarray(upright).astype(np.int64) >> 8).astype(np.uint8)
        conversions.append("grey to RGB")
        return Decoded(np.repeat(grey[:, :, None], 3, axis=2), tuple(conversions))
    if mode not in {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}:
        raise ImageError(f"{name}: pixels of kind {mode!r} have no defined conversion to 8-bit RGB")
    if mode in {"1", "L", "LA"}:
        conversions.append("grey to RGB")
    if mode in {"P", "PA"}:
        conversions.append("palette to RGB")
    if mode in {"LA", "PA", "RGBA"} or "transparency" in picture.info:
        conversions.append("alpha dropped")
    if mode == "CMYK":
        conversions.append("CMYK to RGB")
    rgb = upright.convert("RGBA").convert("RGB") if mode in {"P", "PA"} else upright.convert("RGB")
    return Decoded(np.array(rgb, dtype=np.uint8), tuple(conversions))


def _is_turned(picture: PilImage.Image) -> bool:
    return picture.getexif().get(0x0112, 1) in range(2, 9)


def _has_16_bit_samples(picture: PilImage.Image) -> bool:
    """Whether the file holds 16-bit colour, which Pillow reduces to 8 bits without saying so."""
    raw_modes = [
        tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in getattr(picture, "tile", []) if tile[3]
    ]
    return any("16" in str(raw) for raw in raw_modes)


def encode_png(image: Image) -> bytes:
    """Encode uint8 RGB ``(H, W, 3)`` as PNG bytes; the same pixels always give the same bytes."""
    buffer = io.BytesIO()
    PilImage.fromarray(image).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def resize_bicubic(image: Image, height: int, width: int) -> Image:
    """Resize with Pillow's antialiased bicubic filter (a = -0.5) on 8-bit samples, as the released code does.

    >>> resize_bicubic(np.full((8, 12, 3), 7, np.uint8), 2, 3).shape
    (2, 3, 3)
    """
    return np.asarray(PilImage.fromarray(image).resize((width, height), PilImage.Resampling.BICUBIC))


def crop_to_multiple(image: Image, multiple: int) -> Image:
    """Crop at the bottom and right to the largest size that is a multiple of ``multiple`` px."""
    height, width = image.shape[:2]
    return image[: height - height % multiple, : width - width % multiple]


def pad_replicate(image: Image, top: int, bottom: int, left: int, right: int) -> Image:
    """Pad by repeating the edge pixels."""
    return np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="edge")


def pad_zero(image: Image, height: int, width: int) -> Image:
    """Pad with zeros at the bottom and right to ``height`` x ``width``; never crops."""
    padding = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    return np.pad(image, padding) if any(after for _, after in padding) else image


def crop_border(plane: NDArray[_Scalar], border_px: int) -> NDArray[_Scalar]:
    """Cut ``border_px`` from all four sides of ``(H, W, ...)``."""
    return plane[border_px : plane.shape[0] - border_px, border_px : plane.shape[1] - border_px]


def luma_bt601(image: Image, *, studio: bool = True) -> NDArray[np.float64]:
    """BT.601 luma of uint8 RGB, float64 ``(H, W)``, not rounded.

    ``studio`` puts black at 16 and white at 235, the plane of the Ref-SR papers; otherwise 0 to 255, whose PSNR is
    20·log10(219/255) = -1.3219 dB lower on the same pictures.

    >>> white = np.full((1, 1, 3), 255, np.uint8)
    >>> round(float(luma_bt601(white)[0, 0]), 6), round(float(luma_bt601(white, studio=False)[0, 0]), 6)
    (235.0, 255.0)
    """
    import cv2  # here, so that commands which only read or write pictures start without it

    weights = np.array([65.481, 128.553, 24.966]) / (255.0 if studio else 219.0)
    row = np.array([[*weights, 16.0 if studio else 0.0]])
    return np.asarray(cv2.transform(image.astype(np.float64), row), np.float64)
