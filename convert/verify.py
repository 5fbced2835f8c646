"""What a conversion costs in quality, measured: the same text through source and output.

The source runs dense in our own engine, from a temporary conversion beside the output that keeps
every float as it is (a ternary source by its effective weights).

Owns: the two runs and their comparison. Does not own: the protocol of perplexity
(bitnet_py/evaluate.py), the words (verdict.py).
"""

from pathlib import Path

import numpy as np

from bitnet_py.evaluate import Evaluation, evaluate_text
from bitnet_py.model import load

from .block_pool import BlockPool
from .exporters import exporter_by_name
from .options import ConvertOptions
from .output_folder import OutputFolder
from .plan import make_plan
from .progress import Progress
from .refusal import refuse
from .report import Verification
from .sources import Source
from .verdict import verdict

__all__ = ["Verifier"]


class Verifier:
    """A text to verify with."""

    def __init__(self, path: Path) -> None:
        """Reads the text, so that a bad one is refused before the work begins.

        Raises:
            FileNotFoundError: no such file.
            FormatError: not UTF-8, or nothing in it.
        """
        if not path.is_file():
            message = f"{path}: no such text to verify with"
            raise FileNotFoundError(message)
        self._name = path.name
        try:
            self._text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            refuse(path, f"not UTF-8 at byte {error.start}")
        if not self._text.strip():
            refuse(path, "nothing but space in it")

    def run(
        self,
        source: Source,
        converted: Path,
        target: Path,
        *,
        pool: BlockPool,
        threads: int | None,
        progress: Progress,
    ) -> Verification:
        """Measures both.

        Args:
            source: the open source.
            converted: the folder of the output, complete.
            target: the output's final path; the dense form is written beside it for a while.
            pool: threads for the dense conversion.
            threads: of the engine.
            progress: shows the three parts.

        Raises:
            ValueError: the model has no tokenizer.
        """
        options = ConvertOptions(method="dense")
        with OutputFolder(target, purpose="verify") as dense:
            plan = make_plan(source, options)
            progress.begin("verify: the source, dense", plan.n_parameters)
            exporter_by_name("bitnet_py").export(
                plan, source, options, dense.path, pool=pool, progress=progress, conversion={}
            )
            before = self._evaluate(
                dense.path, "verify: reading with the source", threads, progress
            )
        after = self._evaluate(converted, "verify: reading with the output", threads, progress)
        ratio = after.perplexity / before.perplexity
        return Verification(
            text=self._name,
            tokens=after.tokens,
            source_perplexity=before.perplexity,
            perplexity=after.perplexity,
            perplexity_ratio=ratio,
            top1_agreement=float(np.mean(before.argmax == after.argmax)),
            verdict=verdict(ratio),
        )

    def _evaluate(
        self, folder: Path, task: str, threads: int | None, progress: Progress
    ) -> Evaluation:
        done = 0

        def on_progress(n_done: int, n_tokens: int) -> None:
            nonlocal done
            if done == 0:
                progress.begin(task, n_tokens)
            progress.advance(n_done - done)
            done = n_done

        return evaluate_text(load(folder, threads=threads), self._text, on_progress=on_progress)
