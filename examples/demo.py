"""`make demo`: convert the embedded checkpoint, generate, compare it with its own dense form.

Owns: the tour of a newcomer. Everything it does is one public call or one command. With another
checkpoint: `python examples/demo.py FOLDER --text FILE`.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bitnet_py
from bitnet_py.convert import convert

FORMS = {"ternary": "auto", "dense f32": "f32"}  # name -> method of bitnet-convert
PROMPT = "Once upon a time"
TIMED_TOKENS = 256


def folder_bytes(folder: Path) -> int:
    """Bytes of all weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def measure(folder: Path, text_file: Path) -> dict[str, Any]:
    """Loads a packed folder in this process; tokens/s, peak memory, perplexity and a sample."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = bitnet_py.load(folder)
    story = model.generate(PROMPT, max_new_tokens=400, seed=3)
    start = time.perf_counter()
    model.generate(PROMPT, max_new_tokens=TIMED_TOKENS, eos_token_id=[])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "text": PROMPT + story,
        "tokens_per_s": TIMED_TOKENS / seconds,
        "memory_mb": (peak - before) / 1024,
        "perplexity": model.perplexity(text_file.read_text()),
    }


def main() -> None:
    """Converts into demo-output/, measures each form in a process of its own, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", type=Path, default=bitnet_py.DEMO_CHECKPOINT)
    parser.add_argument("--text", type=Path, default=bitnet_py.DEMO_CHECKPOINT / "valid.txt")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.text)))
        return

    output = Path("demo-output")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    results = {}
    for name, method in FORMS.items():
        folder = output / name.replace(" ", "-")
        source = os.path.relpath(args.source)
        print(f"$ bitnet-convert {source} -o {folder} --method {method}")
        convert(args.source, folder, method=method)
        command = [sys.executable, __file__, "--measure", str(folder), "--text", str(args.text)]
        results[name] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        results[name]["file_mb"] = folder_bytes(folder) / 1e6

    print(f"\n$ bitnet generate {output / 'ternary'} -p {PROMPT!r} --seed 3\n")
    print(results["ternary"]["text"])
    print("\nform         file MB   memory MB   tokens/s   perplexity")
    for name, row in results.items():
        print(
            f"{name:<10} {row['file_mb']:>9.2f} {row['memory_mb']:>11.1f}"
            f" {row['tokens_per_s']:>10.0f} {row['perplexity']:>12.3f}"
        )
    print(f"\nTry: bitnet chat {output / 'ternary'}")


if __name__ == "__main__":
    main()
