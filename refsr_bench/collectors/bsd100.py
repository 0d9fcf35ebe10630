"""BSD100 (100 pictures with MATLAB LR): single pictures, for calibration."""

from __future__ import annotations

import functools

from refsr_bench.collectors.layout import recognise_self_ex_sr, self_ex_sr_slots
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.schema import DatasetCard, SourceFile

CARD = DatasetCard(
    name="bsd100",
    version="1",
    title="BSD100 (100 pictures with MATLAB LR)",
    licence="Berkeley Segmentation Dataset: non-commercial research and education",
    citation=(
        "Martin, Fowlkes, Tal, Malik: A Database of Human Segmented Natural Images, ICCV 2001; "
        "files of Huang, Singh, Ahuja: Single Image Super-Resolution from Transformed Self-Exemplars, CVPR 2015"
    ),
    builder_version="1",
    samples=100,
    references="none",
    sources=(
        SourceFile(
            file="BSD100_SR.zip",
            holds="image_SRF_4/img_NNN_SRF_4_HR.png and ..._LR.png among other factors and methods; 568 MB",
            urls=("https://uofi.box.com/shared/static/qgctsplb8txrksm9to9x01zfa4m61ngq.zip",),
            found_at="the download links of github.com/jbhuang0604/SelfExSR",
        ),
    ),
    description="""\
The 100 test photographs of BSDS300: for calibration. WR-SR's inputs come from the same database.

Published layout (SelfExSR): `image_SRF_4/img_NNN_SRF_4_HR.png` and `img_NNN_SRF_4_LR.png`; other factors and the
results of other methods beside them are passed over and counted. The LR pictures are kept as `lr` with their
kernel, MATLAB's bicubic: `eval --lr shipped` uses them, `--lr protocol` (the default) makes LR by the protocol; the
signature tells them apart.""",
)
CARDS = {CARD.name: CARD}

LAYOUT = Layout(recognise=recognise_self_ex_sr, plan=plan_samples, expected=functools.partial(self_ex_sr_slots, 100))

build = functools.partial(build_published, CARD, LAYOUT)
