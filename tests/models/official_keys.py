"""Keys and shapes of published state dicts, listed by hand from what is known of the files, not from our networks."""

from __future__ import annotations

from collections.abc import Iterator

Shapes = dict[str, tuple[int, ...]]


def conv(key: str, channels_in: int, channels_out: int, size: int = 3) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A convolution with a bias."""
    yield f"{key}.weight", (channels_out, channels_in, size, size)
    yield f"{key}.bias", (channels_out,)


def srcnn() -> Shapes:
    """RGB, 9-1-5."""
    return dict([*conv("conv1", 3, 64, 9), *conv("conv2", 64, 32, 1), *conv("conv3", 32, 3, 5)])


def mean_shifts() -> Shapes:
    """EDSR-PyTorch keeps DIV2K's mean as two frozen 1×1 convolutions."""
    return dict([*conv("sub_mean", 3, 3, 1), *conv("add_mean", 3, 3, 1)])


def edsr(width: int, blocks: int) -> Shapes:
    """EDSR-PyTorch's ×4 network."""
    listed = [*conv("head.0", 3, width)]
    for i in range(blocks):
        listed += [*conv(f"body.{i}.body.0", width, width), *conv(f"body.{i}.body.2", width, width)]
    listed += [*conv(f"body.{blocks}", width, width)]
    listed += [*conv("tail.0.0", width, 4 * width), *conv("tail.0.2", width, 4 * width), *conv("tail.1", width, 3)]
    return mean_shifts() | dict(listed)


def rcan() -> Shapes:
    """Ten groups of twenty blocks with channel attention, in EDSR-PyTorch's frame."""
    listed = [*conv("head.0", 3, 64)]
    for group in range(10):
        for block in range(20):
            key = f"body.{group}.body.{block}.body"
            listed += [*conv(f"{key}.0", 64, 64), *conv(f"{key}.2", 64, 64)]
            listed += [*conv(f"{key}.3.conv_du.0", 64, 4, 1), *conv(f"{key}.3.conv_du.2", 4, 64, 1)]
        listed += [*conv(f"body.{group}.body.20", 64, 64)]
    listed += [*conv("body.10", 64, 64)]
    listed += [*conv("tail.0.0", 64, 256), *conv("tail.0.2", 64, 256), *conv("tail.1", 64, 3)]
    return mean_shifts() | dict(listed)


def esrgan() -> Shapes:
    """RRDBNet under the names of ESRGAN's first release."""
    listed = [*conv("conv_first", 3, 64)]
    for block in range(23):
        for dense in (1, 2, 3):
            key = f"RRDB_trunk.{block}.RDB{dense}.conv"
            for i in range(1, 6):
                listed += [*conv(f"{key}{i}", 64 + 32 * (i - 1), 32 if i < 5 else 64)]
    for key in ("trunk_conv", "upconv1", "upconv2", "HRconv"):
        listed += [*conv(key, 64, 64)]
    return dict([*listed, *conv("conv_last", 64, 3)])


def ranksrgan() -> Shapes:
    """SRResNet without normalisation, with one more convolution at LR size."""
    listed = [*conv("conv_first", 3, 64)]
    for block in range(16):
        listed += [*conv(f"recon_trunk.{block}.conv1", 64, 64), *conv(f"recon_trunk.{block}.conv2", 64, 64)]
    listed += [*conv("LRconv", 64, 64), *conv("upconv1", 64, 256), *conv("upconv2", 64, 256)]
    return dict([*listed, *conv("HRconv", 64, 64), *conv("conv_last", 64, 3)])


OFFICIAL = {
    "srcnn": srcnn(),
    "edsr-baseline": edsr(64, 16),
    "edsr": edsr(256, 32),
    "rcan": rcan(),
    "esrgan": esrgan(),
    "ranksrgan": ranksrgan(),
}
"""The files of which every key is known. Of the others only patterns are: those are in the tests."""
