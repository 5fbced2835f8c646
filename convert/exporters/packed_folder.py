"""`bitnet_py`: the packed folder that `bitnet_py.load` maps (docs/format.md).

Owns: its config.json and which files are copied. Does not own: how tensors are encoded (formats/)
or laid out in the files (writer.py).
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitnet_py.checkpoint import FORMAT_VERSION, QUANT_METHOD
from bitnet_py.model_files import companion_files
from bitnet_py.progress import Progress

from ..block_pool import BlockPool, row_blocks
from ..formats import Encoder, Entry
from ..options import ConvertOptions
from ..plan import Plan
from ..sources import Source
from ..writer import SafetensorsWriter
from . import Exporter


class PackedFolder(Exporter):
    """See the module."""

    name = "bitnet_py"

    def export(
        self,
        plan: Plan,
        source: Source,
        options: ConvertOptions,
        folder: Path,
        *,
        pool: BlockPool,
        progress: Progress,
        conversion: Mapping[str, Any],
    ) -> None:
        """See Exporter."""
        _write_tensors(plan, folder, options.shard_bytes, pool, progress)
        config = {**source.config, "quantization_config": _quantization_config(plan, conversion)}
        (folder / "config.json").write_text(
            json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8"
        )
        for name in companion_files(source.folder):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source.folder / name, folder / name)


def _write_tensors(
    plan: Plan, folder: Path, shard_bytes: int, pool: BlockPool, progress: Progress
) -> None:
    groups = [_entries(matrix.encoder) for matrix in plan.matrices]
    groups += [[Entry(name, "F32", vector.shape)] for name, vector in plan.vectors.items()]
    with SafetensorsWriter(folder, groups, shard_bytes) as writer:
        for matrix in plan.matrices:
            _write_matrix(matrix.encoder, writer, pool, progress)
        for name, vector in plan.vectors.items():
            writer.append(name, vector)
            progress.advance(vector.size)
        writer.finish()


def _entries(encoder: Encoder) -> list[Entry]:
    return [encoder.entry] if encoder.scale_entry is None else [encoder.entry, encoder.scale_entry]


def _write_matrix(
    encoder: Encoder, writer: SafetensorsWriter, pool: BlockPool, progress: Progress
) -> None:
    encoder.prepare(pool)
    n_rows, n_cols = encoder.weight.shape
    done_rows = 0
    blocks = list(row_blocks(n_rows, n_cols, encoder.panel_rows))
    for (_, end), block in zip(blocks, pool.map(encoder.encode, blocks), strict=True):
        writer.append(encoder.name, block)
        progress.advance((end - done_rows) * n_cols)
        done_rows = end
    scale = encoder.take_scale()
    if encoder.scale_entry is not None and scale is not None:
        writer.append(encoder.scale_entry.name, scale)


def _quantization_config(plan: Plan, conversion: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "quant_method": QUANT_METHOD,
        "format_version": FORMAT_VERSION,
        "decoder": dict(plan.decoder),
        "tensors": _tensor_patterns(plan),
        "conversion": dict(conversion),
    }


def _tensor_patterns(plan: Plan) -> list[dict[str, str]]:
    """One pattern for all layers where they agree, else one per tensor. Dense tensors need none."""
    formats_of: dict[str, set[tuple[str, str]]] = {}
    for matrix in plan.matrices:
        key = _pattern(matrix.name)
        formats_of.setdefault(key, set()).add((matrix.encoder.format, matrix.encoder.scale_kind))
    patterns: dict[str, dict[str, str]] = {}
    for matrix in plan.matrices:
        encoder = matrix.encoder
        if encoder.scale_entry is None:
            continue
        is_shared = len(formats_of[_pattern(matrix.name)]) == 1
        pattern = _pattern(matrix.name) if is_shared else matrix.name
        patterns[pattern] = {
            "pattern": pattern,
            "format": encoder.format,
            "scale": encoder.scale_kind,
        }
    return list(patterns.values())


def _pattern(name: str) -> str:
    """The name with `*` for the number of the layer."""
    return re.sub(r"\.\d+\.", ".*.", name)


EXPORTER = PackedFolder()
