"""What larger pictures cost C2-Matching: time and memory of processes of their own.

    python benchmarks/scaling.py matching 250x166 500x332 1000x664   # the search alone, and its growth
    python benchmarks/scaling.py pair 500x332 1000x664 1612x1080     # `refsr-bench restore`, and its growth
    python benchmarks/scaling.py pair 1612x1080 --precision bf16     # further options go to `restore`

Method: photographs from scikit-image, enlarged to the size; weights of the released network's shape, untrained, their
two extractor branches alike. Every measurement is a child process: processor time and clock, and the peak of its
resident memory; for the search, what it adds to what was resident before it, on feature maps made beforehand. Where
sizes double from one line to the next, the growth is printed: the search's arithmetic grows 16 times, maps 4 times.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

MATCHING = "matching-child"


def write_pair(folder: Path, width: int, height: int) -> list[str]:
    """LR and reference pictures of one scene as files; the arguments of `restore` that name them."""
    from refsr_bench.images import encode_png, load_image, resize_bicubic

    pictures = Path(str(resources.files("skimage"))) / "data"
    for name, side, scale in (("lr", "left", 4), ("ref", "right", 1)):
        picture = resize_bicubic(load_image(pictures / f"motorcycle_{side}.png"), height // scale, width // scale)
        (folder / f"{name}.png").write_bytes(encode_png(picture))
    return ["--lr", str(folder / "lr.png"), "--ref", str(folder / "ref.png")]


def write_weights(folder: Path) -> None:
    """Untrained weights under the names of the published files."""
    import torch

    from refsr_bench.models.c2matching.extractor import Extractor
    from refsr_bench.models.c2matching.restoration import Restoration
    from refsr_bench.models.vgg import VGG19

    torch.manual_seed(0)
    extractor = Extractor()
    extractor.feature_extraction_image2.load_state_dict(extractor.feature_extraction_image1.state_dict())
    torch.save(extractor.state_dict(), folder / "feature_extraction.pth")
    torch.save(Restoration().state_dict(), folder / "c2_matching_restoration_mse.pth")
    torch.save(VGG19().state_dict(), folder / "vgg19-dcbb9e9d.pth")


def measure_search(width: int, height: int) -> dict[str, float]:
    """Time and added memory of one search, in this process, which should have done nothing else."""
    import torch
    from torch.nn import functional as F

    from refsr_bench.images import load_image
    from refsr_bench.models.c2matching.extractor import Extractor
    from refsr_bench.models.c2matching.matching import match_patches
    from refsr_bench.models.memory import reused_memory
    from refsr_bench.models.tensors import to_tensor

    torch.set_num_threads(1)
    torch.manual_seed(0)
    branch = Extractor().feature_extraction_image1.eval()
    # Its end gives all freed memory back, which the search would otherwise fill first.
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), reused_memory():
        _, lr, _, ref = write_pair(Path(folder), width, height)
        small, large = (to_tensor(load_image(Path(path))) for path in (lr, ref))
        enlarged = F.interpolate(small, size=large.shape[2:], mode="bicubic")
        maps = [F.normalize(branch(image), dim=1)[0] for image in (enlarged, large)]
        match_patches(maps[0][:, :8, :8], maps[1][:, :8, :8])
    # Linux: the peak starts anew from what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _status("VmRSS"), time.process_time()
    match_patches(*maps)
    seconds = time.process_time() - started
    return {"seconds": seconds, "bytes": _status("VmHWM") - before, "maps": sum(one.nbytes for one in maps)}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def in_child(arguments: Sequence[str]) -> tuple[str, resource.struct_rusage, float]:
    """Run Python with these arguments; its output, what it used, and the clock's seconds."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return printed, used, time.monotonic() - started


def search(sizes: Sequence[str]) -> None:
    """Print the search's time and memory at every size, and how they grow."""
    last = None
    for size in sizes:
        found = json.loads(in_child([__file__, MATCHING, size])[0])
        grown = "" if last is None else (
            f"   time x{found['seconds'] / last['seconds']:.1f}, memory x{found['bytes'] / last['bytes']:.2f},"
            f" with the maps x{(found['bytes'] + found['maps']) / (last['bytes'] + last['maps']):.2f}"
        )  # fmt: skip
        megabytes = f"{found['bytes'] / 1e6:.0f} MB beside maps of {found['maps'] / 1e6:.0f} MB"
        print(f"search {size:>10}: {found['seconds']:.2f} s, {megabytes}{grown}", flush=True)
        last = found


def pair(sizes: Sequence[str], options: Sequence[str]) -> None:
    """Print time and peak memory of `restore` at every size, and how they grow."""
    last = None
    for size in sizes:
        width, height = (int(n) for n in size.split("x"))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_weights(folder)
            command = ["-m", "refsr_bench", "restore", "c2matching", "--set", f"weights={folder}"]
            files = [*write_pair(folder, width, height), "--out", str(folder / "sr.png"), "--no-preview"]
            _, used, clock = in_child([*command, *files, *options])
        seconds, peak = used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss
        grown = "" if last is None else f"   time x{seconds / last[0]:.1f}, memory x{peak / last[1]:.2f}"
        said = f"{seconds:.0f} s of processor, {clock:.0f} s by the clock, peak {peak / 1e9:.2f} GB"
        print(f"pair {size:>10} {' '.join(options)}: {said}{grown}", flush=True)
        last = seconds, peak


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ("matching", "250x166", "500x332", "1000x664")
    if what == MATCHING:
        columns, rows = (int(n) for n in rest[0].split("x"))
        print(json.dumps(measure_search(columns, rows)))
    else:
        named = [word for word in rest if word[0].isdigit() and "x" in word]
        further = [word for word in rest if word not in named]
        search(named) if what == "matching" else pair(named, further)
