"""Coverage-guided fuzzing of every decoder, each for a given time. Needs atheris (https://pypi.org/project/atheris/).

    python tests/fuzz/fuzz.py [--seconds 60] [--corpus DIR] [TARGET ...]

One process for each target. What it finds is written to a file beside the corpus and ends it with a traceback; to run
that input again: ``python tests/fuzz/fuzz.py --again FILE TARGET``. Exit status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

INPUT_BYTES_MAX: Final = 4096


def fuzz(name: str, corpus: Path, seconds: int) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["quorate"]):
        from targets import TARGETS
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={corpus.parent / name}-"]
    atheris.Setup([sys.argv[0], *words, "-print_final_stats=1", str(corpus)], target.run)
    atheris.Fuzz()


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)d)")
    parser.add_argument("--corpus", type=Path, help="where inputs worth keeping are kept from run to run")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run this input once, without the fuzzer")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        fuzz(options.targets[0], options.corpus, options.seconds)
    from targets import TARGETS

    unknown = [each for each in options.targets if each not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    if options.again:
        TARGETS[options.targets[0]].run(options.again.read_bytes())
        return 0
    place = options.corpus or Path(tempfile.mkdtemp(prefix="quorate-fuzz-"))
    found = []
    for name in options.targets or TARGETS:
        corpus = place / name
        corpus.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, __file__, "--here", name, "--corpus", str(corpus), "--seconds", str(options.seconds)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        stats = [line.split("::")[1].strip() for line in done.stderr.splitlines() if line.startswith("stat::number_of")]
        sys.stdout.write(f"{name}: {' '.join(stats).replace('number_of_', '')}, {len(list(corpus.iterdir()))} inputs\n")
        if done.returncode:
            found.append(name)
            sys.stdout.write(done.stdout[-4000:] + done.stderr[-4000:])
        sys.stdout.flush()
    sys.stdout.write(f"found something in: {', '.join(found)}\n" if found else "nothing found\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
