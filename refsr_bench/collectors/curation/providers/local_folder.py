"""Pictures that lie on this disk: ``SOURCE/NAME/`` for the query NAME if it exists, else all of ``SOURCE``."""

from __future__ import annotations

from collections.abc import Iterator

from refsr_bench.collectors.curation.providers import Ask, Found, Provider, ProviderFault, Question
from refsr_bench.images import SUFFIXES


def search(question: Question, ask: Ask) -> Iterator[Found]:
    """The folder's pictures by name; their licence is the one given with ``--source-license``."""
    source = question.source
    if source is None or not source.is_dir():
        raise ProviderFault("local-folder needs a folder: --source")
    own = source / question.name
    folder = own if own.is_dir() else source
    pictures = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
    for path in pictures[: question.top]:
        yield Found(path=path, title=path.name)


PROVIDER = Provider(search, needs="source")
