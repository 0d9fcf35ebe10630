"""Signatures: text and back, explained to the last key; reference rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsr_bench.errors import UsageError
from refsr_bench.lookup import find, list_entries
from refsr_bench.protocols.spec import (
    PRESETS,
    REFERENCE_RULES,
    explain_signature,
    find_protocol,
    select_references,
    signature_of,
)
from refsr_bench.signature import make_signature, parse_signature

part = st.text(st.characters(codec="ascii", exclude_characters="|:", min_codepoint=33, max_codepoint=126), min_size=1)


@given(part, st.dictionaries(part, part))
def test_parsing_undoes_formatting(metric: str, fields: dict[str, str]) -> None:
    signature = make_signature(metric, fields)
    assert parse_signature(str(signature)) == signature


@pytest.mark.parametrize("text", ["psnr_y|crop", "psnr_y|crop:4|crop:4", "psnr_y|crop:", "", "a|b:c d", "a|b:c:d"])
def test_broken_signatures_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_signature(text)


@pytest.mark.parametrize("protocol", list(PRESETS.values()), ids=str)
@pytest.mark.parametrize("name", list_entries("metrics"))
@pytest.mark.parametrize("rule", REFERENCE_RULES)
def test_every_signature_we_write_can_be_explained(protocol, name: str, rule: str) -> None:  # type: ignore[no-untyped-def]
    signature = signature_of(find("metrics", name), protocol, dataset_id="demo@1f3c9a", samples=21, refs_rule=rule)
    parts = explain_signature(parse_signature(str(signature)), {name: "title"})
    assert len(parts) == 1 + len(signature.fields)
    assert all(meaning for _, meaning in parts)


def test_a_signature_holds_every_choice_of_its_protocol() -> None:
    protocol = find_protocol("c2-2021")
    signature = signature_of(find("metrics", "psnr_y"), protocol, dataset_id="d@123456", samples=3, refs_rule="first")
    values = {value for _, value in signature.fields}
    assert {str(v) for k, v in protocol.model_dump().items() if k != "name"} <= values
    assert dict(signature.fields)["inf"] == "cap100"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psnry|crop:4", "psnr_y"),
        ("psnr_y|corp:4", 'did you mean "crop"'),
        ("psnr_y|crop:four", "not a value"),
        ("psnr_y|ch:y601studioo", "y601studio"),
    ],
)
def test_explaining_the_unknown_names_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain_signature(parse_signature(text), {"psnr_y": "title"})
    assert message in str(caught.value)


def test_reference_rules() -> None:
    assert select_references("first", [1, 2]) == (0,)
    assert select_references("first", []) == ()
    assert select_references("none", [1, 2]) == ()
    assert select_references("level2", [1, 2]) == (1,)
    with pytest.raises(UsageError, match="no reference of level 3"):
        select_references("level3", [1, 2])
    with pytest.raises(UsageError, match="did you mean") as caught:
        select_references("frist", [1])
    assert "first" in str(caught.value)


def test_unknown_protocol() -> None:
    with pytest.raises(UsageError, match="c2-2021"):
        find_protocol("c2-2020")
