"""The command: ``python -m tests.fuzz --inputs 20000 --seed 1``."""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.update(
    TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1"
)
os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HOME=os.path.join(tempfile.gettempdir(), "unbraid-fuzz-no-home"))
for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
    os.environ.pop(name, None)
RESULTS = Path("benchmarks/results/fuzz.json")


def arguments(given=None):
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Give mutated inputs to every reader.")
    parser.add_argument("--inputs", type=int, default=2_000, help="how many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--add", action="store_true", help="with --out: keep the results of other seeds in the file")
    parser.add_argument("--first", type=int, default=0, help="index of the first input")
    parser.add_argument("--only", type=int, help="index of one input, which is run in this process with a traceback")
    parser.add_argument("--keep", type=Path, help="with --only: a new folder that the input is written to")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help=f"JSON file for the table of outcomes [{RESULTS}]"
    )
    return parser.parse_args(given)


def main(given=None):
    options = arguments(given)
    import torch

    torch.set_num_threads(1)
    from tests.fuzz import report, running, workers

    running.warm_up()
    if options.only is not None:
        return _one(options, running)
    indices = range(options.first, options.first + options.inputs)
    start, outcomes = time.monotonic(), []
    for outcome in workers.run_all(options.seed, indices, options.processes):
        outcomes.append(outcome)
        if sys.stderr.isatty() and len(outcomes) % 100 == 0:
            print(f"\r{len(outcomes)} inputs", end="", file=sys.stderr)
    found = report.summary(options.seed, outcomes)
    if options.out is not None:
        others = json.loads(options.out.read_text()) if options.add and options.out.exists() else []
        runs = [run for run in others if run["seed"] != options.seed] + [found]
        options.out.write_text(json.dumps(sorted(runs, key=lambda run: run["seed"]), indent=1) + "\n")
    print(report.text(found))
    print(f"{len(outcomes) / (time.monotonic() - start):.0f} inputs/s", file=sys.stderr)
    return 1 if found["findings"] else 0


def _one(options, running):
    """Run one input in a worker for its outcome, or write it."""
    from tests.fuzz import kinds, workers

    if options.keep is not None:
        options.keep.mkdir(parents=True)
        print(running.written(options.seed, options.only, options.keep)[1])
    (outcome,) = workers.run_all(options.seed, [options.only])
    print(json.dumps(outcome.to_dict(), indent=1))
    if outcome.outcome in ("hang", "crash", "memory"):  # would do the same to this process
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        kind = kinds.draw(running.KINDS, kinds.source(options.seed, options.only))
        place = Path(temporary)
        try:
            kind.use(kind.load(running.written(options.seed, options.only, place)[1]), place)
        except BaseException:
            traceback.print_exc()
    return int(outcome.is_finding)


if __name__ == "__main__":
    sys.exit(main())
