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
from bitnet_py.progress import Progress
from bitnet_py.text_file import read_text

from .block_pool import BlockPool
from .exporters import exporter_by_name
from .options import ConvertOptions
from .output_folder import OutputFolder
from .plan import make_plan
from .refusal import refuse
from .report import Verification
from .sources import Source
from .verdict import verdict

__all__ = ["Verifier"]


class Verifier:
    """A text to verify with. Everything that can be missing is missed before the conversion."""

    def __init__(self, path: Path, threads: int | None) -> None:
        """Reads the text.

        Args:
            path: of the text.
            threads: of the engine; None: as many as there are CPUs.

        Raises:
            FileNotFoundError: no such file.
            FormatError: not UTF-8, or nothing in it.
        """
        if not path.is_file():
            message = f"{path}: no such text to verify with"
            raise FileNotFoundError(message)
        self._name = path.name
        self._threads = threads
        self._source: Evaluation | None = None
        self._text = read_text(path)
        if not self._text.strip():
            refuse(path, "nothing but space in it")

    def read_with_source(
        self, source: Source, target: Path, *, pool: BlockPool, progress: Progress
    ) -> None:
        """Lets the source predict the text.

        Args:
            source: the open source.
            target: the output's path; the dense form is written beside it for a while.
            pool: threads for the dense conversion.
            progress: shows the parts.

        Raises:
            ValueError: the model has no tokenizer.
            OSError: there is no room for the dense form.
        """
        options = ConvertOptions(method="dense")
        plan = make_plan(source, options)
        with OutputFolder(target, purpose="verify") as dense:
            dense.require_space(plan.n_bytes)
            progress.begin("verify: the source, dense", plan.n_parameters)
            exporter_by_name("bitnet_py").export(
                plan, source, options, dense.path, pool=pool, progress=progress, conversion={}
            )
            self._source = self._evaluate(dense.path, "verify: reading with the source", progress)

    def compare(self, converted: Path, *, progress: Progress) -> Verification:
        """Lets the output predict the text as well, after `read_with_source`.

        Args:
            converted: the folder of the output, complete.
            progress: shows the reading.
        """
        before = self._source
        assert before is not None
        after = self._evaluate(converted, "verify: reading with the output", progress)
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

    def _evaluate(self, folder: Path, task: str, progress: Progress) -> Evaluation:
        done = 0

        def on_progress(n_done: int, n_tokens: int) -> None:
            nonlocal done
            if done == 0:
                progress.begin(task, n_tokens)
            progress.advance(n_done - done)
            done = n_done

        return evaluate_text(
            load(folder, threads=self._threads), self._text, on_progress=on_progress
        )
