"""Makes a study: blinded copies of pictures, the plan, the key, and the static page."""

from __future__ import annotations

import random
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jinja2
import numpy as np
from PIL import Image as PilImage

from refsr_bench.disk import atomic_write_bytes, publishing, sha256_bytes
from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.images import encode_png, load_image
from refsr_bench.results.report.images import sr_path
from refsr_bench.results.rows import Run
from refsr_bench.results.study.design import (
    KEY_NAME,
    PUBLIC_NAME,
    SCHEMA_VERSION,
    STUDY_NAME,
    Comparison,
    Key,
    Pair,
    Study,
    Truth,
    plan_comparisons,
    plan_sheets,
)
from refsr_bench.schema import Image
from refsr_bench.store import Dataset, read_stored_image

PAGE_FILES = ("study.css", "study.js")
DEGRADE = 8
"""How strongly an attention check's worse picture is reduced and enlarged again."""


class Options(NamedTuple):
    """What a study is asked to be."""

    title: str
    question: str
    consent: str
    samples: int
    sheets: int
    per_sheet: int
    checks: int
    all_pairs: bool
    seed: int


def create_study(folder: Path, runs: Sequence[Run], dataset: Dataset, options: Options) -> tuple[Study, Key]:
    """Write a study of the first run, the target, against the others; `UsageError` if ``folder`` is not empty.

    All runs must be of one dataset under one protocol; samples are drawn from those that every run restored.
    """
    with publishing(folder, lambda _: False, "study") as work:  # never over another study: answers may be in it
        return _write_study(work, runs, dataset, options)


def _write_study(folder: Path, runs: Sequence[Run], dataset: Dataset, options: Options) -> tuple[Study, Key]:
    methods = [_method(run) for run in runs]
    if len(set(methods)) < len(methods):
        raise UsageError(f"the runs are of the same model: {', '.join(methods)}")
    _require_alike(runs)
    rng = random.Random(options.seed)
    samples = _choose(runs, options.samples, rng)
    comparisons = plan_comparisons(methods, samples, all_pairs=options.all_pairs)
    writer = _Writer(folder / PUBLIC_NAME, rng)
    by_method = dict(zip(methods, runs, strict=True))
    pairs, truths = [], {}
    for comparison in comparisons:
        pictures = tuple(_restored(by_method[method], comparison.sample) for method in comparison.methods)
        pair, truth = writer.pair(comparison, pictures)
        pairs.append(pair)
        truths[pair.id] = truth
    checks = _attention_checks(dataset, samples, options.checks, writer, rng)
    pairs += [pair for pair, _ in checks]
    truths |= {pair.id: truth for pair, truth in checks}
    key = Key(
        target=methods[0],
        methods=tuple(methods),
        dataset=dataset.info.id,
        seed=options.seed,
        pairs=truths,
        runs={m: run.info.rows_sha256 or "" for m, run in zip(methods, runs, strict=True) if run.info},
    )
    planned = plan_sheets(
        [(p.id, *_duel(truths[p.id], methods)) for p in pairs if not truths[p.id].check],
        [pair.id for pair, _ in checks],
        sheets=options.sheets,
        per_sheet=options.per_sheet,
        rng=rng,
    )
    rng.shuffle(pairs)
    return _publish(folder, key, pairs, planned, options), key


def _publish(
    folder: Path, key: Key, pairs: Sequence[Pair], planned: Sequence[tuple[object, ...]], options: Options
) -> Study:
    key_bytes = (key.model_dump_json(indent=1) + "\n").encode()
    study = Study.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "id": secrets.token_hex(6),
            "title": options.title,
            "question": options.question,
            "consent": options.consent,
            "pairs": tuple(pairs),
            "sheets": tuple(planned),
            "key_sha256": sha256_bytes(key_bytes),
        }
    )
    public = folder / PUBLIC_NAME
    for name in PAGE_FILES:
        shutil.copyfile(Path(__file__).parent / "page" / name, public / name)
    (public / "index.html").write_text(render_page(study, served=False), "utf-8")
    atomic_write_bytes(folder / KEY_NAME, key_bytes)
    (folder / KEY_NAME).chmod(0o600)
    atomic_write_bytes(folder / STUDY_NAME, (study.model_dump_json(indent=1) + "\n").encode())
    return study


