"""Matchers that compare learned features: C2-Matching's two contrastive networks, and fixed VGG-19 features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refsr_bench.errors import UsageError, did_you_mean
from refsr_bench.models.c2matching import RELEASE_LICENCE
from refsr_bench.schema import ModelCard

if TYPE_CHECKING:
    from refsr_bench.models.base import Matcher

_C2_PAPER = "Jiang et al., Robust Reference-based Super-Resolution via C2-Matching, CVPR 2021"

STUDENT = ModelCard(
    name="c2-student",
    title="C2-Matching's contrastive correspondence network (the student), 3x3-patch matching as released",
    paper=_C2_PAPER,
    uses_reference=True,
    parameters=1_110_656,
    weights_licence=RELEASE_LICENCE,
    trained_on="CUFED inputs and their warps",
)
TEACHER = STUDENT.model_copy(
    update={
        "name": "c2-teacher",
        "title": "The teacher of C2-Matching's contrastive network, which is shown the HR picture itself",
        "sees": "hr",
        "weights_licence": "that of whoever trained them: the release has none",
    }
)
VGG19 = ModelCard(
    name="vgg19",
    title="VGG-19 relu3_1 features, 3x3 patches, the reference blurred by x1/4 and x4, as SRNTT matches",
    paper="Zhang et al., Image Super-Resolution by Neural Texture Transfer, CVPR 2019",
    uses_reference=True,
    parameters=555_328,
    weights_licence="that of the VGG-19 file",
    trained_on="ImageNet",
)
CARDS = {card.name: card for card in (STUDENT, TEACHER, VGG19)}


def build_student(weights: str | Path | None = None, device: str = "cpu", untrained: str = "no") -> Matcher:
    """Load the student. weights : folder of the released or imported files, else the model folder is searched.

    untrained : ``yes`` takes random weights instead and calls the matcher ``c2-student-untrained``.
    """
    from refsr_bench.models.matchers import cells

    if _is_yes(untrained):
        return cells.untrained(STUDENT, device)
    return cells.load_student(STUDENT, weights, device)


def build_teacher(weights: str | Path | None = None, device: str = "cpu", untrained: str = "no") -> Matcher:
    """Load a teacher, which only training makes. weights : its file, or a folder with ``teacher.*`` in it.

    untrained : ``yes`` takes random weights instead and calls the matcher ``c2-teacher-untrained``.
    """
    from refsr_bench.models.matchers import cells

    if _is_yes(untrained):
        return cells.untrained(TEACHER, device)
    return cells.load_teacher(TEACHER, weights, device)


def build_vgg19(weights: str | Path | None = None, device: str = "cpu", blur_reference: str = "yes") -> Matcher:
    """Load VGG-19 in either convention. weights : a folder, else the model folder is searched.

    blur_reference : ``yes`` compares with the reference reduced and enlarged by 4, as SRNTT and TTSR do; ``no`` with
    the sharp one, and calls the matcher ``vgg19-sharp``.
    """
    from refsr_bench.models.matchers import cells

    return cells.load_vgg19_matcher(VGG19, weights, device, blur_reference=_is_yes(blur_reference))


def _is_yes(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise UsageError(f"{text!r} is neither yes nor no", did_you_mean(text, ("yes", "no")))
    return text == "yes"
