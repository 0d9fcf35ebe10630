"""Licences as providers write them, brought to one form, and which of them allow what."""

from __future__ import annotations

import re
from typing import Literal

Policy = Literal["open", "noncommercial", "any"]
POLICIES: tuple[Policy, ...] = ("open", "noncommercial", "any")
UNKNOWN = "unknown"
RESERVED = "all-rights-reserved"

_OPEN = ("cc0", "pdm", "cc-by", "cc-by-sa")
_NONCOMMERCIAL = ("cc-by-nc", "cc-by-nc-sa")
_PARTS = {"by", "nc", "nd", "sa"}


def normalise_licence(text: str, url: str = "") -> str:
    """A licence in one form: ``cc-by-sa-4.0``, ``cc0-1.0``, ``pdm-1.0``, ``all-rights-reserved`` or ``unknown``.

    ``text`` is what the provider calls it, ``url`` the address of its text, which goes first where both are known.

    >>> normalise_licence("CC BY-SA 4.0"), normalise_licence("by", "https://creativecommons.org/licenses/by/2.0/")
    ('cc-by-sa-4.0', 'cc-by-2.0')
    >>> normalise_licence("Public domain"), normalise_licence("CC0"), normalise_licence("see the page")
    ('pdm-1.0', 'cc0-1.0', 'unknown')
    """
    address = re.search(r"creativecommons\.org/(licenses|publicdomain)/([a-z-]+)/?(\d\.\d)?", url.lower())
    if address is not None:
        kind, version = address[2], address[3]
        if address[1] == "publicdomain":
            return {"zero": "cc0-1.0", "mark": "pdm-1.0"}.get(kind, UNKNOWN)
        return _join(kind.split("-"), version)
    words = " ".join(text.lower().replace("creative commons", "cc").split())
    if re.match(r"cc[- ]?(0|zero)\b", words):
        return "cc0-1.0"
    if re.match(r"(public domain|pdm|pd)\b", words):
        return "pdm-1.0"
    if "all rights reserved" in words or words == RESERVED:
        return RESERVED
    found = re.match(r"(?:cc[- ]|cc$)?(by(?:[- ](?:nc|nd|sa))*)(?:[- ](\d\.\d))?(?![\w.]| [a-z])", words)
    return _join(re.split(r"[- ]", found[1]), found[2]) if found is not None else UNKNOWN


def _join(parts: list[str], version: str | None) -> str:
    if not parts or parts[0] != "by" or not set(parts) <= _PARTS:
        return UNKNOWN
    return "-".join(["cc", *parts, *([version] if version else [])])


def is_allowed(licence: str, policy: Policy) -> bool:
    """Whether pictures under ``licence`` are fetched: those that allow changed copies, without or with "no commerce".

    >>> is_allowed("cc-by-sa-4.0", "open"), is_allowed("cc-by-nc-2.0", "open"), is_allowed("cc-by-nd-2.0", "any")
    (True, False, True)
    """
    kind = re.sub(r"-\d\.\d$", "", licence)
    return policy == "any" or kind in _OPEN or (policy == "noncommercial" and kind in _NONCOMMERCIAL)


def may_redistribute(licence: str) -> bool:
    """Whether a rescaled copy may be handed on; everything else is marked ``do-not-redistribute``."""
    return is_allowed(licence, "noncommercial")
