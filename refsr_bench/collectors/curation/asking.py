"""Asking providers: every answer is cached, so nothing is asked twice, and a key is in no file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from refsr_bench.collectors.curation.licences import Policy, is_allowed, may_redistribute, normalise_licence
from refsr_bench.collectors.curation.providers import Found, Provider, Question, text_of
from refsr_bench.collectors.curation.rows import Origin, now
from refsr_bench.collectors.curation.web import Web
from refsr_bench.disk import atomic_write_json, sha256_bytes

DO_NOT_REDISTRIBUTE = "do-not-redistribute"


class Asker:
    """Asks JSON APIs through ``web``, keeping what they answer below ``folder``."""

    def __init__(self, folder: Path, web: Web) -> None:
        self.folder = folder
        self.web = web

    def find(self, name: str, provider: Provider, question: Question) -> Iterator[Found]:
        """What a provider finds; raises `web.Fault` or `providers.ProviderFault`."""
        yield from provider.search(question, self.ask)

    def ask(
        self,
        url: str,
        params: Mapping[str, str],
        *,
        secrets: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The parsed answer of an API, from the cache if it was asked before."""
        address = f"{url}?{urlencode(sorted(params.items()))}"
        path = self.folder / f"{sha256_bytes(address.encode())}.json"
        if path.is_file():
            try:
                return json.loads(path.read_bytes())["answer"]
            except (ValueError, KeyError):
                path.unlink()  # torn by a power cut: ask again
        answer = self.web.get_json(url, params, secrets or {}, headers or {})
        if _is_answer(answer):
            atomic_write_json(path, {"asked": address, "time": now(), "answer": answer})
        return answer


def _is_answer(answer: Any) -> bool:
    """Whether an answer is worth keeping; an error in an answer's clothes is asked again."""
    return isinstance(answer, dict) and answer.get("stat", "ok") == "ok" and "error" not in answer


def origin_of(provider: str, found: Found, policy: Policy, source_licence: str = "") -> Origin | None:
    """Where a find comes from, its licence in one form; None if the policy does not allow it."""
    licence = normalise_licence(found.licence or source_licence, found.licence_url)
    if not is_allowed(licence, policy):
        return None
    return describe(provider, found, source_licence)


def describe(provider: str, found: Found, source_licence: str = "") -> Origin:
    """Where a find comes from, whatever its licence."""
    licence = normalise_licence(found.licence or source_licence, found.licence_url)
    return Origin(
        provider=provider,
        url=text_of(found.url, 2000) if found.url else None,
        landing=text_of(found.landing, 2000) if found.landing else None,
        title=text_of(found.title),
        creator=text_of(found.creator),
        licence=licence,
        licence_url=text_of(found.licence_url, 2000),
        marks=() if may_redistribute(licence) else (DO_NOT_REDISTRIBUTE,),
    )
