"""One picture: ``restore``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refsr_bench.cli.output import device_option, json_option, precision_option, print_json
from refsr_bench.errors import RefsrError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from refsr_bench.schema import Image


_PICTURE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("model_name", metavar="MODEL")
@click.option("--lr", "lr_path", required=True, type=_PICTURE, metavar="FILE", help="What to enlarge.")
@click.option(
    "--ref",
    "ref_paths",
    multiple=True,
    type=_PICTURE,
    metavar="FILE",
    help="A sharp photograph of something similar; again for models that take several.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The SR picture, a .png.")
@device_option
@precision_option
@click.option(
    "--memory-budget",
    default="auto",
    show_default=True,
    metavar="SIZE",
    help="What restoring may take, e.g. 2GB; larger pictures are cut into tiles that change nothing.",
)
@click.option("--allow-inexact-tiles", is_flag=True, help="Allow tiles that do change the result, where no others fit.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the model, e.g. weights=DIR.")
@click.option("--preview/--no-preview", default=True, show_default=True, help="Also write OUT's name + .preview.png.")
@click.option("--overwrite", is_flag=True, help="Replace a picture that is there.")
@json_option
def restore(
    model_name: str,
    lr_path: Path,
    ref_paths: tuple[Path, ...],
    out: Path,
    device: str,
    precision: str,
    memory_budget: str,
    allow_inexact_tiles: bool,
    settings: tuple[str, ...],
    preview: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Enlarge one picture four times with MODEL and, where the model uses one, a reference.

    The picture is taken as it is: no HR picture is needed and nothing is scored. Beside it a preview shows the enlarged
    input, the reference and the result at one size.

    \b
    Examples:
      refsr-bench restore c2matching --lr small.png --ref similar.jpg --out large.png
      refsr-bench restore bicubic --lr small.png --out large.png --no-preview --json
    """
    from refsr_bench.cli.runner import load_plugin
    from refsr_bench.disk import atomic_write_bytes
    from refsr_bench.images import encode_png, load_image

    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} must end in .png", "pictures are written without loss")
    preview_path = out.with_name(f"{out.stem}.preview.png") if preview else None
    for path in (out, preview_path):
        if path is not None and path.exists() and not overwrite:
            raise UsageError(f"{path} is there already", "choose another --out, or add --overwrite")
    lr, refs = load_image(lr_path), [load_image(path) for path in ref_paths]
    asked = {
        "device": device,
        "precision": precision,
        "memory_budget": memory_budget,
        "allow_inexact_tiles": "yes" if allow_inexact_tiles else "no",
    }
    plugin = load_plugin(model_name, settings, asked)
    if not plugin.restores:
        raise UsageError(f"{model_name} finds correspondences and makes no pictures")
    if plugin.card.uses_reference and not refs:
        raise UsageError(f"{plugin.card.name} needs a reference", "give one with --ref")
    most = plugin.card.max_references
    if plugin.card.uses_reference and most is not None and len(refs) > most:
        raise UsageError(f"{plugin.card.name} takes {most} reference(s), {len(refs)} are given")
    started = time.perf_counter()
    sr = _to_picture(plugin.made.restore(lr, refs), lr.shape)
    seconds = round(time.perf_counter() - started, 2)
    atomic_write_bytes(out, encode_png(sr))
    if preview_path is not None:
        atomic_write_bytes(preview_path, encode_png(_side_by_side(lr, refs, sr)))
    if as_json:
        report = {"sr": str(out), "preview": preview_path and str(preview_path), "seconds": seconds}
        print_json(report | {"model": plugin.card.model_dump(mode="json", exclude_defaults=True)})
        return
    click.echo(f"{out}: {sr.shape[1]}×{sr.shape[0]} px by {plugin.card.name}, {seconds} s")
    if preview_path is not None:
        click.echo(f"preview: {preview_path}")


def _to_picture(sr: NDArray[np.float32], lr_shape: tuple[int, ...]) -> Image:
    import numpy as np

    if sr.shape != (4 * lr_shape[0], 4 * lr_shape[1], 3) or not np.isfinite(sr).all():
        raise RefsrError(f"the model returned {sr.shape}, or values that are no numbers")
    rounded: Image = np.rint(np.clip(sr, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded


def _side_by_side(lr: Image, refs: list[Image], sr: Image) -> Image:
    """The enlarged input, the first reference and the result, at the result's height, with a caption each."""
    import cv2
    import numpy as np

    from refsr_bench.images import resize_bicubic

    height, width = sr.shape[:2]
    panels = [("input, bicubic", resize_bicubic(lr, height, width)), ("result", sr)]
    if refs:
        fit = resize_bicubic(refs[0], height, max(1, round(refs[0].shape[1] * height / refs[0].shape[0])))
        panels.insert(1, ("reference", fit))
    scale = max(0.4, height / 700)
    strip = round(34 * scale)
    framed = []
    for caption, picture in panels:
        panel = np.full((height + strip, picture.shape[1] + 8, 3), 255, np.uint8)
        panel[strip:, :-8] = picture
        cv2.putText(panel, caption, (4, round(24 * scale)), cv2.FONT_HERSHEY_SIMPLEX, 0.7 * scale, (0, 0, 0), 1, 16)
        framed.append(panel)
    return np.hstack(framed)
