"""What stands beside the pictures of a curated set: pair list, licences, attribution, datasheet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from refsr_bench.collectors.curation.asking import DO_NOT_REDISTRIBUTE
from refsr_bench.collectors.curation.selection import Picture, Selected
from refsr_bench.schema import Record, StoredFile
from refsr_bench.store import add_file

PAIRS = "WR-SR_pairs.txt"
LICENCES = "LICENCES.csv"
ATTRIBUTION = "ATTRIBUTION.md"
DATASHEET = "DATASHEET.md"


def write_documents(
    root: Path,
    records: Sequence[Record],
    rows: Sequence[Selected],
    dropped: Sequence[Selected],
    lost: Sequence[Mapping[str, str]],
    options: Mapping[str, str],
) -> tuple[StoredFile, ...]:
    """Write all four into a dataset under construction; ``rows`` belong to ``records`` one by one."""
    pairs = "".join(f"{record.name}.png {record.name}_ref.png\n" for record in records)
    pictures = [
        (record.name, role, file, picture)
        for record, row in zip(records, rows, strict=True)
        for role, file, picture in (
            ("input", f"input/{record.name}.png", row.image),
            ("reference", f"ref/{record.name}_ref.png", row.reference),
        )
        if picture is not None
    ]
    return (
        add_file(root, PAIRS, pairs.encode()),
        add_file(root, LICENCES, _licences(pictures).encode()),
        add_file(root, ATTRIBUTION, _attribution(pictures).encode()),
        add_file(root, DATASHEET, _datasheet(records, rows, dropped, lost, options).encode()),
    )


def _licences(pictures: Sequence[tuple[str, str, str, Picture]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(
        [
            "sample",
            "role",
            "file",
            "title",
            "creator",
            "licence",
            "licence_url",
            "url",
            "page",
            "provider",
            "sha256",
            "marks",
        ]
    )
    for sample, role, file, picture in pictures:
        origin = picture.origin
        values = [
            sample, role, file, origin.title, origin.creator, origin.licence, origin.licence_url, origin.url or "",
            origin.landing or "", origin.provider, picture.sha256, " ".join(origin.marks),
        ]  # fmt: skip
        table.writerow([_cell(value) for value in values])
    return out.getvalue()


def _cell(text: str) -> str:
    """A value that no spreadsheet takes for a formula.

    >>> _cell("=HYPERLINK(1)"), _cell("plain")
    ("'=HYPERLINK(1)", 'plain')
    """
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _attribution(pictures: Sequence[tuple[str, str, str, Picture]]) -> str:
    lines = ["# Attribution", "", "Inputs are unchanged but for their file format; larger references were reduced.", ""]
    for _, role, file, picture in pictures:
        origin = picture.origin
        title = _plain(origin.title) or "untitled"
        by = f" by {_plain(origin.creator)}" if origin.creator else ""
        where = f", <{_address(origin.landing or origin.url)}>" if origin.landing or origin.url else ""
        licence = f"{origin.licence}{f' <{_address(origin.licence_url)}>' if origin.licence_url else ''}"
        marks = f" **{', '.join(origin.marks)}**" if origin.marks else ""
        lines.append(f"* `{file}` ({role}): {title}{by}{where}; {licence}{marks}")
    return "\n".join(lines) + "\n"


def _datasheet(
    records: Sequence[Record],
    rows: Sequence[Selected],
    dropped: Sequence[Selected],
    lost: Sequence[Mapping[str, str]],
    options: Mapping[str, str],
) -> str:
    licences = Counter(p.origin.licence for row in rows for p in (row.image, row.reference) if p is not None)
    providers = Counter(row.reference.origin.provider for row in rows if row.reference is not None)
    closed = sum(DO_NOT_REDISTRIBUTE in record.tags for record in records)
    sides = [f"{record.hr.width}x{record.hr.height}" for record in records if record.hr is not None]
    times = sorted(row.time for row in [*rows, *dropped])
    sections = {
        "Motivation": "Reference-based super-resolution on pairs found as people find them: a photograph, and the most "
        "suitable picture that a search of the web brings (section 4 of the C2-Matching paper, made again).",
        "Composition": f"{len(records)} pairs of photographs, one reference each. Inputs are {_range(sides)} px. "
        f"Categories: {_counts(Counter(row.category or 'none given' for row in rows))}.",
        "Collection": f"References come from {_counts(providers)}. Copies of the query were refused before anybody saw "
        f"the candidates. Chosen by {', '.join(sorted({_plain(row.reviewer) for row in rows}))} between {times[0]} and "
        f"{times[-1]}. {len(dropped)} queries were dropped for want of a reference"
        + (f": {_counts(Counter(_plain(row.reason) or 'no reason given' for row in dropped))}." if dropped else "."),
        "Processing": f"References: {options['reference_size']}. All pictures are 8-bit RGB PNG. Selection: SHA-256 "
        f"{options['selection']}.",
        "Distribution": f"Licences: {_counts(licences)}. {closed} pairs hold a picture that must not be handed on "
        f"({DO_NOT_REDISTRIBUTE}): share the selection, which holds no pixels, not these files. `{LICENCES}` and "
        f"`{ATTRIBUTION}` name every source.",
        "Maintenance": "Authors and people shown may ask for removal: refsr-bench curate drop URL, then build again.",
        "Gone from the web": "\n".join(
            f"* {_plain(one['query'])}, {one['role']}: {_plain(one['address'])}: {_plain(one['reason'])}"
            for one in lost
        )
        or "Nothing.",
    }
    return "# Datasheet\n\n" + "\n".join(f"## {title}\n\n{text}\n" for title, text in sections.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counter.most_common())


def _range(sizes: Sequence[str]) -> str:
    by_area = sorted(sizes, key=lambda size: int(size.split("x")[0]) * int(size.split("x")[1]))
    return by_area[0] if by_area[0] == by_area[-1] else f"{by_area[0]} to {by_area[-1]}"


def _plain(text: str) -> str:
    """Text that stays text in Markdown and in a terminal.

    >>> _plain("<script>x</script> [a](b)")
    '\\\\<script\\\\>x\\\\</script\\\\> \\\\[a\\\\](b)'
    """
    printable = "".join(c if c.isprintable() else " " for c in text)
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in printable)


def _address(url: str | None) -> str:
    return "".join(c for c in url or "" if c.isprintable() and c not in "<> ")
