"""Numbers other people published, as data: who printed what where, and how far it can be compared."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Sequence
from typing import NamedTuple

from refsr_bench.schema import ModelCard


class Published(NamedTuple):
    """One printed result. ``psnr`` and ``ssim`` are texts with the digits that were printed; empty where none were."""

    method: str
    dataset: str
    psnr: str
    ssim: str
    source: str
    table: str
    protocol: str
    certainty: str
    """Where this project saw the number; nothing is recalled from memory."""
    note: str


def read_published() -> tuple[Published, ...]:
    """Every published number this package knows, in the order of its sources."""
    file = importlib.resources.files("refsr_bench.results") / "published.csv"
    return tuple(Published(**row) for row in csv.DictReader(file.read_text("utf-8").splitlines()))


def select_published(
    *, dataset: str | None = None, method: str | None = None, table: str | None = None
) -> tuple[Published, ...]:
    """The published numbers of a dataset, a method or a table ("Table 1"); all conditions given must hold."""
    return tuple(
        p
        for p in read_published()
        if dataset in (None, p.dataset) and method in (None, p.method) and table in (None, p.table)
    )


def published_for(card: ModelCard, dataset: str) -> tuple[Published, ...]:
    """The published numbers of the method a model card describes, on a dataset.

    Papers call the variant trained without a GAN loss "NAME-rec" where they print both, else "NAME".
    """
    base = _plain(card.name.removesuffix("-gan").removesuffix("-rec"))
    numbers = [p for p in read_published() if p.dataset == dataset]
    names = {_plain(p.method) for p in read_published()}
    wanted = base if card.adversarial or base + "rec" not in names else base + "rec"
    own = [p for p in numbers if _plain(p.method) == wanted]
    # Table 4 repeats numbers of Table 1.
    return tuple({(p.source, p.psnr, p.ssim): p for p in reversed(own)}.values())[::-1]


_GAN_SINGLE = frozenset({"SRGAN", "ENet", "ESRGAN", "RankSRGAN"})
_NO_GAN = frozenset(
    {"Bicubic", "SRCNN", "VDSR", "EDSR", "RDN", "RCAN", "SAN", "CrossNet", "C2-Matching-light", "HiTSR"}
)


def trained_with_gan(method: str) -> bool:
    """Whether a published method was trained with a GAN loss: the paper's grey rows.

    "-rec" means that only a reconstruction loss was used (caption of the paper's Table 1).
    """
    return method in _GAN_SINGLE or not (method.endswith(("-rec", "-l2")) or method in _NO_GAN)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def to_grid(numbers: Sequence[Published]) -> list[list[str]]:
    """Methods by datasets, cells as the papers print them ("28.24/.841"); the first row holds the headings.

    A method that has two numbers for a dataset gets one line a source.
    """
    datasets = list(dict.fromkeys(p.dataset for p in numbers))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for p in numbers:
        cell = p.psnr + (f"/{p.ssim.removeprefix('0')}" if p.ssim else "")
        lines.setdefault((p.method, p.source + p.protocol), {})[p.dataset] = cell
    body = [[method, *(cells.get(d, "-") for d in datasets)] for (method, _), cells in lines.items()]
    return [["method", *datasets], *body]


def grid_to_markdown(grid: Sequence[Sequence[str]]) -> str:
    """A grid of plain texts as an aligned Markdown table."""
    widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
    rows = [grid[0], ["-" * width for width in widths], *grid[1:]]
    return "\n".join(f"| {' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))} |" for row in rows)
