"""The one crossing between pictures (numpy) and tensors (torch), and the choice of a device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refsr_bench.errors import UsageError


def to_tensor(image: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Turn a picture, grey levels 0-255, into a network input in [0, 1].

    uint8 ``(H, W, 3)`` in, float32 ``(1, 3, H, W)`` out. The division is done in float32, as the released networks
    were fed.

    >>> to_tensor(np.full((2, 4, 3), 255, np.uint8)).shape
    torch.Size([1, 3, 2, 4])
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"a model takes uint8 RGB pictures (H, W, 3), not {image.dtype} {image.shape}")
    # Copied because torch warns about arrays that may not be written to, as pictures fresh from Pillow are.
    pixels = torch.from_numpy(np.array(image, order="C")).to(device)
    return pixels.permute(2, 0, 1)[None].to(torch.float32).contiguous() / 255


def to_image(tensor: Tensor) -> NDArray[np.float32]:
    """Turn a network output ``(1, 3, H, W)`` into float32 ``(H, W, 3)``; values are neither clamped nor rounded.

    >>> to_image(torch.zeros(1, 3, 2, 4)).shape
    (2, 4, 3)
    """
    if tensor.ndim != 4 or tensor.shape[:2] != (1, 3):
        raise ValueError(f"expected one RGB image (1, 3, H, W), not {tuple(tensor.shape)}")
    pixels = tensor[0].permute(1, 2, 0).to("cpu", torch.float32).contiguous()
    image: NDArray[np.float32] = pixels.numpy()
    return image


def select_device(name: str) -> torch.device:
    """Turn ``"cpu"``, ``"cuda"`` or ``"cuda:N"`` into a device that this machine really has; else UsageError.

    >>> select_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise UsageError(f"unknown device {name!r}", "use cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"torch {torch.__version__} sees {count} CUDA device(s)"
            raise UsageError(
                f"device {name!r} is not available: {found}", "use --device cpu, or install a CUDA build of torch"
            )
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers faster than float32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def use_threads(count: int) -> None:
    """Let torch's arithmetic on the CPU use so many threads."""
    torch.set_num_threads(count)
