"""What every model has to do, one check a function; `refsr_bench.testing` runs them."""

from __future__ import annotations

import gc
import importlib.resources
import os
import random
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import RefsrError
from refsr_bench.images import encode_png, load_image, resize_bicubic
from refsr_bench.models.memory import return_free_memory
from refsr_bench.schema import Image, ModelCard

SIZES = ((16, 24), (7, 9), (17, 31), (3, 5), (1, 1))
"""LR sizes that are tried; a model may refuse those below 8 px, with a `RefsrError` that says why."""

MEMORY_PX = 24
MEMORY_LIMIT = 48 << 20
"""Bytes by which a process may grow over six restorations after the first ones."""

NOT_FINITE = "skip", "nothing to compare: the result is not finite numbers"
"""What the checks that compare values say where there are none; "sizes" and "range" have failed then."""

SR = NDArray[np.float32]


class Finding(NamedTuple):
    """The outcome of one check."""

    check: str
    status: Literal["pass", "fail", "warn", "skip"]
    detail: str


class Scene(NamedTuple):
    """A photograph with its LR picture and a second view of the same scene, all uint8 RGB."""

    hr: Image
    lr: Image
    ref: Image
    unrelated: Image
    """A photograph of something else, of the reference's size."""


def load_scene(size_px: int = 96) -> Scene:
    """A crop of the Middlebury motorcycle pair, ``size_px`` wide and high, and of a cat; both from scikit-image."""
    folder = Path(str(importlib.resources.files("skimage"))) / "data"
    left, right, cat = (load_image(folder / f"{n}.png") for n in ("motorcycle_left", "motorcycle_right", "chelsea"))
    y, x = 180, 330
    hr = left[y : y + size_px, x : x + size_px]
    # Disparities here are 47 to 53 px: the second view is off by up to 5 px, as real references are, and more.
    ref = right[y : y + size_px, x - 48 : x - 48 + size_px]
    unrelated = cat[60 : 60 + size_px, 100 : 100 + size_px]
    return Scene(hr, resize_bicubic(hr, size_px // 4, size_px // 4), ref, unrelated)


def is_untrained(model: Any) -> bool:
    """Whether a model says of itself that it holds random numbers."""
    return str(model.card.name).endswith("-untrained")


def refs_for(model: Any, ref: Image) -> list[Image]:
    """What `restore` is given as references."""
    return [ref] if model.card.uses_reference else []


# --- the checks: (model, scene) -> (status, detail) ------------------------------------------------------------------


def check_card(model: Any) -> Finding:
    """Whether there is something to check at all."""
    if not isinstance(getattr(model, "card", None), ModelCard):
        return Finding("card", "fail", "no attribute card that is a refsr_bench.schema.ModelCard")
    if not callable(getattr(model, "restore", None)):
        return Finding("card", "fail", "no method restore(lr, refs)")
    card = model.card
    return Finding("card", "pass", f"{card.name}: {'with' if card.uses_reference else 'without'} reference")


def _sizes(model: Any, scene: Scene) -> tuple[str, str]:
    wrong: list[str] = []
    refused: list[str] = []
    for height, width in SIZES:
        lr, ref = resize_bicubic(scene.hr, height, width), resize_bicubic(scene.ref, 4 * height, 4 * width)
        try:
            sr = model.restore(lr, refs_for(model, ref))
        except RefsrError as error:
            (refused if min(height, width) < 8 else wrong).append(f"{width}x{height}: {error.problem}")
            continue
        if not isinstance(sr, np.ndarray) or sr.shape != (4 * height, 4 * width, 3) or sr.dtype != np.float32:
            got = f"{getattr(sr, 'dtype', type(sr).__name__)} {getattr(sr, 'shape', '')}"
            wrong.append(f"LR {height}x{width} gave {got}, not float32 {(4 * height, 4 * width, 3)}")
        elif not np.isfinite(sr).all():
            wrong.append(f"LR {height}x{width} gave values that are not finite")
    if wrong:
        return "fail", "; ".join(wrong)
    if refused:
        return "warn", f"refuses small pictures, saying why ({'; '.join(refused)})"
    return "pass", f"exactly 4 times the LR size, float32, for {len(SIZES)} sizes from 1x1 to 17x31"


def _reference_sizes(model: Any, scene: Scene) -> tuple[str, str]:
    if not model.card.uses_reference:
        return "skip", "uses no reference"
    height, width = scene.hr.shape[:2]
    for ref in (
        scene.ref[: height // 2 + 1],
        scene.ref[:, : width // 2 - 1],
        np.tile(scene.ref, (2, 1, 1))[: height + 9],
    ):
        sr = model.restore(scene.lr, [ref])
        if sr.shape != scene.hr.shape:
            return "fail", f"a reference of {ref.shape[1]}x{ref.shape[0]} px gave {sr.shape}, not {scene.hr.shape}"
    return "pass", "smaller, narrower and larger references give the LR picture's size"


def _range(model: Any, scene: Scene) -> tuple[str, str]:
    if is_untrained(model):
        return "skip", "random weights"
    sr = model.restore(scene.lr, refs_for(model, scene.ref))
    if not np.isfinite(sr).all():
        return "fail", f"{float(np.mean(~np.isfinite(sr))):.0%} of the samples are not finite numbers (NaN or infinite)"
    outside = float(np.mean((sr < -0.25) | (sr > 1.25)))
    if outside > 0.01:
        guess = "0-255" if np.abs(sr).max() > 20 else "[-1, 1]" if sr.min() < -0.25 else "unknown"
        return "fail", f"{outside:.0%} of the samples lie far outside [0, 1]: a range of {guess}?"
    drift = float(sr.mean() - scene.lr.mean() / 255)
    return ("warn" if abs(drift) > 0.03 else "pass"), f"in [0, 1]; on average {drift:+.4f} against the LR picture"


def _colours(model: Any, scene: Scene) -> tuple[str, str]:
    if is_untrained(model):
        return "skip", "random weights"
    # A picture whose channels differ: red above, blue below.
    lr = np.zeros((24, 24, 3), np.uint8)
    lr[:12, :, 0], lr[12:, :, 2], lr[..., 1] = 200, 120, 60
    sr = model.restore(lr, refs_for(model, np.repeat(np.repeat(lr, 4, 0), 4, 1)))
    if not np.isfinite(sr).all():
        return NOT_FINITE
    small = sr.reshape(24, 4, 24, 4, 3).mean((1, 3))
    errors = {order: float(np.abs(small[..., order] - lr / 255).mean()) for order in ((0, 1, 2), (2, 1, 0))}
    if errors[(2, 1, 0)] < errors[(0, 1, 2)]:
        return "fail", "red and blue come out exchanged (BGR?)"
    return "pass", f"red stays red and blue stays blue (mean error {errors[(0, 1, 2)]:.3f})"


def _determinism(model: Any, scene: Scene) -> tuple[str, str]:
    refs, other = refs_for(model, scene.ref), refs_for(model, scene.unrelated)
    first, again = (model.restore(scene.lr, refs) for _ in range(2))
    if not np.array_equal(first, again, equal_nan=True):
        return "fail", f"the same input twice differs by up to {np.abs(first - again).max():.2g}"
    model.restore(resize_bicubic(scene.unrelated, 9, 13), other)
    after = model.restore(scene.lr, refs)
    if not np.array_equal(first, after, equal_nan=True):
        return "fail", "another picture in between changes the result: the model remembers"
    return "pass", "the same input gives the same bits, whatever came between"


def _inputs_untouched(model: Any, scene: Scene) -> tuple[str, str]:
    lr, refs = scene.lr.copy(), [ref.copy() for ref in refs_for(model, scene.ref)]
    model.restore(lr, refs)
    if not np.array_equal(lr, scene.lr) or any(not np.array_equal(ref, scene.ref) for ref in refs):
        return "fail", "the caller's pictures are changed"
    for picture in (lr, *refs):
        picture.setflags(write=False)
    model.restore(lr, refs)
    return "pass", "the caller's pictures stay as they are, and may be read-only"


def _global_state(model: Any, scene: Scene) -> tuple[str, str]:
    with _unusual_random_state():
        before = _state()
        model.restore(scene.lr, refs_for(model, scene.ref))
        after = _state()
    changed = [name for name, value in before.items() if after.get(name) != value]
    return ("fail", f"restoring changes {', '.join(changed)}") if changed else ("pass", f"{len(before)} kinds of state")


@contextmanager
def _unusual_random_state() -> Iterator[None]:
    """Random generators in a state that no model would put them into; theirs again afterwards."""
    torch = sys.modules.get("torch")
    own, numpys = random.getstate(), np.random.get_state()
    torchs = torch.random.get_rng_state() if torch is not None else None
    random.seed(987_654_321)
    np.random.seed(987_654_321)
    if torch is not None:
        torch.random.set_rng_state(torch.Generator().manual_seed(987_654_321).get_state())
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)
        if torch is not None:
            torch.random.set_rng_state(torchs)


def _state() -> dict[str, Any]:
    """What a model may not leave changed, as comparable values."""
    state: dict[str, Any] = {
        "Python's random state": random.getstate(),
        "NumPy's random state": zlib.crc32(repr(np.random.get_state(legacy=False)["state"]).encode()),
        "NumPy's error handling": tuple(sorted(np.geterr().items())),
        "the working directory": str(Path.cwd()),
        "environment variables": zlib.crc32(repr(sorted(os.environ.items())).encode()),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state |= {
            "torch's random state": zlib.crc32(torch.random.get_rng_state().numpy().tobytes()),
            "torch's gradient mode": torch.is_grad_enabled(),
            "torch's default type": torch.get_default_dtype(),
            "torch's threads": torch.get_num_threads(),
            "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        }
    return state


def _memory(model: Any, scene: Scene) -> tuple[str, str]:
    lr, refs = scene.lr[:MEMORY_PX, :MEMORY_PX], refs_for(model, scene.ref)
    grown = []
    for _ in range(2):  # allocators settle; only what goes on growing counts
        model.restore(lr, refs)
    start = _held()
    if start is None:
        return "skip", "this system does not tell how much memory a process holds"
    for _ in range(6):
        model.restore(lr, refs)
        grown.append((_held() or 0) - start)
    left = (_held() or 0) - start
    text = f"{left / 2**20:+.1f} MiB after six more restorations"
    steadily = all(b > a for a, b in pairwise(grown))
    return ("fail", f"{text}: not returned") if left > MEMORY_LIMIT or (steadily and left > 6 << 20) else ("pass", text)


def _held() -> int | None:
    """Bytes this process holds, those on GPUs included, what is only kept for reuse left out."""
    gc.collect()
    return_free_memory()
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return None
    resident = int(statm.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    torch = sys.modules.get("torch")
    return resident + (torch.cuda.memory_allocated() if torch is not None and torch.cuda.is_initialized() else 0)


def _tiles(model: Any, scene: Scene) -> tuple[str, str]:
    margin = getattr(model, "tile_margin_px", None)
    if margin is None:
        return "skip", "not claimed (attribute tile_margin_px, LR px)"
    tile = 8
    lr = resize_bicubic(scene.hr, 2 * margin + tile, 2 * margin + tile + 5)
    lr = np.pad(lr, ((6, 6), (6, 6), (0, 0)), mode="edge")
    whole = model.restore(lr, [])
    part = model.restore(lr[6 : 6 + 2 * margin + tile, 6 : 6 + 2 * margin + tile], [])
    if not (np.isfinite(whole).all() and np.isfinite(part).all()):
        return NOT_FINITE
    inner = slice(4 * margin, 4 * (margin + tile))
    at = slice(4 * (margin + 6), 4 * (margin + tile + 6))
    difference = float(np.abs(part[inner, inner] - whole[at, at]).max())
    status = "pass" if difference < 1e-4 else "fail"
    return status, f"a tile with {margin} px around it differs by {difference:.1e} from the whole"


def _hr_leak(model: Any, scene: Scene) -> tuple[str, str]:
    """The same LR and reference, with another HR within reach: as a local variable, in the working directory."""
    made = []
    cwd = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.chdir(folder)
            for hr in (scene.hr, 255 - scene.hr):
                for name in ("hr.png", "gt.png", "sample.png"):
                    Path(name).write_bytes(encode_png(hr))
                made.append(model.restore(scene.lr.copy(), [ref.copy() for ref in refs_for(model, scene.ref)]))
        finally:
            os.chdir(cwd)
    if not np.array_equal(made[0], made[1], equal_nan=True):
        return "fail", "changing the HR picture, which the model is not given, changes the result"
    return "pass", "changing the HR picture does not change the result"


CHECKS: dict[str, Callable[[Any, Scene], tuple[str, str]]] = {
    "sizes": _sizes,
    "reference sizes": _reference_sizes,
    "range": _range,
    "colour order": _colours,
    "determinism": _determinism,
    "inputs untouched": _inputs_untouched,
    "global state": _global_state,
    "memory": _memory,
    "tiles": _tiles,
    "HR leak": _hr_leak,
}
"""Every check but those of the card and the reference, in order."""
