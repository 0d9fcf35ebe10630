"""Signatures: text and back, explained to the last key; reference rules."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsr_bench.errors import UsageError
from refsr_bench.lookup import find, list_entries
from refsr_bench.protocols.correspondence import match_signature
from refsr_bench.protocols.references import REFERENCE_RULES
from refsr_bench.protocols.spec import (
    PRESETS,
    EvalProtocol,
    applies,
    explain_signature,
    find_protocol,
    find_protocols,
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
def test_every_signature_we_write_can_be_explained(protocol: EvalProtocol) -> None:
    everywhere: dict[str, Any] = {"samples": 21, "with_truth": 9}
    usual = {"dataset_id": "demo@1f3c9a"}
    odd = {"dataset_id": "demo@1f3c9a+modified", "lr": "shipped.matlab.bicubic", "subset": "texture@1f3c9a"}
    rules = [rule.replace("K", "3") for rule in REFERENCE_RULES]
    for name, rule, data in itertools.product(list_entries("metrics"), rules, (usual, odd)):
        metric = find("metrics", name)
        if not applies(metric, protocol):
            continue
        write = partial(match_signature, sees="lr") if metric.on == "matches" else signature_of
        signature = write(metric, protocol, refs_rule=rule, **everywhere, **data)
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


def test_unknown_protocol() -> None:
    with pytest.raises(UsageError, match="c2-2021"):
        find_protocol("c2-2020")


def test_a_preset_with_changes() -> None:
    protocol = find_protocol("ttsr-2020+crop=4+lr=cv2.bicubic")
    assert (protocol.name, protocol.crop_px) == ("ttsr-2020+crop=4+lr=cv2.bicubic", 4)
    assert (protocol.downsample, protocol.luma) == ("cv2.bicubic", "y601ttsr")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("c2-2021+corp=4", 'did you mean "crop"'),
        ("c2-2021+crop=-1", "crop_px"),
        ("c2-2021+lr=pil.nearest", "pil.bicubic"),
        ("c2-2021+crop", "crop_px"),
        ("c2-2021,masa-2020", "masa-2021"),
    ],
)
def test_a_protocol_that_cannot_be(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_protocols(name)
    assert message in str(caught.value)


def test_all_protocols_begin_with_the_default() -> None:
    names = [protocol.name for protocol in find_protocols("all")]
    assert names[: len(PRESETS)] == list(PRESETS)
    assert names[0] == "c2-2021"
    assert [p.name for p in find_protocols("ttsr-2020,c2-2021,ttsr-2020")] == ["ttsr-2020", "c2-2021"]
