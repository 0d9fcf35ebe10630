"""Manga109: one page of 109 comics, from the user's licensed copy; the reference is another page by a frozen list."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import PurePosixPath

from refsr_bench.collectors.layout import Slot, read_names
from refsr_bench.collectors.published import Layout, Planned, build_published
from refsr_bench.schema import DatasetCard, SourceFile

NAMES_FILE = "manga109.txt"
DERANGEMENT_FILE = "manga109-derangement.txt"
THIRD_PARTY_FILE = "manga109-third-party.txt"

CARD = DatasetCard(
    name="manga109",
    version="1",
    title="Manga109 (109 pages, references by a frozen derangement)",
    licence="Manga109 licence: academic use on registration, no redistribution",
    citation=(
        "Matsui et al.: Sketch-based Manga Retrieval using Manga109 Dataset, Multimedia Tools and Applications 2017; "
        "Aizawa et al.: Building a Manga Dataset Manga109 with Annotations, IEEE MultiMedia 2020"
    ),
    builder_version="1",
    samples=109,
    references="one: another page, by a frozen list without self-pairs",
    sources=(
        SourceFile(
            file="Manga109.zip",
            holds="the 109 pages TITLE.png of the super-resolution literature",
            found_at="on registration at manga109.org; it must not be redistributed, so there is no mirror",
        ),
    ),
    description="""\
The paper takes "a random image" as reference without publishing the draw. A draw may pair a page with itself, which
puts the answer into the reference and raises the mean by about 0.075 dB for every such pair. Here the list is
frozen, ships with the package and has no self-pair.""",
)
THIRD_PARTY_CARD = CARD.model_copy(
    update={
        "name": "manga109-third-party",
        "title": "Manga109 (109 pages, references by a third party's published draw)",
        "references": "one: by the list of github.com/mile-zhang/C2-Matching-1.7.0, with three self-pairs",
        "description": """\
The same pages with the random list that a third party published with its re-run of the released C²-Matching weights
(30.484 dB). Three pages are their own reference (HanzaiKousyouninMinegishiEitarou, MeteoSanStrikeDesu,
PlatinumJungle; tagged `self-reference`): for comparing with that re-run, never for judging a method. Its numbers 1
to 109 are read as positions in the sorted list of titles.""",
    }
)
CARDS = {card.name: card for card in (CARD, THIRD_PARTY_CARD)}


def _recognise(name: PurePosixPath) -> Slot | None:
    titles = {title.casefold(): title for title in read_names(NAMES_FILE)}
    title = titles.get(name.stem.casefold())
    return None if title is None else Slot("hr", title)


def _layout(list_file: str) -> Layout:
    def plan(slots: Collection[Slot]) -> list[Planned]:
        pairs = (line.split(" ") for line in read_names(list_file))
        return [Planned(title, Slot("hr", title), ((Slot("hr", ref), None),)) for title, ref in pairs]

    return Layout(
        recognise=_recognise,
        plan=plan,
        expected=lambda: [Slot("hr", title) for title in read_names(NAMES_FILE)],
    )


build = functools.partial(build_published, CARD, _layout(DERANGEMENT_FILE))
build_third_party = functools.partial(build_published, THIRD_PARTY_CARD, _layout(THIRD_PARTY_FILE))
