"""What a published dataset is built from: its archives, fetched or given, unpacked once, or a folder as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from refsr_bench.collectors.archives import INDEX_NAME, is_archive, read_index, safe_extract
from refsr_bench.collectors.fetch import Fetched, Unavailable, fetch
from refsr_bench.collectors.http import Offline
from refsr_bench.collectors.layout import Found, is_picture, list_files
from refsr_bench.collectors.trust import recorded_hashes
from refsr_bench.disk import sha256_file
from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.schema import DatasetCard, SourceFile
from refsr_bench.store import cache_dir


class Material(NamedTuple):
    """Files to build from, what to remember of the archives, and what to write down about their origin."""

    where: str
    files: tuple[Found, ...]
    hashes: dict[str, str]
    """File name to SHA-256 of the archives, to be trusted once the build has verified."""
    sources: dict[str, str]


def archive_folder() -> Path:
    """Folder where archives are looked for and downloaded to."""
    return cache_dir() / "archives"


def gather(
    card: DatasetCard,
    source: Path | None,
    *,
    expect_sha256: str | None,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> Material:
    """The files of ``source`` (an archive, a folder of archives, a folder of pictures), or of the published archives.

    ``expect_sha256`` is HASH, or FILE=HASH where there are several archives. `ManualStepNeeded` says what to get from
    where if an archive is not here and cannot be downloaded.
    """
    given = {} if source is None else _archives_at(source, card)
    if source is not None and not given:
        if expect_sha256 is not None:
            raise UsageError("--expect-sha256 is the hash of an archive; a folder has none")
        files = [found for found in list_files(source) if found.name.name != INDEX_NAME]
        return Material(str(source), tuple(files), {}, {source.resolve().name: "a folder, as given"})
    expected = _expected_hashes(card, given, expect_sha256)
    origins: dict[str, str] = {}
    if source is None:
        for each in card.sources:
            fetched = _fetch(card, each, expected.get(each.file), progress, note)
            given[each.file] = fetched.path
            origins[each.file] = "; ".join((f" from {fetched.url}", *fetched.failures))
    return _unpack(card, given, expected, origins, progress, note)


def _archives_at(source: Path, card: DatasetCard) -> dict[str, Path]:
    """Published file name to path of the archives that ``source`` is or holds; none if it is a folder of pictures."""
    if not source.is_dir():
        if not is_archive(source):
            raise UsageError(f"{source}: neither a folder nor a zip or tar archive")
        # Whatever a single archive is called, it stands for the published one.
        return {card.sources[0].file if len(card.sources) == 1 else source.name: source}
    archives = {path.name: path for path in sorted(source.iterdir()) if path.is_file() and is_archive(path)}
    by_name = {name.casefold(): path for name, path in archives.items()}
    published = {each.file: by_name[each.file.casefold()] for each in card.sources if each.file.casefold() in by_name}
    if published and (missing := [each.file for each in card.sources if each.file not in published]):
        raise ManualStepNeeded(f"{source}: {', '.join(missing)} is not in this folder", manual_steps(card))
    # A folder that holds nothing but archives of other names is what a Google Drive folder becomes: packed in parts.
    pictures = any(is_picture(found.name) for found in list_files(source)) if archives and not published else True
    return published or ({} if pictures else archives)


def _expected_hashes(card: DatasetCard, given: Mapping[str, Path], expect_sha256: str | None) -> dict[str, str]:
    """The hash that each archive must have, as far as anybody said: the first build, the card, the user."""
    expected = recorded_hashes(card.name)
    expected |= {each.file: each.sha256 for each in card.sources if each.sha256 is not None}
    if expect_sha256 is None:
        return expected
    file, _, digest = expect_sha256.rpartition("=")
    names = list(given) or [each.file for each in card.sources]
    if not file and len(names) > 1:
        raise UsageError("there are several archives", f"--expect-sha256 FILE=HASH with one of {', '.join(names)}")
    if file and file not in names:
        raise UsageError(f"{card.name} has no archive {file!r}", f"it has {', '.join(names)}")
    if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
        raise UsageError(f"{digest!r} is not a SHA-256: 64 hexadecimal digits")
    return expected | {file or names[0]: digest.lower()}


def _fetch(
    card: DatasetCard,
    each: SourceFile,
    expected: str | None,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> Fetched:
    def on_bytes(done: int, total: int | None) -> None:
        progress(done, total or done)

    try:
        return fetch(each.urls, archive_folder() / each.file, sha256=expected, note=note, progress=on_bytes)
    except (Unavailable, Offline) as reason:
        hash_known = f" (SHA-256 {expected})" if expected else ""
        raise ManualStepNeeded(
            f"{card.name} needs the file {each.file}{hash_known}, which cannot be downloaded. {reason.problem}",
            manual_steps(card),
        ) from None


def manual_steps(card: DatasetCard) -> str:
    """What a person has to do where a program cannot: where people get each file, and the command to run then."""
    place = "a folder that holds both archives" if len(card.sources) > 1 else f"the path of {card.sources[0].file}"
    steps = [
        *(f"{each.file} ({each.holds}): {each.found_at}" for each in card.sources),
        f"put it into {archive_folder()} and run: refsr-bench build {card.name}",
        f"or keep it where it is and run: refsr-bench build {card.name} --from PATH, PATH being {place}",
    ]
    return "\n  ".join(steps)


def _unpack(
    card: DatasetCard,
    given: Mapping[str, Path],
    expected: Mapping[str, str],
    origins: Mapping[str, str],
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> Material:
    files: list[Found] = []
    hashes: dict[str, str] = {}
    for name, archive in given.items():
        digest = sha256_file(archive)
        if expected.get(name, digest) != digest:
            raise IntegrityError(
                f"{archive}: its SHA-256 is {digest}, expected {expected[name]}; not unpacked",
                f"if you know that this file is right: --expect-sha256 {name}={digest}",
            )
        if name not in expected:
            note(f"{name}: trusted on first use, SHA-256 {digest}; another file under this name will be refused")
        unpacked = cache_dir() / "unpacked" / digest[:32]
        if (index := read_index(unpacked)) is None:
            note(f"unpacking {archive.name}")
            index = safe_extract(archive, unpacked, progress=progress)
        prefix = PurePosixPath(name.split(".")[0])
        files += [Found(prefix / path, unpacked / path, file_digest) for path, file_digest in sorted(index.items())]
        hashes[name] = digest
    where = ", ".join(str(archive) for archive in given.values())
    sources = {name: f"sha256 {digest}{origins.get(name, '')}" for name, digest in hashes.items()}
    return Material(where, tuple(files), hashes, sources)


def describe_sources(card: DatasetCard, source: Path | None) -> list[dict[str, Any]]:
    """What a build would be made from, asked of nobody: for ``build --dry-run``."""
    if source is not None:
        archives = _archives_at(source, card) or {"folder": source}
        return [{"file": name, "state": f"here: {path}"} for name, path in archives.items()]
    known = recorded_hashes(card.name)
    return [
        {
            "file": each.file,
            "state": _state(archive_folder() / each.file, each),
            "sha256": each.sha256 or known.get(each.file) or "unknown: trusted on first use",
            "urls": list(each.urls),
            "found_at": each.found_at,
        }
        for each in card.sources
    ]


def _state(archive: Path, each: SourceFile) -> str:
    if archive.is_file():
        return f"here: {archive}"
    return "would be downloaded" if each.urls else f"has to be put into {archive.parent}"
