"""CUFED5, the test set of the Ref-SR papers: 126 inputs with five references of falling similarity each."""

from __future__ import annotations

import functools
import re
from pathlib import PurePosixPath

from refsr_bench.collectors.layout import Slot
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.schema import DatasetCard, SourceFile

_NAME = re.compile(r"(\d{3})_([0-5])")
LEVELS = {str(level): level for level in range(1, 6)}

CARD = DatasetCard(
    name="cufed5",
    version="1",
    title="CUFED5 (126 inputs, five references each)",
    licence="not stated by its publishers; photographs of Flickr users, for research",
    citation=(
        "Zhang, Wang, Lin, Qi: Image Super-Resolution by Neural Texture Transfer, CVPR 2019; "
        "photographs: Wang et al., Event-specific Image Importance (CUFED), CVPR 2016"
    ),
    builder_version="1",
    samples=126,
    references="five, similarity levels 1 (most similar) to 5 in order",
    sources=(
        SourceFile(
            file="CUFED5.zip",
            holds="NNN_0.png (inputs) and NNN_1.png to NNN_5.png (references), NNN from 000 to 125; about 233 MB",
            urls=("gdrive:1Fa1mopExA9YGG1RxrCZZn7QFTYXLx6ph",),
            found_at=(
                "Google Drive file 1Fa1mopExA9YGG1RxrCZZn7QFTYXLx6ph, linked from the README of github.com/ZZUTK/SRNTT "
                "(users report it dead since 2025); the project ReFIR re-hosts it on Google Drive, "
                "AdaRefSR its test data in huggingface.co/datasets/hangfrieddays/adarefsr_test_data"
            ),
        ),
    ),
    description="""\
The test set of nearly every Ref-SR paper. `_1` is the most similar reference and the one that C²-Matching, AMSA and
DATSR use alone (`--refs first`); SRNTT, TTSR and MASA print numbers with all five (`stitched-ttsr`,
`stitched-masa`), which are 0.10 dB (TTSR) and 0.19 dB (MASA) above their own with one: never compare the two.
`--refs each` prints the table level by level.

Published layout: `NNN_0.png` is the input, `NNN_1.png` to `NNN_5.png` its references; samples are called `000` to
`125`.""",
)
CARDS = {CARD.name: CARD}


def _recognise(name: PurePosixPath) -> Slot | None:
    match = _NAME.fullmatch(name.stem)
    if match is None:
        return None
    return Slot("hr", match[1]) if match[2] == "0" else Slot("ref", match[1], match[2])


def _published_name(slot: Slot) -> str:
    return f"{slot.sample}_{slot.order or 0}.png"


LAYOUT = Layout(
    recognise=_recognise,
    plan=functools.partial(plan_samples, levels=LEVELS),
    expected=lambda: [
        Slot("ref", f"{i:03d}", str(k)) if k else Slot("hr", f"{i:03d}") for i in range(126) for k in range(6)
    ],
    name_of=_published_name,
)

build = functools.partial(build_published, CARD, LAYOUT)
