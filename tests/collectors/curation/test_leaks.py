"""The HR-leak guard on copies in disguise and on true views; the whole measurement is slow, a part of it plain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from disguise import REMADE, disguise, remake

from refsr_bench.collectors.curation.fingerprints import Features, Fingerprint, fingerprint
from refsr_bench.collectors.curation.leaks import find_leak
from refsr_bench.images import load_image
from refsr_bench.schema import Image

QUERIES = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")


def count_caught(
    pictures: list[Path],
    copies: int,
    change: Callable[[Image, np.random.Generator], tuple[Image, str]] = disguise,
) -> tuple[int, list[str]]:
    rng = np.random.default_rng(0)
    queries: dict[Path, Fingerprint] = {}
    missed = []
    for k in range(copies):
        path = pictures[k % len(pictures)]
        image = load_image(path)
        if path not in queries:
            queries[path] = fingerprint(image)
        copy, how = change(image, rng)
        leak = find_leak(queries[path], fingerprint(copy))
        if not leak.refused:
            missed.append(f"{path.name}: {how}: {leak}")
    return copies - len(missed), missed


def test_copies_in_disguise_are_refused_with_the_evidence(photographs: Path) -> None:
    caught, missed = count_caught([photographs / name for name in QUERIES], 12)
    assert not missed, missed
    query = load_image(photographs / "rocket.jpg")
    leak = find_leak(fingerprint(query), fingerprint(np.ascontiguousarray(query[40:360, 500:60:-1])))
    assert leak.mirrored
    assert "of the query mirrored, at scale 1.00:" in leak.explain()
    assert caught == 12


@pytest.mark.parametrize("kind", REMADE)
def test_copies_of_another_shape_turned_or_inverted_are_refused(photographs: Path, kind: str) -> None:
    _, missed = count_caught([photographs / name for name in QUERIES], 4, lambda image, rng: remake(image, kind, rng))
    assert not missed, missed


def test_the_evidence_says_how_a_copy_was_made(photographs: Path) -> None:
    image = load_image(photographs / "rocket.jpg")
    query = fingerprint(image)
    for quarters, turned_deg in ((1, 90), (2, 180), (3, -90)):
        leak = find_leak(query, fingerprint(np.ascontiguousarray(255 - np.rot90(image[:, ::-1], quarters))))
        assert (leak.mirrored, leak.inverted, leak.turned_deg) == (True, True, pytest.approx(turned_deg, abs=0.5))
    leak = find_leak(query, fingerprint(np.repeat(image, 2, axis=0)))
    assert (leak.mirrored, leak.inverted, leak.turned_deg) == (False, False, 0)
    assert leak.scale[0] == pytest.approx(2 * leak.scale[1], rel=0.01)
    assert " by " in leak.explain()


@pytest.mark.parametrize("kind", ["turned", "stretched", "halved"])
def test_copies_are_found_without_features(photographs: Path, kind: str) -> None:
    image = load_image(photographs / "chelsea.png")
    copy = fingerprint(255 - remake(image, kind, np.random.default_rng(1))[0])
    featureless = copy._replace(features=Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32)))
    leak = find_leak(fingerprint(image), featureless)
    assert leak.refused, leak
    assert leak.found_by == "template"


def test_another_view_is_not_a_copy(photographs: Path) -> None:
    left, right = (load_image(photographs / f"motorcycle_{side}.png") for side in ("left", "right"))
    assert not find_leak(fingerprint(left), fingerprint(right)).refused


def test_what_cannot_be_judged_is_not_refused(photographs: Path) -> None:
    query = fingerprint(load_image(photographs / "chelsea.png"))
    for shape in ((1, 1), (5, 3000), (40, 40), (400, 400)):
        assert not find_leak(query, fingerprint(np.full((*shape, 3), 128, np.uint8))).refused
    flat = fingerprint(np.full((200, 300, 3), 77, np.uint8))
    assert not find_leak(flat, fingerprint(load_image(photographs / "chelsea.png"))).refused


def test_unrelated_photographs_are_kept(photographs: Path) -> None:
    prints = [fingerprint(load_image(photographs / name)) for name in QUERIES]
    assert not any(find_leak(a, b).refused for a in prints for b in prints if a is not b)


@pytest.mark.slow
def test_500_copies_and_every_true_view(dev_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = sorted((dev_data / "train/bsds500_train").glob("*.jpg"))
    caught, missed = count_caught(pictures, 500)
    remade = {kind: count_caught(pictures, 50, lambda image, rng, k=kind: remake(image, k, rng)) for kind in REMADE}
    views = {}
    for scene in ("sacre_coeur", "lund"):
        paths = sorted((dev_data / "refsr_pairs" / scene).glob("*.jpg"))
        prints = [fingerprint(load_image(path)) for path in paths]
        steps = len(paths) if scene == "sacre_coeur" else 3
        pairs = [(i, j) for i in range(len(paths)) for j in range(len(paths)) if i != j and abs(i - j) <= steps]
        refused = [(paths[i].name, paths[j].name) for i, j in pairs if find_leak(prints[i], prints[j]).refused]
        views[scene] = (len(pairs), refused)
    with capsys.disabled():
        print(f"\ncopies caught: {caught} of 500; true views refused: " + str(views))
        print("caught of 50: " + ", ".join(f"{kind} {found}" for kind, (found, _) in remade.items()))
    assert caught >= 495, missed
    assert min(found for found, _ in remade.values()) >= 48, [missed for _, missed in remade.values()]
    assert sum(len(refused) for _, refused in views.values()) <= 2
