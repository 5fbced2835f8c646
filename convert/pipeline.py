"""`convert`: the straight line from a checkpoint to a packed folder.

    source -> plan (names, formats, sizes) -> partial folder -> verify -> OUT

Owns: the order of the steps. Each step has its own file.
"""

import dataclasses
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bitnet_py
from bitnet_py.hub import resolve_folder
from bitnet_py.progress import Progress, SilentProgress

from .block_pool import BlockPool
from .exporters import exporter_by_name
from .formats.ternary import TERNARY_FORMATS
from .options import DEFAULT_SHARD_BYTES, ConvertOptions
from .output_folder import OutputFolder, check_apart, check_output
from .plan import make_plan
from .report import ConversionReport, make_report
from .sources import Source, open_source
from .verify import Verifier

__all__ = ["convert"]

log = logging.getLogger("bitnet_py.convert")


def convert(
    source: str | Path,
    out: str | Path,
    *,
    method: str = "auto",
    scale: str | None = None,
    head: str | None = None,
    ternary_store: str = TERNARY_FORMATS[0],
    format: str = "bitnet_py",
    verify: str | Path | None = None,
    revision: str | None = None,
    modules_to_not_convert: Sequence[str] = (),
    dry_run: bool = False,
    force: bool = False,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Converts a Hugging Face checkpoint into a folder that `bitnet_py.load` opens.

    The folder appears complete or not at all; an interrupted run leaves `out` as it was. Memory
    stays small whatever the size of the model. Code and pickles of a checkpoint are never run.

    Args:
        source: a folder, or a Hugging Face id ("owner/name").
        out: the folder to make.
        method: "auto" (lossless where the source is ternary, else absmean), "absmean", "f32",
            "f16", "bf16", or "dense" (each matrix in the float type of the source).
        scale: granularity of absmean scales, "tensor" (the default), "row" or "group" (128).
        head: format of the output head, and of a tied embedding: "int6" (the default of ternary
            methods), "int8", "f32", "f16", "bf16" or "ternary". An embedding of its own is int8,
            or as the source has it where the head is to be dense.
        ternary_store: how ternary codes lie in the files, "ternary2" (2 bits per weight) or
            "trits5" (1.6 bits; the same codes, so the same results).
        format: of the output; "bitnet_py" is the packed folder.
        verify: a UTF-8 text; it is run through the source (dense) and through the output.
        revision: branch, tag or commit of a Hugging Face id.
        modules_to_not_convert: modules that stay dense, as in Hugging Face's configs.
        dry_run: plan and report, write nothing.
        force: replace an existing `out`, at the very end.
        shard_bytes: the largest file.
        threads: None: as many as there are CPUs, at most four.
        progress: draws how far it is; None: nothing is drawn.

    Raises:
        ValueError: options that do not exist or do not go together, or `out` lies in the source.
        FileNotFoundError: no such source, or no such text.
        FileExistsError: `out` exists and `force` is not given.
        FormatError: the source breaks a rule, or is of a kind that is not known; names file, tensor
            or field, and rule.
        OSError: the disk is full, or a file cannot be read or written.

    Example:
        >>> report = convert("./my-llama", "./packed", method="absmean")  # doctest: +SKIP
        >>> report.bits_per_weight  # doctest: +SKIP
        2.41
    """
    options = ConvertOptions(
        method, scale, head, ternary_store, tuple(modules_to_not_convert), shard_bytes
    )
    exporter = exporter_by_name(format)
    if verify is not None and dry_run:
        message = "[convert] expected verify or dry_run, got both: a dry run has nothing to verify"
        raise ValueError(message)
    verifier = Verifier(Path(verify), threads) if verify is not None else None
    progress = progress or SilentProgress()
    target = Path(out).expanduser().resolve()
    local = Path(source).expanduser()
    if local.is_dir():
        check_apart(target, local)
    check_output(target, force=force)
    folder = resolve_folder(source, revision)  # a download, perhaps: after all that can be refused
    with ExitStack() as stack:
        checkpoint = stack.enter_context(open_source(folder))
        plan = make_plan(checkpoint, options)
        if dry_run:
            return make_report(plan, options, str(source), str(target), seconds=None)
        pool = stack.enter_context(BlockPool(threads))
        if verifier is not None:  # first: what it needs is missed before the long work
            verifier.read_with_source(checkpoint, target, pool=pool, progress=progress)
        begin = time.perf_counter()
        output = stack.enter_context(OutputFolder(target, force=force))
        output.require_space(plan.n_bytes)
        progress.begin(f"converting {plan.n_parameters:,} weights", plan.n_parameters)
        exporter.export(
            plan,
            checkpoint,
            options,
            output.path,
            pool=pool,
            progress=progress,
            conversion=_conversion(source, checkpoint, options),
        )
        seconds = time.perf_counter() - begin
        report = make_report(
            plan,
            options,
            str(source),
            str(target),
            seconds=seconds,
            is_verified=verifier is not None,
        )
        if verifier is not None:
            verification = verifier.compare(output.path, progress=progress)
            report = dataclasses.replace(report, verification=verification)
        output.commit()
    for warning in report.warnings:
        log.warning("%s", warning)
    return report


def _conversion(source: str | Path, checkpoint: Source, options: ConvertOptions) -> dict[str, Any]:
    """What config.json records, for people; no path of this machine is in it."""
    is_local = Path(source).expanduser().is_dir()
    recorded: dict[str, Any] = {
        "source": _printable(checkpoint.folder.resolve().name if is_local else str(source)),
        "source_model_type": checkpoint.config["model_type"],
        "method": options.method,
        "bitnet_py_version": bitnet_py.__version__,
    }
    if checkpoint.quantization is not None:
        recorded["source_quantization_config"] = dict(checkpoint.quantization)
    return recorded


def _printable(name: str) -> str:
    """A file's name may hold bytes that are not UTF-8; no text file can."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
