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
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import pydantic

from refsr_bench.disk import sha256_bytes
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.schema import Frozen

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


class _Showing(NamedTuple):
    """A pair on a sheet, before it is known which picture stands left."""

    sheet: int
    duel: tuple[str, str]
    pair: str


def plan_sheets(
    pairs: Sequence[tuple[str, tuple[str, str], Literal[0, 1]]],
    checks: Sequence[str],
    *,
    sheets: int,
    per_sheet: int,
    rng: random.Random,
) -> list[tuple[Shown, ...]]:
    """Balanced lists of what each rater sees.

    ``pairs`` are (id, duel's two methods, position of the first one); ``checks`` are the ids of attention checks, which
    every sheet has. Every duel gets an equal share of a sheet (±1) and every pair is shown equally often (±1). On which
    side the first methods stand is balanced as `_choose_sides` says.
    """
    duels: dict[tuple[str, str], list[str]] = {}
    for name, duel, _ in pairs:
        duels.setdefault(duel, []).append(name)
    for members in duels.values():
        rng.shuffle(members)
    taken = dict.fromkeys(duels, 0)
    share, rest = divmod(per_sheet, len(duels))
    showings = []
    for number in range(sheets):
        for order, (duel, members) in enumerate(duels.items()):
            # What does not divide evenly goes to the next duels in turn.
            own = share + ((order - number * rest) % len(duels) < rest)
            for _ in range(min(own, len(members))):
                showings.append(_Showing(number, duel, members[taken[duel] % len(members)]))
                taken[duel] += 1
    first = {name: position for name, _, position in pairs}
    planned: list[list[Shown]] = [[] for _ in range(sheets)]
    for showing, is_left in zip(showings, _choose_sides(showings, rng), strict=True):
        position = first[showing.pair]
        planned[showing.sheet].append(Shown(pair=showing.pair, left=position if is_left else _other(position)))
    for shown in planned:
        rng.shuffle(shown)
    return [_with_checks(shown, checks, rng) for shown in planned]


def _choose_sides(showings: Sequence[_Showing], rng: random.Random) -> list[bool]:
    """Whether the first method stands left in each showing: as often as right, up to one, by rater and over raters.

    By rater: on a sheet, among the showings there whose first method is the same, and in each duel there. Over raters:
    among all showings, by first method, in each duel and for each pair. Both are sets within sets, so showings can be
    matched in twos from the smallest sets outwards, each set leaving at most one over for the next; where the two of
    every match stand on opposite sides, all the sets are balanced. Two matchings together make only paths and even
    cycles, along which the sides can alternate.
    """
    by_rater: list[Callable[[_Showing], object]] = [
        lambda s: (s.sheet, s.duel),
        lambda s: (s.sheet, s.duel[0]),
        lambda s: s.sheet,
    ]
    over_raters: list[Callable[[_Showing], object]] = [
        lambda s: s.pair,
        lambda s: s.duel,
        lambda s: s.duel[0],
        lambda s: None,
    ]
    opposite: list[list[int]] = [[] for _ in showings]
    for sets in (by_rater, over_raters):
        left_over = list(range(len(showings)))
        for key in sets:
            waiting: dict[object, int] = {}
            for i in left_over:
                other = waiting.pop(key(showings[i]), None)
                if other is None:
                    waiting[key(showings[i])] = i
                else:
                    opposite[i].append(other)
                    opposite[other].append(i)
            left_over = list(waiting.values())
    sides: dict[int, bool] = {}
    for start in range(len(showings)):
        if start not in sides:
            sides[start] = rng.random() < 0.5
            reached = [start]
            while reached:
                i = reached.pop()
                fresh = [other for other in opposite[i] if other not in sides]
                sides |= dict.fromkeys(fresh, not sides[i])
                reached += fresh
    return [sides[i] for i in range(len(showings))]


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
