"""Writes refsr_bench/results/protocol_effects.csv, what report and ``compare`` know of protocol noise.

    python benchmarks/protocol_effects.py bicubic:demo imdn:sacre_coeur > refsr_bench/results/protocol_effects.csv

Each argument is MODEL:DATASET; the dataset must be built, the model's weights imported. Every pair is evaluated under
all protocols into a temporary folder; what is written are differences of means to the default protocol.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile

FIELDS = ("protocol", "changed", "metric", "difference", "samples", "model", "dataset")


def measure(model: str, dataset: str) -> list[dict[str, object]]:
    """Effects of every protocol but the default one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "refsr_bench", "eval", model, "--dataset", dataset, "--protocol", "all"]
        done = subprocess.run([*command, "--out", folder, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    rows = []
    for effect in json.loads(done.stdout)["effects"]:
        if effect["changed"] and effect["difference"] is not None:
            keys = dict(part.split(":", 1) for part in effect["signature"].split("|")[1:])
            known = {**effect, "difference": f"{effect['difference']:.5f}", "model": model, "dataset": keys["data"]}
            rows.append({field: known[field] for field in FIELDS})
    return rows


if __name__ == "__main__":
    writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
    writer.writeheader()
    for argument in sys.argv[1:]:
        writer.writerows(measure(*argument.split(":", 1)))
