"""From fetched pictures to a ranked pool; what is unreadable, too small, doubled or a leak goes out with a reason."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pydantic

from refsr_bench.collectors.curation.fingerprints import Fingerprint, fingerprint
from refsr_bench.collectors.curation.leaks import find_leak
from refsr_bench.collectors.curation.pictures import THUMBNAIL_PX, Tile, draw_sheet, encode_jpeg, shrink
from refsr_bench.collectors.curation.ranking import Score, score_view
from refsr_bench.collectors.curation.rows import CANDIDATES, Candidate, Judged, Query, read_rows
from refsr_bench.disk import atomic_write_bytes, sha256_bytes
from refsr_bench.errors import ImageError
from refsr_bench.images import decode_image, load_image, read_bytes
from refsr_bench.schema import Frozen, Image, Sha256

VERSION = "2"
"""Changes when the same pictures would be judged otherwise."""
SUSPICIOUS_BITS = 12
"""Perceptual hashes that differ in at most so many of 64 bits are compared closely."""

Matcher = Callable[[Image, Image], int]
"""Number of geometrically verified matches between query and candidate, by a matcher of the zoo."""


class Rules(NamedTuple):
    """What a candidate has to meet, and how pools are ordered."""

    min_side_px: int = 256
    matcher: str = "sift"


class Pool(Frozen):
    """All that `clean` found out about one query's candidates, in the order of their ranks, refused ones last."""

    query: Query
    inputs: Sha256
    """Hash of the candidates, the rules and this version: a pool is judged again only if one of them changed."""
    rows: tuple[Judged, ...]


def clean_pools(
    work: Path,
    queries: Sequence[Query],
    rules: Rules,
    *,
    jobs: int,
    progress: Callable[[int, int], None],
    matcher: Matcher | None = None,
) -> Counter[str]:
    """Judge and rank every pool that is new or changed; how many candidates got which verdict, over all pools."""
    fetched = candidates_of(work)
    counts: Counter[str] = Counter()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # pools run side by side
    try:
        # Decoding silences Pillow's warnings for a moment, which threads would undo for each other.
        with warnings.catch_warnings(), ThreadPoolExecutor(jobs) as workers:
            warnings.simplefilter("ignore")
            waiting = [workers.submit(_clean_pool, work, q, fetched[q.name], rules, matcher) for q in queries]
            try:
                for done, future in enumerate(waiting, 1):
                    counts.update(row.verdict for row in future.result().rows)
                    progress(done, len(waiting))
            except BaseException:
                workers.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        cv2.setNumThreads(threads)
    return counts


def candidates_of(work: Path) -> dict[str, list[Candidate]]:
    """The fetched candidates of every query; the last row of each speaks."""
    latest = {(row.query, row.key): row for row in read_rows(work / CANDIDATES, Candidate)}
    found: dict[str, list[Candidate]] = defaultdict(list)
    for row in latest.values():
        if row.status == "ok":
            found[row.query].append(row)
    return found


def read_pool(work: Path, query: str) -> Pool | None:
    """What `clean` found out about a query, None if it has not been there or its file is damaged."""
    try:
        return Pool.model_validate_json((work / "judged" / f"{query}.json").read_bytes())
    except (OSError, pydantic.ValidationError):
        return None


def _clean_pool(
    work: Path, query: Query, candidates: Sequence[Candidate], rules: Rules, matcher: Matcher | None
) -> Pool:
    asked = [VERSION, repr(tuple(rules)), query.sha256, *sorted(row.model_dump_json() for row in candidates)]
    inputs = sha256_bytes("\n".join(asked).encode())
    before = read_pool(work, query.name)
    if before is not None and before.inputs == inputs:
        return before
    image = load_image(work / query.file)
    mark = fingerprint(image)
    kept: list[tuple[Judged, Fingerprint]] = []
    refused: list[Judged] = []
    thumbnails: dict[str, Image] = {}
    for row in sorted(candidates, key=lambda row: (row.place, row.origin.provider, row.key)):
        judged, seen, small = _judge(work, mark, row, rules, image, matcher)
        if small is not None and row.sha256 is not None:
            thumbnails[row.sha256] = small
        if seen is None:
            refused.append(judged)
        elif (twin := next((k for k in kept if _is_twin(k, (judged, seen))), None)) is not None:
            better, worse = sorted((twin[0], judged), key=_area, reverse=True)
            refused.append(_refuse(worse, "duplicate", f"the same picture as {better.candidate.key}"))
            kept[kept.index(twin)] = (better, twin[1] if better is twin[0] else seen)
        else:
            kept.append((judged, seen))
    ranked = sorted((judged for judged, _ in kept), key=lambda j: (-(j.score.total if j.score else 0), j.candidate.key))
    ranked = [judged.model_copy(update={"rank": rank}) for rank, judged in enumerate(ranked, 1)]
    pool = Pool(query=query, inputs=inputs, rows=(*ranked, *refused))
    _save_pictures(work, pool, image, thumbnails)
    atomic_write_bytes(work / "judged" / f"{query.name}.json", (pool.model_dump_json(indent=1) + "\n").encode())
    return pool


