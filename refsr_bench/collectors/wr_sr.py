"""WR-SR, the test set of the C2-Matching paper as released: 80 pairs found by image search."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from refsr_bench.collectors.layout import Slot
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.errors import UsageError
from refsr_bench.schema import DatasetCard, DatasetInfo, SourceFile

_NAME = re.compile(r"(\d{3})(_ref)?")

CARD = DatasetCard(
    name="wr-sr",
    version="1",
    title="WR-SR as released (80 pairs)",
    licence="not stated by its publishers; photographs of BSDS500, Flickr and the web, for research",
    citation="Jiang, Chan, Wang, Loy, Liu: Robust Reference-based Super-Resolution via C2-Matching, CVPR 2021",
    builder_version="1",
    samples=80,
    references="one, found by a visually-similar image search and chosen by a person",
    sources=(
        SourceFile(
            file="WR-SR.zip",
            holds="the folders input (001.png to 080.png) and ref (001_ref.png to 080_ref.png)",
            found_at=(
                "Google Drive folders 16UKRu-7jgCYcndOlGYBmo5Pp0_Mq71hP and 1Pt7blJA2cK4oQ6yWB9tcHerZ4pwICmxp, "
                "linked from github.com/yumingj/C2-Matching; Drive packs a folder into a zip when it is downloaded"
            ),
        ),
    ),
    description="""\
The released 80 pairs, `input/NNN.png` with `ref/NNN_ref.png`. Sizes run from 320x480 to 1080x1612; the largest
needed more than 12 GB of GPU memory in the released code.""",
)
CARDS = {CARD.name: CARD}


def _recognise(name: PurePosixPath) -> Slot | None:
    match = _NAME.fullmatch(name.stem)
    if match is None:
        return None
    return Slot("ref", match[1], "ref") if match[2] else Slot("hr", match[1])


def _published_name(slot: Slot) -> str:
    return f"ref/{slot.sample}_ref.png" if slot.role == "ref" else f"input/{slot.sample}.png"


LAYOUT = Layout(
    recognise=_recognise,
    plan=plan_samples,
    expected=lambda: [slot for i in range(1, 81) for slot in (Slot("hr", f"{i:03d}"), Slot("ref", f"{i:03d}", "ref"))],
    name_of=_published_name,
)


def build(
    source: Path | None,
    target: Path,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    jobs: int | None = None,
    expect_sha256: str | None = None,
    selection: Path | None = None,
    allow_private: bool | None = None,
) -> DatasetInfo:
    """Build the released set, or the one that a curated ``selection`` describes (see ``docs/curation.md``).

    A selection's pictures are looked for in ``source`` and beside the selection, and fetched by their addresses if they
    are not there; ``allow_private`` also asks servers of this computer and network.
    """
    if selection is None:
        if allow_private:
            raise UsageError("--allow-private belongs to --selection")
        return build_published(
            CARD, LAYOUT, source, target, progress=progress, note=note, jobs=jobs, expect_sha256=expect_sha256
        )
    from refsr_bench.collectors.curation.answers import Manners
    from refsr_bench.collectors.curation.build import Source, build_selection
    from refsr_bench.collectors.curation.web import Web

    contact = os.environ.get("REFSR_CONTACT", "")
    web = Web(Manners(contact, allow_private=bool(allow_private)), note) if contact else None
    if web is None:
        note("REFSR_CONTACT is not set (your address, for site owners): nothing is fetched, pictures must be at hand")
    beside = [selection.parent / "queries", selection.parent / "pictures"]
    folders = [*([source] if source is not None else []), *beside]
    return build_selection(CARD, selection, target, Source(folders, web), progress=progress, note=note)
