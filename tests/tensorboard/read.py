"""Reads the event files of a run with TensorBoard's own reader: python read.py RUN_FOLDER

The figures are those of the logs, every step once; the pictures are PNG. Needs the package tensorboard.
"""

import json
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = Path(sys.argv[1])


def events(folder):
    # A guidance of 0 keeps every value.
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


scores = json.loads((run / "scores.json").read_text())
for model in ["clean", "backdoored"]:
    lines = [json.loads(line) for line in (run / model / "metrics.jsonl").read_text().splitlines()]
    found = events(run / model)
    for key, tag in [("loss", "train/loss"), ("lr", "train/lr"), ("grad_norm", "canary/grad_norm")]:
        points = [(point.step, point.value) for point in found.Scalars(tag)]
        assert [step for step, _ in points] == [line["step"] for line in lines], (tag, points)
        for (_, value), line in zip(points, lines):
            assert abs(value - line[key]) <= 1e-6 * max(1, abs(line[key])), (tag, value, line[key])
    (point,) = found.Scalars("scores/acc_patched")
    assert abs(point.value - scores["models"][model]["patched"]["acc"]) < 1e-4
    assert point.step == scores["steps"]

pictures = events(run)
tags = pictures.Tags()["images"]
assert {"features/clean", "features/backdoored"} <= set(tags), tags
assert any(tag.startswith("samples/") for tag in tags), tags
for tag in tags:
    (picture,) = pictures.Images(tag)
    assert picture.encoded_image_string.startswith(b"\x89PNG"), tag
    assert picture.width > 0 and picture.height > 0
print(f"{run}: {len(lines)} epochs, {len(tags)} pictures")
