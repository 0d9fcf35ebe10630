"""Set5 (5 pictures with MATLAB LR): single pictures, for calibration."""

from __future__ import annotations

import functools

from refsr_bench.collectors.layout import recognise_self_ex_sr, self_ex_sr_slots
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.schema import DatasetCard, SourceFile

CARD = DatasetCard(
    name="set5",
    version="1",
    title="Set5 (5 pictures with MATLAB LR)",
    licence="not stated by its publishers; for research",
    citation=(
        "Bevilacqua, Roumy, Guillemot, Alberi-Morel: Low-Complexity Single-Image Super-Resolution, BMVC 2012; "
        "files of Huang, Singh, Ahuja: Single Image Super-Resolution from Transformed Self-Exemplars, CVPR 2015"
    ),
    builder_version="1",
    samples=5,
    references="none",
    sources=(
        SourceFile(
            file="Set5_SR.zip",
            holds="image_SRF_4/img_NNN_SRF_4_HR.png and ..._LR.png among other factors and methods",
            urls=("https://uofi.box.com/shared/static/kfahv87nfe8ax910l85dksyl2q212voc.zip",),
            found_at="the download links of github.com/jbhuang0604/SelfExSR",
        ),
    ),
    description="""\
Five pictures that every single-image paper reports: here for calibrating metrics and imported weights.

Published layout (SelfExSR): `image_SRF_4/img_NNN_SRF_4_HR.png` and `img_NNN_SRF_4_LR.png`; other factors and the
results of other methods beside them are passed over and counted. The LR pictures are kept as `lr` with their
kernel, MATLAB's bicubic: `eval --lr shipped` uses them, `--lr protocol` (the default) makes LR by the protocol; the
signature tells them apart.""",
)
CARDS = {CARD.name: CARD}

LAYOUT = Layout(recognise=recognise_self_ex_sr, plan=plan_samples, expected=functools.partial(self_ex_sr_slots, 5))

build = functools.partial(build_published, CARD, LAYOUT)