def _judge(
    work: Path, query: Fingerprint, row: Candidate, rules: Rules, image: Image, matcher: Matcher | None
) -> tuple[Judged, Fingerprint | None, Image | None]:
    """One candidate's verdict; its fingerprint if it may stay; its thumbnail if it can be read."""
    judged = Judged(candidate=row, verdict="kept")
    try:
        data = read_bytes(work / str(row.file))
        if sha256_bytes(data) != row.sha256:
            raise ImageError("the file was changed after it was fetched (its SHA-256 differs)")
        pixels = decode_image(data, str(row.file)).pixels
    except ImageError as error:
        reason = error.problem.removeprefix(f"{row.file}: ").replace(f"{work}/", "")
        return _refuse(judged, "unreadable", reason), None, None
    height, width = pixels.shape[:2]
    small = shrink(pixels, THUMBNAIL_PX)
    judged = judged.model_copy(
        update={"height": height, "width": width, "perceptual_hash": f"{_hash_bits(pixels):016x}"}
    )
    if min(height, width) < rules.min_side_px:
        reason = f"{width}x{height} px; at least {rules.min_side_px} px a side are needed"
        return _refuse(judged, "too small", reason), None, small
    seen = fingerprint(pixels)
    leak = find_leak(query, seen)
    judged = judged.model_copy(update={"leak": leak})
    if leak.refused:
        return _refuse(judged, "copy of the query", leak.explain()), None, small
    score = score_view(query, seen)
    if matcher is not None:
        score = _rescored(score, matcher(image, pixels))
    return judged.model_copy(update={"score": score}), seen, small


def _rescored(score: Score, inliers: int) -> Score:
    """The score with another matcher's verified matches in front: they decide, the rest settles ties."""
    return score.model_copy(update={"total": round(inliers + score.total / 10_000, 4), "matcher_inliers": inliers})


def _refuse(judged: Judged, verdict: str, reason: str) -> Judged:
    return judged.model_copy(update={"verdict": verdict, "reason": reason, "score": None})


def _area(judged: Judged) -> int:
    return (judged.height or 0) * (judged.width or 0)


def _hash_bits(image: Image) -> int:
    """64-bit perceptual hash: signs of the lowest frequencies against their median."""
    grey: Any = cv2.cvtColor(shrink(image, 256), cv2.COLOR_RGB2GRAY)
    small: Any = cv2.resize(grey.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    low = np.asarray(cv2.dct(small))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _is_twin(first: tuple[Judged, Fingerprint], second: tuple[Judged, Fingerprint]) -> bool:
    """Whether two candidates are one photograph: the same bytes, or a like hash and the same fine detail."""
    if first[0].candidate.sha256 == second[0].candidate.sha256:
        return True
    differ = int(first[0].perceptual_hash or "0", 16) ^ int(second[0].perceptual_hash or "0", 16)
    if differ.bit_count() > SUSPICIOUS_BITS:
        return False
    return find_leak(first[1], second[1]).refused


def _save_pictures(work: Path, pool: Pool, image: Image, thumbnails: dict[str, Image]) -> None:
    for sha256, small in _thumbnails(pool, image, thumbnails):
        atomic_write_bytes(work / "thumbnails" / str(THUMBNAIL_PX) / f"{sha256}.jpg", encode_jpeg(small))
    grey = np.full((90, 120, 3), 200, np.uint8)
    tiles = []
    for row in pool.rows:
        caption = f"{row.rank}: {row.score.total:.1f}" if row.rank and row.score else f"{row.verdict}: {row.reason}"
        tiles.append(Tile(thumbnails.get(str(row.candidate.sha256), grey), caption, refused=row.rank is None))
    sheet = draw_sheet(Tile(shrink(image, THUMBNAIL_PX), f"query {pool.query.name}"), tiles)
    atomic_write_bytes(work / "sheets" / f"{pool.query.name}.jpg", sheet)


def _thumbnails(pool: Pool, image: Image, thumbnails: dict[str, Image]) -> Iterator[tuple[str, Image]]:
    yield pool.query.sha256, shrink(image, THUMBNAIL_PX)
    yield from ((str(row.candidate.sha256), thumbnails[str(row.candidate.sha256)]) for row in pool.rows if row.rank)
