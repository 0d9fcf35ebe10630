"""Sun80 (Sun and Hays 2012): 80 inputs with about twenty scene matches each."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import PurePosixPath

from refsr_bench.collectors.layout import Slot, read_names, require_all
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.schema import DatasetCard, SourceFile

NAMES_FILE = "sun80.txt"

CARD = DatasetCard(
    name="sun80",
    version="1",
    title="Sun80 (80 inputs, about 20 scene matches each)",
    licence="not stated by its publishers; photographs of the SUN database and of the web, for research",
    citation="Sun, Hays: Super-resolution from Internet-scale Scene Matching, ICCP 2012",
    builder_version="1",
    samples=80,
    references="all scene matches, about twenty, in the order of their file names; the first is the default",
    sources=(
        SourceFile(
            file="Sun_Hays_SR_groundtruth.zip",
            holds="the 80 inputs, .jpg",
            urls=("https://cs.brown.edu/~lbsun/SRproj2012/Sun_Hays_SR_groundtruth.zip",),
            found_at="cs.brown.edu/~lbsun/SRproj2012 (users report 404; ask the authors of a Ref-SR method for a copy)",
        ),
        SourceFile(
            file="Sun_Hays_SR_scenematches.zip",
            holds="one folder of scene matches for every input",
            urls=("https://cs.brown.edu/~lbsun/SRproj2012/Sun_Hays_SR_scenematches.zip",),
            found_at="the same place",
        ),
    ),
    description="""\
Which scene match a paper used is mostly not said: TTSR and MASA draw one at random without a fixed seed, a re-run
of C²-Matching takes the first. Here all are kept in one frozen order. `--refs first` is the default, `random1` to
`random9` are frozen draws, and `--refs each` prints how much the choice moves a model.

Published layout: `Sun_Hays_SR_groundtruth/NAME.jpg` and `Sun_Hays_SR_scenematches/NAME.jpg/*.jpg` (a folder per
input, with or without the suffix in its name). The names of the inputs are known; those of the scene matches are
frozen by the first build.""",
)
CARDS = {CARD.name: CARD}


def _recognise(name: PurePosixPath) -> Slot | None:
    inputs = read_names(NAMES_FILE)
    folders = [folder.removesuffix(".jpg") for folder in name.parent.parts]
    owner = next((folder for folder in folders if folder in inputs), None)
    if owner is not None:
        return Slot("ref", owner, name.stem)
    return Slot("hr", name.stem) if name.stem in inputs else None


def _published_name(slot: Slot) -> str:
    return f"{slot.sample}/{slot.order}" if slot.role == "ref" else slot.sample


def _check(slots: Collection[Slot]) -> None:
    inputs = read_names(NAMES_FILE)
    require_all((slot.sample for slot in slots if slot.role == "hr"), inputs, where=CARD.name)
    matched = {slot.sample for slot in slots if slot.role == "ref"}
    require_all(matched, inputs, where=f"{CARD.name}, inputs with scene matches")


LAYOUT = Layout(recognise=_recognise, plan=plan_samples, check=_check, name_of=_published_name)

build = functools.partial(build_published, CARD, LAYOUT)
