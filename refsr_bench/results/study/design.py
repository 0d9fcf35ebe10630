"""The plan of a study: which pairs are shown, to whom, in which order, on which side.

A study folder::

    study.json      what raters may know: texts, pairs of picture tokens, sheets; safe to publish
    key.json        which token is whose picture; kept from raters, needed by the analysis
    public/         the static page: index.html, its script and style, img/<token>.png
    answers.jsonl   what `study serve` was told, one line an answer, only ever appended to

A *sheet* is one rater's list of pairs with their sides. Sheets are made in advance, so the static page needs no
randomness of its own and balance can be checked before anyone is asked.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import pydantic

from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.schema import Frozen
from refsr_bench.store import sha256_bytes

STUDY_NAME = "study.json"
KEY_NAME = "key.json"
ANSWERS_NAME = "answers.jsonl"
PUBLIC_NAME = "public"
SCHEMA_VERSION = 1

TITLE = "Which picture looks better?"
QUESTION = "Which of the two pictures has the better visual quality?"
CONSENT = """You will see pairs of pictures and choose the one that looks better to you. There is no right answer, and \
no time limit.

Taking part is voluntary. You may stop at any moment by closing the page.

Stored are your choices, how long each one took, and a random number that tells your choices from other people's. Your \
name, your address and anything else about you are not asked for and not stored."""


_T = TypeVar("_T", bound=Frozen)


class Pair(Frozen):
    """Two pictures to choose between; their order says nothing."""

    id: str
    pictures: tuple[str, str]
    width: int
    height: int


class Shown(Frozen):
    """One line of a sheet: a pair, and which of its pictures stands left (0 or 1)."""

    pair: str
    left: Literal[0, 1]


class Study(Frozen):
    """``study.json``."""

    schema_version: int = SCHEMA_VERSION
    id: str
    title: str
    question: str
    consent: str
    pairs: tuple[Pair, ...]
    sheets: tuple[tuple[Shown, ...], ...]
    key_sha256: str


class Truth(Frozen):
    """What the key knows of a pair: the sample, and the method of each of its two pictures.

    An attention check has the methods "hr" and "degraded", and the first is the right choice.
    """

    sample: str
    methods: tuple[str, str]
    tokens: tuple[str, str]
    check: bool = False


class Key(Frozen):
    """``key.json``."""

    schema_version: int = SCHEMA_VERSION
    target: str
    methods: tuple[str, ...]
    dataset: str
    seed: int
    pairs: dict[str, Truth]
    runs: dict[str, str]
    """Method to the SHA-256 its run was sealed with."""


class Comparison(NamedTuple):
    """A pair before it is blinded."""

    sample: str
    methods: tuple[str, str]


def plan_comparisons(methods: Sequence[str], samples: Sequence[str], *, all_pairs: bool) -> list[Comparison]:
    """The first method against each other one on every sample; or every method against every other one."""
    duels = list(combinations(methods, 2)) if all_pairs else [(methods[0], other) for other in methods[1:]]
    return [Comparison(sample, duel) for duel in duels for sample in samples]


def plan_sheets(
    pairs: Sequence[tuple[str, str, Literal[0, 1]]],
    checks: Sequence[str],
    *,
    sheets: int,
    per_sheet: int,
    rng: random.Random,
) -> list[tuple[Shown, ...]]:
    """Balanced lists of what each rater sees.

    ``pairs`` are (id, duel, position of the duel's first method); ``checks`` are the ids of attention checks, which
    every sheet has. Every duel gets an equal share of a sheet (±1) and every pair of a duel is shown equally often
    (±1); a duel's first method stands left in half of its pairs of a sheet, and in half of the times that a pair is
    shown (±1 each).
    """
    duels: dict[str, list[tuple[str, Literal[0, 1]]]] = {}
    for name, duel, first in pairs:
        duels.setdefault(duel, []).append((name, first))
    for members in duels.values():
        rng.shuffle(members)
    taken = dict.fromkeys(duels, 0)
    planned = []
    for number in range(sheets):
        shown: list[Shown] = []
        for order, (duel, members) in enumerate(duels.items()):
            # What does not divide evenly goes to another duel on every sheet.
            share = per_sheet // len(duels) + ((order + number) % len(duels) < per_sheet % len(duels))
            share = min(share, len(members))
            for _ in range(share):
                turn, place = divmod(taken[duel], len(members))
                name, first = members[place]
                first_is_left = (turn + place) % 2 == 0
                shown.append(Shown(pair=name, left=first if first_is_left else _other(first)))
                taken[duel] += 1
        rng.shuffle(shown)
        planned.append(_with_checks(shown, checks, rng))
    return planned


def _other(position: Literal[0, 1]) -> Literal[0, 1]:
    return 0 if position else 1


def _with_checks(shown: list[Shown], checks: Sequence[str], rng: random.Random) -> tuple[Shown, ...]:
    """Attention checks at random places, one in each equal part of the sheet, never the first picture shown."""
    part = len(shown) / max(len(checks), 1)
    for i, name in reversed(list(enumerate(rng.sample(list(checks), len(checks))))):
        low, high = max(1, round(i * part)), max(1, round((i + 1) * part) - 1)
        side: Literal[0, 1] = 0 if rng.random() < 0.5 else 1
        shown.insert(rng.randint(low, max(low, high)), Shown(pair=name, left=side))
    return tuple(shown)


def sides_of(study: Study, key: Key) -> Counter[tuple[str, bool]]:
    """How often each duel's first method stands left, over all sheets: a check of the balance."""
    pairs = {pair.id: pair for pair in study.pairs}
    counts: Counter[tuple[str, bool]] = Counter()
    for sheet in study.sheets:
        for shown in sheet:
            truth = key.pairs[pairs[shown.pair].id]
            if not truth.check:
                duel = sorted(truth.methods, key=key.methods.index)
                counts[" : ".join(duel), truth.methods[shown.left] == duel[0]] += 1
    return counts


def open_study(folder: Path) -> tuple[Study, Key]:
    """Read a study and its key; `IntegrityError` if they are broken, newer, or do not belong together."""
    study, key_bytes = _read(folder, STUDY_NAME, Study), _bytes(folder, KEY_NAME)
    if sha256_bytes(key_bytes) != study.key_sha256:
        raise IntegrityError(f"{folder / KEY_NAME}: is not the key that {STUDY_NAME} was made with")
    return study, _read(folder, KEY_NAME, Key)


def read_study(folder: Path) -> Study:
    """Read ``study.json`` alone."""
    return _read(folder, STUDY_NAME, Study)


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{folder}: holds no study ({name}: {error.strerror})", "make one with: refsr-bench study new"
        ) from None


def _read(folder: Path, name: str, kind: type[_T]) -> _T:
    try:
        value = json.loads(_bytes(folder, name))
        if value.get("schema_version", 0) > SCHEMA_VERSION:
            raise IntegrityError(f"{folder / name}: written by a newer version of refsr-bench", "upgrade refsr-bench")
        return kind.model_validate(value)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise IntegrityError(f"{folder / name}: {where}: {problem['msg']}") from None
    except (ValueError, AttributeError) as error:
        raise IntegrityError(f"{folder / name}: cannot be read ({error})") from None
