"""The conformance kit: what every model has to do, asked of one model. For plug-in authors and ``refsr-bench check``.

In a test of your own package::

    from refsr_bench.testing import assert_conforms

    def test_my_model_conforms():
        assert_conforms(my_package.build())

Every check runs by itself; what a model raises is a finding, not a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from refsr_bench.conformance import CHECKS, NOT_FINITE, SR, Finding, Scene, check_card, is_untrained, load_scene
from refsr_bench.schema import Image

__all__ = ["Finding", "Report", "Scene", "ablate_reference", "assert_conforms", "check_model", "load_scene"]


class Report(NamedTuple):
    """All findings, and what the reference was worth."""

    findings: tuple[Finding, ...]
    ablation: dict[str, float]
    """PSNR in dB against HR, by what was given as the reference; empty if it takes none or is not finite."""

    @property
    def reference_gain(self) -> float | None:
        """PSNR with the true reference minus that with an unrelated one, dB; None where there is no ablation."""
        return self.ablation["true"] - self.ablation["unrelated"] if self.ablation else None

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that make a model unfit."""
        return tuple(finding for finding in self.findings if finding.status == "fail")


def assert_conforms(model: Any) -> None:
    """AssertionError that lists every failed check."""
    failed = check_model(model).failed
    assert not failed, "\n".join(f"{finding.check}: {finding.detail}" for finding in failed)


def check_model(model: Any, scene: Scene | None = None, progress: Callable[[str], None] | None = None) -> Report:
    """Run every check; ``progress`` is told the name of each before it runs.

    ``scene`` defaults to `load_scene`. A model whose card's name ends in "-untrained" is excused from all that only
    trained weights can do.
    """
    scene = scene or load_scene()
    findings = [check_card(model)]
    if findings[0].status == "fail":
        return Report(tuple(findings), {})
    for name, check in CHECKS.items():
        if progress is not None:
            progress(name)
        findings.append(_guarded(name, check, model, scene))
    if progress is not None:
        progress("reference")
    ablation: dict[str, float] = {}
    findings.append(_guarded("reference", lambda m, s: _reference(m, s, ablation), model, scene))
    return Report(tuple(findings), ablation)


def _guarded(name: str, check: Callable[[Any, Scene], tuple[str, str]], model: Any, scene: Scene) -> Finding:
    try:
        status, detail = check(model, scene)
    except Exception as error:  # anything a stranger's model raises is a finding
        status, detail = "fail", f"raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    assert status in {"pass", "fail", "warn", "skip"}
    return Finding(name, status, detail)  # type: ignore[arg-type]


# --- what the reference is worth -------------------------------------------------------------------------------------


def ablate_reference(model: Any, scene: Scene) -> dict[str, float]:
    """PSNR (RGB, dB, 4 px cut off) against HR with the true reference, black, noise, shuffled and unrelated ones."""
    return {name: _psnr(scene.hr, sr) for name, sr in _ablated(model, scene)}


def substitute_references(scene: Scene, seed: int = 0) -> dict[str, Image]:
    """The references of the ablation by name; "shuffled" is the true one in 8x8 px blocks, in another order."""
    rng = np.random.default_rng(seed)
    height, width = (n // 8 for n in scene.ref.shape[:2])
    cut = scene.ref[: 8 * height, : 8 * width]
    blocks = cut.reshape(height, 8, width, 8, 3).swapaxes(1, 2).reshape(-1, 8, 8, 3)
    mixed = rng.permutation(blocks).reshape(height, width, 8, 8, 3).swapaxes(1, 2).reshape(cut.shape)
    return {
        "true": scene.ref,
        "black": np.zeros_like(scene.ref),
        "noise": rng.integers(0, 256, scene.ref.shape, dtype=np.uint8),
        "shuffled": mixed,
        "unrelated": scene.unrelated,
    }


def _ablated(model: Any, scene: Scene) -> Iterator[tuple[str, SR]]:
    for name, ref in substitute_references(scene).items():
        yield name, model.restore(scene.lr, [ref])


def _reference(model: Any, scene: Scene, ablation: dict[str, float]) -> tuple[str, str]:
    if not model.card.uses_reference:
        return "skip", "uses no reference"
    made = dict(_ablated(model, scene))
    if not all(np.isfinite(sr).all() for sr in made.values()):
        return NOT_FINITE
    ablation.update({name: _psnr(scene.hr, sr) for name, sr in made.items()})
    if all(np.array_equal(made["true"], sr) for sr in made.values()):
        return "fail", "the result is the same with every reference: it is ignored"
    gain = ablation["true"] - ablation["unrelated"]
    listed = ", ".join(f"{name} {value:.2f}" for name, value in ablation.items())
    useful = gain > 0 or is_untrained(model)
    return ("pass" if useful else "warn"), f"reference gain {gain:+.2f} dB (PSNR: {listed})"


def _psnr(hr: Image, sr: SR) -> float:
    made = np.rint(np.clip(sr, 0, 1) * 255)[4:-4, 4:-4]
    error = np.mean((made - hr[4:-4, 4:-4].astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def to_lines(reports: Sequence[Finding]) -> list[str]:
    """Findings for people, one a line."""
    width = max(len(finding.check) for finding in reports)
    return [f"{finding.status:<4}  {finding.check:<{width}}  {finding.detail}" for finding in reports]
