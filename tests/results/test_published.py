"""Published numbers: the paper's tables cell for cell, and nothing without its source."""

from __future__ import annotations

import re

from refsr_bench.results.published import read_published, select_published, to_grid

TABLE_1 = """
method           cufed5      sun80       urban100    manga109    wr-sr
SRCNN            25.33/.745  28.26/.781  24.41/.738  27.12/.850  27.27/.767
EDSR             25.93/.777  28.52/.792  25.51/.783  28.93/.891  28.07/.793
RCAN             26.06/.769  29.86/.810  25.42/.768  29.38/.895  28.25/.799
SRGAN            24.40/.702  26.76/.725  24.07/.729  25.12/.802  26.21/.728
ENet             24.24/.695  26.24/.702  23.63/.711  25.25/.802  25.47/.699
ESRGAN           21.90/.633  24.18/.651  20.91/.620  23.53/.797  26.07/.726
RankSRGAN        22.31/.635  25.60/.667  21.47/.624  25.04/.803  26.15/.719
CrossNet         25.48/.764  28.52/.793  25.11/.764  23.36/.741  -
SRNTT            25.61/.764  27.59/.756  25.09/.774  27.54/.862  26.53/.745
SRNTT-rec        26.24/.784  28.54/.793  25.50/.783  28.95/.885  27.59/.780
TTSR             25.53/.765  28.59/.774  24.62/.747  28.70/.886  26.83/.762
TTSR-rec         27.09/.804  30.02/.814  25.87/.784  30.09/.907  27.97/.792
SSEN             25.35/.742  -           -           -           -
SSEN-rec         26.78/.791  -           -           -           -
E2ENT²           24.01/.705  28.13/.765  -           -           -
E2ENT²-rec       24.24/.724  28.50/.789  -           -           -
CIMR             26.16/.781  29.67/.806  25.24/.778  -           -
CIMR-rec         26.35/.789  30.07/.813  25.77/.792  -           -
C2-Matching      27.16/.805  29.75/.799  25.52/.764  29.73/.893  27.80/.780
C2-Matching-rec  28.24/.841  30.18/.817  26.03/.785  30.47/.911  28.32/.801
"""
TABLE_4 = """
method             cufed5      parameters
RCAN               26.06/.769  16
RankSRGAN          22.31/.635  1.5
CrossNet           25.48/.764  33.6
SRNTT-rec          26.24/.784  4.2
TTSR-rec           27.09/.804  6.4
C2-Matching-light  28.14/.839  4.8
C2-Matching-rec    28.24/.841  8.9
"""


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def test_table_1_cell_for_cell() -> None:
    assert to_grid(select_published(table="Table 1")) == cells(TABLE_1)


def test_table_4_cell_for_cell() -> None:
    numbers = select_published(table="Table 4")
    grid = [row[:2] for row in cells(TABLE_4)]
    assert to_grid(numbers) == grid
    assert [number.note for number in numbers] == [f"{row[2]} M parameters as printed" for row in cells(TABLE_4)[1:]]


def test_every_number_says_where_it_was_seen() -> None:
    for number in read_published():
        assert number.certainty.startswith("seen in ")
        assert number.source
        assert number.protocol
        assert re.fullmatch(r"\d\d\.\d{2,4}", number.psnr)
        assert re.fullmatch(r"(0\.\d{3,5})?", number.ssim)


def test_a_method_with_two_results_keeps_them_apart() -> None:
    grid = to_grid(select_published(method="C2-Matching-rec", dataset="manga109"))
    assert sorted(row[1] for row in grid[1:]) == [
        *("28.389", "28.504"),  # of RGB
        *("30.335/.91002", "30.47/.911", "30.484/.91044"),
    ]
