"""Pictures: what is accepted, how it becomes 8-bit RGB, and what is refused by name and reason."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageCms, ImageFile

from refsr_bench.errors import ImageError
from refsr_bench.images import (
    crop_to_multiple,
    decode_image,
    encode_png,
    load_image,
    luma_bt601,
    pad_zero,
    read_bytes,
    resize_bicubic,
)


def encoded(picture: PilImage.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gradient(mode: str = "RGB") -> PilImage.Image:
    values = np.linspace(0, 255, 24 * 16 * 3).reshape(16, 24, 3).astype(np.uint8)
    return PilImage.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    ("name", "format_name"),
    [("a.png", "PNG"), ("a.PNG", "PNG"), ("a.bmp", "BMP"), ("a.ppm", "PPM"), ("a.tif", "TIFF")],
)
def test_lossless_formats_give_the_same_pixels(name: str, format_name: str) -> None:
    decoded = decode_image(encoded(gradient(), format_name), name)
    assert np.array_equal(decoded.pixels, np.asarray(gradient()))
    assert decoded.conversions == ()
    assert decoded.pixels.dtype == np.uint8


@pytest.mark.parametrize(("name", "format_name"), [("a.jpg", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP")])
def test_lossy_formats_are_accepted(name: str, format_name: str) -> None:
    assert decode_image(encoded(gradient(), format_name, quality=95), name).pixels.shape == (16, 24, 3)


@pytest.mark.parametrize(
    ("mode", "conversions"),
    [
        ("L", ("grey to RGB",)),
        ("1", ("grey to RGB",)),
        ("LA", ("grey to RGB", "alpha dropped")),
        ("RGBA", ("alpha dropped",)),
        ("P", ("palette to RGB",)),
    ],
)
def test_other_kinds_are_converted_and_recorded(mode: str, conversions: tuple[str, ...]) -> None:
    decoded = decode_image(encoded(gradient(mode), "PNG"), "a.png")
    assert decoded.conversions == conversions
    assert np.array_equal(decoded.pixels, np.asarray(gradient(mode).convert("RGB")))


def test_alpha_is_dropped_not_composited() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 0] = 200
    assert (decode_image(encoded(PilImage.fromarray(rgba), "PNG"), "a.png").pixels[..., 0] == 200).all()


def test_palette_with_transparency() -> None:
    decoded = decode_image(encoded(gradient("P"), "PNG", transparency=0), "a.png")
    assert decoded.conversions == ("palette to RGB", "alpha dropped")


def test_16_bit_grey_keeps_the_upper_byte() -> None:
    values = np.array([[0, 255, 256], [513, 32767, 65535]], np.uint16)
    decoded = decode_image(encoded(PilImage.fromarray(values), "PNG"), "a.png")
    assert np.array_equal(decoded.pixels[..., 0], values >> 8)
    assert decoded.conversions == ("16-bit reduced to 8", "grey to RGB")


def test_16_bit_colour_keeps_the_upper_byte_and_is_recorded() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (3, 4, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    data = png_chunks((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    decoded = decode_image(data, "a.png")
    assert np.array_equal(decoded.pixels, values >> 8)
    assert decoded.conversions == ("16-bit reduced to 8",)


def test_portable_anymaps_that_pillow_would_rescale_are_refused() -> None:
    values = np.array([[0, 255, 256], [513, 32767, 65535]], ">u2")
    grey = decode_image(b"P5 3 2 65535\n" + values.tobytes(), "a.pgm")
    assert np.array_equal(grey.pixels[..., 0], values >> 8)
    assert decode_image(b"P2 3 1 255\n0 5 9\n", "a.pgm").pixels[0, :, 0].tolist() == [0, 5, 9]
    for header in (b"P6 1 2 65535\n", b"P6 1 2 100\n", b"P5 3 2 1023\n", b"P3 1 1 70\n"):
        with pytest.raises(ImageError, match="samples up to"):
            decode_image(header + bytes(12), "a.ppm")


def test_colour_profiles_are_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    decoded = decode_image(encoded(gradient(), "PNG", icc_profile=profile), "a.png")
    assert np.array_equal(decoded.pixels, np.asarray(gradient()))


def test_cmyk_is_converted_and_recorded() -> None:
    decoded = decode_image(encoded(gradient("CMYK"), "JPEG", quality=100), "a.jpg")
    assert decoded.conversions == ("CMYK to RGB",)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(gradient())).max() < 40


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize(("name", "format_name"), [("a.jpg", "JPEG"), ("a.png", "PNG"), ("a.tif", "TIFF")])
def test_exif_orientation_is_applied_and_recorded(
    name: str, format_name: str, orientation: int, quarter_turns: int
) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encoded(gradient(), format_name, quality=100, exif=exif), name)
    plain = decode_image(encoded(gradient(), format_name, quality=100), name)
    assert decoded.conversions == ("EXIF orientation applied",)
    assert plain.conversions == ()
    assert np.array_equal(decoded.pixels, np.rot90(plain.pixels, quarter_turns))


@pytest.mark.parametrize("folder", ["HR", "Ref"])
def test_a_real_rotated_pair(dev_data: Path, folder: str) -> None:
    path = dev_data / "refsr_pairs" / "camerafusion" / folder / "IMG_20.jpg"
    decoded = decode_image(path.read_bytes(), str(path))
    assert "EXIF orientation applied" in decoded.conversions
    with PilImage.open(path) as picture:
        assert np.array_equal(decoded.pixels[::-1, ::-1], np.asarray(picture.convert("RGB")))


def test_a_phone_jpeg_with_a_second_picture_gives_the_first() -> None:
    data = encoded(gradient(), "MPO", save_all=True, append_images=[gradient().rotate(180)], quality=100)
    decoded = decode_image(data, "a.jpg")
    assert "first of several frames" in decoded.conversions
    assert np.abs(decoded.pixels.astype(int) - np.asarray(gradient())).max() < 30


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["rocket.jpg", "chelsea.png"])
def test_truncated_files_are_refused(photographs: Path, name: str, share: float) -> None:
    data = (photographs / name).read_bytes()
    with pytest.raises(ImageError, match=name):
        decode_image(data[: int(len(data) * share)], name)


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "a.png", "empty"),
        (b"just text", "a.png", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.png", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.jpg", "not a picture"),
        (encoded(gradient(), "GIF"), "a.jpg", "not a picture"),
        (encoded(gradient(), "WEBP"), "a.jpg", "content is WEBP but its name ends in .jpg"),
        (encoded(gradient(), "TIFF"), "a.jpg", "content is TIFF"),
        (encoded(gradient(), "PNG"), "a.jpg", "content is PNG"),
        (encoded(gradient(), "PNG"), "a", "ends in nothing"),
        (encoded(gradient("F"), "TIFF"), "a.tif", "no defined conversion"),
    ],
    ids=range(10),
)
def test_rubbish_is_refused_with_its_reason(data: bytes, name: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_image(data, name)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_give_a_picture_or_an_image_error(data: st.DataObject) -> None:
    whole = bytearray(encoded(gradient(), data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    for name in ("a.png", "a.jpg", "a.tif", "a.webp", "a.bmp", "a.ppm"):
        with contextlib.suppress(ImageError):  # and nothing else
            assert decode_image(bytes(whole), name).pixels.ndim == 3


def test_a_damaged_second_frame_is_an_image_error() -> None:
    whole = encoded(gradient(), "TIFF", save_all=True, append_images=[gradient()])
    compression = struct.pack("<HHI", 259, 3, 1)
    first, last = whole.find(compression), whole.rfind(compression)
    assert 0 < first < last
    with pytest.raises(ImageError, match=r"a\.tif: truncated or damaged"):
        decode_image(whole[: last + 8] + struct.pack("<I", 60000) + whole[last + 12 :], "a.tif")


def test_the_smallest_picture() -> None:
    assert decode_image(encoded(PilImage.new("RGB", (1, 1), (1, 2, 3)), "PNG"), "a.png").pixels.tolist() == [
        [[1, 2, 3]]
    ]


def test_bombs_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("a bomb was decoded"))
    for side in (10_001, 20_000, 2**31 - 1):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = png_chunks((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
        with pytest.raises(ImageError, match=r"bomb\.png: declares .* refused before decoding"):
            decode_image(bomb, "bomb.png")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_bytes(tmp_path)


def test_png_round_trip_is_deterministic() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    assert encode_png(pixels) == encode_png(pixels.copy())
    assert np.array_equal(decode_image(encode_png(pixels), "a.png").pixels, pixels)


def test_resizing_is_pillows() -> None:
    pixels = np.asarray(gradient())
    expected = gradient().resize((6, 4), PilImage.Resampling.BICUBIC)
    assert np.array_equal(resize_bicubic(pixels, 4, 6), np.asarray(expected))


def test_crop_and_pad() -> None:
    pixels = np.ones((11, 9, 3), np.uint8)
    assert crop_to_multiple(pixels, 4).shape == (8, 8, 3)
    padded = pad_zero(pixels, 12, 9)
    assert padded.shape == (12, 9, 3)
    assert padded[11].sum() == 0
    assert padded[:11].all()


def test_luma_of_the_primaries() -> None:
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]], np.uint8)
    assert luma_bt601(primaries)[0] == pytest.approx([81.481, 144.553, 40.966, 16.0], abs=1e-9)
