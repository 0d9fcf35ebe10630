"""The CUFED training set of the Ref-SR papers: 11,871 pairs of 160x160 pictures."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import PurePosixPath

from refsr_bench.collectors.layout import Role, Slot, require_all
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.schema import DatasetCard, SourceFile

CARD = DatasetCard(
    name="cufed",
    version="1",
    title="CUFED training pairs (11,871)",
    licence="not stated by its publishers; photographs of Flickr users, for research",
    citation=(
        "Zhang, Wang, Lin, Qi: Image Super-Resolution by Neural Texture Transfer, CVPR 2019; "
        "photographs: Wang et al., Event-specific Image Importance (CUFED), CVPR 2016"
    ),
    builder_version="1",
    samples=11_871,
    references="one of the same file name",
    sources=(
        SourceFile(
            file="CUFED_input.zip",
            holds="the folder input, 11,871 pictures of 160x160 px; about 567 MB",
            found_at=(
                "Google Drive folders 1hGHy36XcmSZ1LtARWmGL5OK1IUdWJi3I (linked by C2-Matching) and "
                "13BGwJMQfK6xhCNXN0y53dctthVloxniz (linked by SRNTT; users report it dead since 2025)"
            ),
        ),
        SourceFile(
            file="CUFED_ref.zip",
            holds="the folder ref, 11,871 pictures under the same names; about 588 MB",
            found_at="the same folders",
        ),
    ),
    description="""\
Training pairs cut from similar photographs of CUFED: `input/NAME` and `ref/NAME`, inputs 160x160 px, some
references of other sizes (stored unchanged; training code decides what to do with them). The names were never
published: the first build that finds 11,871 complete pairs freezes the list, and later builds are held to it.""",
)
CARDS = {CARD.name: CARD}

_FOLDERS: dict[str, Role] = {"input": "hr", "cufed_input": "hr", "ref": "ref", "cufed_ref": "ref"}


def _recognise(name: PurePosixPath) -> Slot | None:
    roles = [_FOLDERS[part.lower()] for part in name.parent.parts if part.lower() in _FOLDERS]
    return Slot(roles[-1], name.stem) if roles else None


def _published_name(slot: Slot) -> str:
    return f"{'input' if slot.role == 'hr' else 'ref'}/{slot.sample}"


def _check(slots: Collection[Slot]) -> None:
    names = {slot.sample for slot in slots}
    pairs = [_published_name(slot) for name in names for slot in (Slot("hr", name), Slot("ref", name))]
    require_all(map(_published_name, slots), pairs, where=CARD.name)


LAYOUT = Layout(recognise=_recognise, plan=plan_samples, check=_check, name_of=_published_name)

build = functools.partial(build_published, CARD, LAYOUT)
