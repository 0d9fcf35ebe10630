"""Urban100: a hundred pictures of buildings without references; their own LR picture serves as reference."""

from __future__ import annotations

import functools

from refsr_bench.collectors.layout import recognise_self_ex_sr, self_ex_sr_slots
from refsr_bench.collectors.published import Layout, build_published, plan_samples
from refsr_bench.schema import DatasetCard, SourceFile

CARD = DatasetCard(
    name="urban100",
    version="1",
    title="Urban100 (100 pictures, no references)",
    licence="photographs of Flickr users under Creative Commons licences, as stated by its publishers; for research",
    citation="Huang, Singh, Ahuja: Single Image Super-Resolution from Transformed Self-Exemplars, CVPR 2015",
    builder_version="1",
    samples=100,
    references="none of its own; evaluate with --refs lr-native or lr-up",
    sources=(
        SourceFile(
            file="Urban100_SR.zip",
            holds="image_SRF_4/img_NNN_SRF_4_HR.png and ..._LR.png among other factors and methods; 1.14 GB",
            urls=("https://uofi.box.com/shared/static/65upg43jjd0a4cwsiqgl6o6ixube6klm.zip",),
            found_at="the download links of github.com/jbhuang0604/SelfExSR",
        ),
    ),
    description="""\
The Ref-SR papers give every picture its own LR picture as reference. How large that reference is, they do not say:
`--refs lr-native` takes the LR picture at its own size, as the released C²-Matching code would be given it (there
it stands in the corner of a black canvas), `--refs lr-up` enlarges it to HR size. The signature carries the rule.

Published layouts: SelfExSR (`image_SRF_4/img_NNN_SRF_4_HR.png` with `..._LR.png`, kept as `lr`), or plain
`img_NNN.png`.""",
)
CARDS = {CARD.name: CARD}


LAYOUT = Layout(
    recognise=recognise_self_ex_sr,
    plan=plan_samples,
    expected=functools.partial(self_ex_sr_slots, 100),
    optional=frozenset({"lr"}),
)

build = functools.partial(build_published, CARD, LAYOUT)