def render_page(study: Study, *, served: bool) -> str:
    """The page raters see; a served one sends its answers, a static one keeps them for download."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data = study.model_dump(mode="json", include={"id", "question", "pairs", "sheets"})
    paragraphs = [part for part in study.consent.split("\n\n") if part.strip()]
    return environment.get_template("index.html").render(
        study=study, paragraphs=paragraphs, data=data, mode="served" if served else "static"
    )


def _method(run: Run) -> str:
    models = {row.model for row in run.rows}
    if len(models) != 1 or run.info is None:
        raise UsageError(f"{run.folder}: a sealed run of exactly one model is needed")
    if "pictures" not in run.info.scored:
        raise UsageError(f"{run.folder}: is the run of a matcher, which holds no pictures to choose between")
    return next(iter(models))


def _require_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for row in run.rows:
            known = next((r.signature for r in first.rows if r.metric == row.metric), row.signature)
            if row.signature != known:
                raise SignatureMismatch(
                    f"{first.folder} and {run.folder} were measured differently in {row.metric}",
                    "compare pictures of one dataset under one protocol",
                )


def _choose(runs: Sequence[Run], count: int, rng: random.Random) -> list[str]:
    everywhere = [
        sample
        for sample in dict.fromkeys(row.sample for row in runs[0].rows)
        if all(run.info is not None and sr_path(run.folder, run.info, sample).is_file() for run in runs)
    ]
    if not everywhere:
        raise UsageError("no sample was restored by every run")
    return sorted(rng.sample(everywhere, min(count, len(everywhere))), key=everywhere.index)


def _restored(run: Run, sample: str) -> Image:
    assert run.info is not None
    return load_image(sr_path(run.folder, run.info, sample))


def _duel(truth: Truth, methods: Sequence[str]) -> tuple[tuple[str, str], Literal[0, 1]]:
    """The two methods in the order of ``methods``, and where the first of them is in the pair."""
    first, second = sorted(truth.methods, key=methods.index)
    return (first, second), 0 if truth.methods[0] == first else 1


def _attention_checks(
    dataset: Dataset, samples: Sequence[str], count: int, writer: _Writer, rng: random.Random
) -> list[tuple[Pair, Truth]]:
    """Pairs of an HR picture and a badly blurred copy of it: whoever looks chooses the first."""
    records = [record for record in dataset.records if record.name in set(samples) and record.hr is not None]
    if count and not records:
        raise UsageError("there are no HR pictures to make attention checks of", "leave them out with --checks 0")
    made = []
    for record in rng.sample(records, min(count, len(records))):
        assert record.hr is not None
        hr = read_stored_image(dataset.root, record.hr)
        made.append(writer.pair(Comparison(record.name, ("hr", "degraded")), (hr, _degrade(hr)), check=True))
    return made


def _degrade(image: Image) -> Image:
    height, width = image.shape[:2]
    small = PilImage.fromarray(image).resize((max(1, width // DEGRADE), max(1, height // DEGRADE)))
    return np.asarray(small.resize((width, height), PilImage.Resampling.BILINEAR))


class _Writer:
    """Writes pictures under names that say nothing, in pairs whose order says nothing."""

    def __init__(self, public: Path, rng: random.Random) -> None:
        self.folder = public / "img"
        self.folder.mkdir(parents=True)
        self.rng = rng

    def pair(self, comparison: Comparison, pictures: Sequence[Image], *, check: bool = False) -> tuple[Pair, Truth]:
        first, second = pictures
        if first.shape != second.shape:
            raise UsageError(f"{comparison.sample}: the pictures of {' and '.join(comparison.methods)} differ in size")
        order = [0, 1]
        self.rng.shuffle(order)
        tokens = []
        for i in order:
            token = f"{self.rng.getrandbits(64):016x}"
            (self.folder / f"{token}.png").write_bytes(encode_png(pictures[i]))
            tokens.append(token)
        methods = (comparison.methods[order[0]], comparison.methods[order[1]])
        height, width = first.shape[:2]
        pair = Pair(id=f"{self.rng.getrandbits(40):010x}", pictures=(tokens[0], tokens[1]), width=width, height=height)
        return pair, Truth(sample=comparison.sample, methods=methods, tokens=pair.pictures, check=check)
