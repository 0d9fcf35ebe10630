"""Set14 (14 pictures with MATLAB LR): single pictures, for calibration."""

from __future__ import annotations

import functools

from refsr_bench.collectors.layout import recognise_self_ex_sr, self_ex_sr_slots
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.schema import DatasetCard, SourceFile

CARD = DatasetCard(
    name="set14",
    version="1",
    title="Set14 (14 pictures with MATLAB LR)",
    licence="not stated by its publishers; for research",
    citation=(
        "Zeyde, Elad, Protter: On Single Image Scale-Up using Sparse-Representations, Curves and Surfaces 2010; "
        "files of Huang, Singh, Ahuja: Single Image Super-Resolution from Transformed Self-Exemplars, CVPR 2015"
    ),
    builder_version="1",
    samples=14,
    references="none",
    sources=(
        SourceFile(
            file="Set14_SR.zip",
            holds="image_SRF_4/img_NNN_SRF_4_HR.png and ..._LR.png among other factors and methods",
            urls=("https://uofi.box.com/shared/static/igsnfieh4lz68l926l8xbklwsnnk8we9.zip",),
            found_at="the download links of github.com/jbhuang0604/SelfExSR",
        ),
    ),
    description="""\
Fourteen pictures that every single-image paper reports: here for calibration. `img_003` is grey in HR and RGB in
LR.

Published layout (SelfExSR): `image_SRF_4/img_NNN_SRF_4_HR.png` and `img_NNN_SRF_4_LR.png`; other factors and the
results of other methods beside them are passed over and counted. The LR pictures are kept as `lr` with their
kernel, MATLAB's bicubic: `eval --lr shipped` uses them, `--lr protocol` (the default) makes LR by the protocol; the
signature tells them apart.""",
)
CARDS = {CARD.name: CARD}

LAYOUT = Layout(recognise=recognise_self_ex_sr, plan=plan_samples, expected=functools.partial(self_ex_sr_slots, 14))

build = functools.partial(build_published, CARD, LAYOUT)
