"""What a published dataset is built from: its archives, fetched or given, unpacked once, or a folder as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from refsr_bench.collectors.archives import INDEX_NAME, is_archive, read_index, safe_extract
from refsr_bench.collectors.layout import Found, list_files
from refsr_bench.collectors.trust import recorded_hashes
from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.schema import DatasetCard, SourceFile
from refsr_bench.store import cache_dir, sha256_file


class Material(NamedTuple):
    """Files to build from, what to remember of the archives, and what to write down about their origin."""

    where: str
    files: tuple[Found, ...]
    hashes: dict[str, str]
    """Published file name to SHA-256, to be trusted once the build has verified."""
    sources: dict[str, str]


def archive_folder(card: DatasetCard) -> Path:
    """Folder where a dataset's archives are looked for and downloaded to."""
    return cache_dir() / "archives" / card.name


def gather(
    card: DatasetCard,
    source: Path | None,
    *,
    expect_sha256: str | None,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    allow_private: bool = False,
) -> Material:
    """The files of ``source`` (an archive, a folder of archives, a folder of pictures), or of the published archives.

    ``expect_sha256`` is HASH, or FILE=HASH where there are several archives. `ManualStepNeeded` says what to get from
    where if an archive is not here and cannot be downloaded.
    """
    if source is not None and source.is_dir():
        given = _archives_in(source, card)
        if not given:
            if expect_sha256 is not None:
                raise UsageError("--expect-sha256 is the hash of an archive; a folder has none")
            files = [found for found in list_files(source) if found.name.name != INDEX_NAME]
            return Material(str(source), tuple(files), {}, {source.resolve().name: "a folder, as given"})
    elif source is not None:
        given = {_published_name(source, card): source}
    else:
        given = {}
    expected = _expected_hashes(card, given, expect_sha256)
    if source is None:
        given = {
            each.file: _fetch(card, each, expected.get(each.file), progress, note, allow_private)
            for each in card.sources
        }
    elif source.is_dir() and len(given) < len(card.sources):
        missing = [each.file for each in card.sources if each.file not in given]
        raise ManualStepNeeded(f"{source}: {', '.join(missing)} is not in this folder", manual_steps(card))
    return _unpack(card, given, expected, progress, note)


def _archives_in(folder: Path, card: DatasetCard) -> dict[str, Path]:
    by_name = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_file()}
    return {each.file: by_name[each.file.casefold()] for each in card.sources if each.file.casefold() in by_name}


def _published_name(archive: Path, card: DatasetCard) -> str:
    """Which of the published files a given archive is; with one source, whatever its name."""
    if not is_archive(archive):
        raise UsageError(f"{archive}: neither a folder nor a zip or tar archive")
    names = {each.file.casefold(): each.file for each in card.sources}
    if len(card.sources) == 1:
        return card.sources[0].file
    return names.get(archive.name.casefold(), archive.name)


def _expected_hashes(card: DatasetCard, given: Mapping[str, Path], expect_sha256: str | None) -> dict[str, str]:
    """The hash that each archive must have, as far as anybody said: the user, the card, the first build."""
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
    allow_private: bool,
) -> Path:
    from refsr_bench.collectors.fetch import Unavailable, fetch
    from refsr_bench.collectors.http import Offline

    def on_bytes(done: int, total: int | None) -> None:
        progress(done, total or done)

    target = archive_folder(card) / each.file
    try:
        fetched = fetch(each.urls, target, sha256=expected, note=note, progress=on_bytes, allow_private=allow_private)
    except (Unavailable, Offline) as reason:
        hash_known = f" (SHA-256 {expected})" if expected else ""
        raise ManualStepNeeded(
            f"{card.name} needs the file {each.file}{hash_known}, which cannot be downloaded. {reason.problem}",
            manual_steps(card),
        ) from None
    return fetched.path


def manual_steps(card: DatasetCard) -> str:
    """What a person has to do where a program cannot: where people get each file, and the command to run then."""
    steps = [f"{each.file} ({each.holds}): {each.found_at}" for each in card.sources]
    several = len(card.sources) > 1
    place = "a folder that holds both archives" if several else f"the path of {card.sources[0].file}"
    steps.append(f"put it into {archive_folder(card)} and run: refsr-bench build {card.name}")
    steps.append(f"or keep it where it is and run: refsr-bench build {card.name} --from PATH, PATH being {place}")
    return "\n  ".join(steps)


def _unpack(
    card: DatasetCard,
    given: Mapping[str, Path],
    expected: Mapping[str, str],
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
        index = read_index(unpacked) or safe_extract(archive, unpacked, progress=progress)
        prefix = PurePosixPath(_stem(name))
        files += [Found(prefix / path, unpacked / path, file_digest) for path, file_digest in sorted(index.items())]
        hashes[name] = digest
    where = ", ".join(str(archive) for archive in given.values())
    return Material(where, tuple(files), hashes, {name: f"sha256 {digest}" for name, digest in hashes.items()})


def _stem(file: str) -> str:
    return file.split(".")[0]


def describe_sources(card: DatasetCard, source: Path | None) -> list[dict[str, Any]]:
    """What a build would be made from, asked of nobody: for ``build --dry-run``."""
    if source is not None:
        return [{"from": str(source), "kind": "folder" if source.is_dir() else "archive"}]
    known = recorded_hashes(card.name)
    return [
        {
            "file": each.file,
            "state": _state(archive_folder(card) / each.file, each.urls),
            "sha256": each.sha256 or known.get(each.file) or "unknown: trusted on first use",
            "urls": list(each.urls),
            "found_at": each.found_at,
        }
        for each in card.sources
    ]


def _state(archive: Path, urls: Sequence[str]) -> str:
    if archive.is_file():
        return f"here: {archive}"
    return "would be downloaded" if urls else f"has to be put into {archive.parent}"
