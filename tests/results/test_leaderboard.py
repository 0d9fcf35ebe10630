"""The leaderboard: means, ranking, and the rule that signatures never share a column."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from refsr_bench.errors import IntegrityError, SignatureMismatch, UsageError
from refsr_bench.results.formats import to_csv, to_json, to_latex, to_markdown
from refsr_bench.results.leaderboard import make_tables, require_one_ranking
from refsr_bench.results.rows import Run, find_runs, read_rows
from refsr_bench.schema import ModelCard, Row, RunInfo
from refsr_bench.store import to_json_line

SHARED = "data:d@123456|n:2|ref:first|crop:4"


def row(model: str, sample: str, value: float | None, **changes: object) -> Row:
    values = {
        "model": model,
        "dataset": "d@123456",
        "sample": sample,
        "group": "g" + sample,
        "refs": (),
        "metric": "psnr_y",
        "value": value,
        "signature": f"psnr_y|{SHARED}|ch:y601studio",
        "status": "failed" if value is None else "ok",
    }
    return Row.model_validate(values | changes)


def run(name: str, *rows: Row) -> Run:
    return Run(Path(name), rows)


def test_group_means_and_ranking() -> None:
    runs = [
        run("r1", row("low", "1", 20.0), row("low", "2", 22.0)),
        run("r2", row("high", "1", 30.0), row("high", "2", 31)),
    ]
    (table,) = make_tables(runs)
    assert [(line.model, line.group) for line in table.lines] == [
        *[("high", g) for g in ("all", "g1", "g2")],
        *[("low", g) for g in ("all", "g1", "g2")],
    ]
    assert [line.cells[table.columns[0]].mean for line in table.lines] == [30.5, 30, 31, 21, 20, 22]


def test_samples_without_a_group_do_not_repeat_the_overall_line() -> None:
    (table,) = make_tables([run("r1", row("m", "1", 20.0, group="all"), row("m", "2", 22.0))])
    means = [(line.group, line.cells[table.columns[0]].mean) for line in table.lines]
    assert means == [("all", 21.0), ("g2", 22.0)]


def test_different_protocols_are_different_tables() -> None:
    other = f"psnr_y|{SHARED.replace('crop:4', 'crop:0')}|ch:y601studio"
    tables = make_tables([run("r1", row("m", "1", 20.0)), run("r2", row("m", "1", 20.0, signature=other))])
    assert len(tables) == 2
    assert all(len(table.columns) == 1 for table in tables)


def test_correspondences_stand_beside_the_pictures_of_a_model_that_makes_both() -> None:
    pictures = "data:d@123456|n:2|ref:first|q:round8|crop:4"
    aee = {"metric": "aee", "signature": "aee|px:hr|data:d@123456|n:2|ref:first|def:1"}
    psnr = {"signature": f"psnr_y|{pictures}|ch:y601studio"}
    runs = [
        run("far", row("far", "1", 9.0, **aee)),
        run("near", row("near", "1", 2.0, **aee)),
        run("both", row("both", "1", 5.0, **aee), row("both", "1", 20.0, **psnr)),
        run("single", row("single", "1", 30.0, **psnr)),
    ]
    (table,) = make_tables(runs)
    assert [line.model for line in table.lines] == ["single", "both", "near", "far"]
    (alone,) = make_tables(runs[:2])
    assert [line.model for line in alone.lines] == ["near", "far"]


def test_one_ranking_is_refused_where_rulers_differ() -> None:
    other = f"psnr_y|{SHARED.replace('crop:4', 'crop:0')}|ch:rgb"
    tables = make_tables([run("r1", row("m", "1", 20.0)), run("r2", row("m", "1", 20.0, signature=other))])
    with pytest.raises(SignatureMismatch, match="crop: 0, 4\\n  psnr_y ch: rgb, y601studio") as caught:
        require_one_ranking(tables)
    assert caught.value.exit_code == 7
    require_one_ranking(tables[:1])
    require_one_ranking([])


def test_fewer_samples_are_a_different_table() -> None:
    other = f"psnr_y|{SHARED.replace('n:2', 'n:1')}|ch:y601studio"
    assert len(make_tables([run("r1", row("m", "1", 20.0)), run("r2", row("n", "1", 20.0, signature=other))])) == 2


def test_one_metric_defined_twice_is_two_columns() -> None:
    other = f"psnr_y|{SHARED}|ch:rgb"
    (table,) = make_tables([run("r1", row("m", "1", 20.0)), run("r2", row("n", "1", 25.0, signature=other))])
    assert len(table.columns) == 2
    for line in table.lines:
        assert sum(cell.mean is not None for cell in line.cells.values()) == 1


def test_a_run_with_failures_is_last_and_marked() -> None:
    runs = [
        run("r1", row("best", "1", 40.0), row("best", "2", None)),
        run("r2", row("m", "1", 20.0), row("m", "2", 20)),
    ]
    tables = make_tables(runs)
    assert tables[0].lines[0].model == "m"
    text = to_markdown(tables)
    assert "40.00*" in text
    assert "1 of 2" in text
    assert "not ranked" in text


def test_markdown_names_every_signature() -> None:
    text = to_markdown(make_tables([run("r1", row("m", "1", 20.0))]))
    assert "psnr_y [1]" in text
    assert f"[1] `psnr_y|{SHARED}|ch:y601studio`" in text


def test_two_runs_of_one_model_are_told_apart() -> None:
    text = to_markdown(make_tables([run("r1", row("m", "1", 20.0)), run("r2", row("m", "1", 21.0))]))
    assert "m (r1)" in text
    assert "m (r2)" in text


def test_hostile_names_are_inert() -> None:
    text = to_markdown(make_tables([run("r1", row("<b>|`x`\x1b[31m", "1", 20.0))]))
    assert "\x1b" not in text
    assert r"\<b\>\|\`x\`?\[31m" in text


def test_json_holds_the_same_means() -> None:
    (table,) = to_json(make_tables([run("r1", row("m", "1", 20.0), row("m", "2", 21.0))]))
    assert table["lines"][0]["cells"][0]["mean"] == 20.5
    assert table["lines"][0]["cells"][0]["signature"].startswith("psnr_y|")


def test_rows_are_read_back_and_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "x" / "rows.jsonl"
    path.parent.mkdir()
    path.write_text(to_json_line(row("m", "1", 20.0)))
    assert find_runs([tmp_path])[0].rows == (row("m", "1", 20.0),)
    path.write_text(path.read_text() + '{"model": "m"')
    with pytest.raises(IntegrityError, match="line 2"):
        read_rows(path)


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="refsr-bench eval"):
        find_runs([tmp_path])


def card(**changes: object) -> RunInfo:
    model = ModelCard(name="m", title="", paper="", uses_reference=True, **changes)  # type: ignore[arg-type]
    return RunInfo(
        status="finished",
        model=model,
        dataset="d@123456",
        manifest_sha256="0" * 64,
        protocol={},
        refs_rule="first",
        samples=2,
        images="sr",
    )


def test_intervals_hold_the_mean() -> None:
    (table,) = make_tables([run("r1", *(row("m", str(i), 20.0 + i) for i in range(9)))])
    cell = table.lines[0].cells[table.columns[0]]
    assert cell.low < cell.mean < cell.high  # type: ignore[operator]
    assert "24.00 [22." in to_markdown([table])


def test_csv_has_a_line_a_number_and_full_precision() -> None:
    lines = list(csv.DictReader(to_csv(make_tables([run("r1", row("m", "1", 20.123456789012))])).splitlines()))
    assert [(r["model"], r["mean"], r["signature"]) for r in lines] == [
        ("m", "20.123456789012", f"psnr_y|{SHARED}|ch:y601studio")
    ]


def test_latex_sets_the_best_bold_and_gan_rows_grey() -> None:
    rows = [row("low", "1", 20.0), row("high", "1", 30.0)]
    runs = [
        run("r1", rows[0])._replace(info=card(adversarial=True)),
        run("r2", rows[1])._replace(info=card()),
    ]
    text = to_latex(make_tables(runs))
    assert r"high & all & \textbf{30.00} \\" in text
    assert r"\textcolor{gray}{low} & \textcolor{gray}{all} & \textcolor{gray}{20.00} \\" in text
    assert text.index("toprule") < text.index("midrule") < text.index("bottomrule")


HOSTILE = "=HYPERLINK(1)<script>|\x1b[31m\u202e\\input{x}%$&_#^~`*"


@pytest.mark.parametrize("name", [HOSTILE, "+1", "-1", "@x", "\t=1", " =1", "\r=1"])
def test_csv_cells_are_never_formulas(name: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(make_tables([run(name, row(name, "1", 20.0, group=name))])))))
    for text in rows[1]:
        assert text[:1] not in tuple("=+-@\t\r")
        assert not text.lstrip().startswith("=")
        assert "\x1b" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize("name", [HOSTILE, "[1cm]", "*", "\\\\[1cm]", "a & b"])
def test_latex_names_hold_no_command(name: str) -> None:
    text = to_latex(make_tables([run("r", row(name, "1", 20.0))]))
    (line,) = [line for line in text.splitlines() if "20.00" in line]
    safe = r"\\[&%$#_{}]|\\text(backslash|asciitilde|asciicircum|less|greater|bar|quotedbl)\{\}|\{[\[\]*]\}"
    assert not set(re.sub(safe, "", line.partition(" & all")[0])) & set("\\{}$&#^_%~[]*\x1b\u202e")
    assert len(re.findall(r"(?<!\\)&", line)) == 2


def test_terminal_and_markdown_hold_no_escape_and_no_direction_mark() -> None:
    text = to_markdown(make_tables([run(HOSTILE, row(HOSTILE, "1", 20.0, group=HOSTILE))]))
    assert not {"\x1b", "\u202e"} & set(text)
    assert "<script>" not in text
