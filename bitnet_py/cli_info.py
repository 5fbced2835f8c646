"""`bitnet info`: what a packed folder holds."""

from bitnet_py import cli_options as opt
from bitnet_py.cli_run import plain, print_json

__all__ = ["info"]


def info(model: opt.ModelId, revision: opt.Revision = None, as_json: opt.AsJson = False) -> None:
    """Show a model's config, formats and sizes."""
    from bitnet_py.hub import resolve_folder
    from bitnet_py.model_summary import summarize

    summary = summarize(resolve_folder(model, revision))
    if as_json:
        print_json(summary.to_json(), indent=2)
        return

    from rich.console import Console
    from rich.table import Table

    # Names come from files and users: none of them is markup.
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column()
    facts.add_column(overflow="fold")
    facts.add_row("folder", plain(summary.folder))
    facts.add_row("model type", plain(summary.model_type))
    facts.add_row("weights", f"{summary.parameters:,}")
    facts.add_row("size", f"{summary.n_bytes / 1e6:,.2f} MB")
    facts.add_row(
        "bits per weight",
        f"{summary.bits_per_weight:.2f} with everything, "
        f"{summary.linear_bits_per_weight:.3f} in the linear layers",
    )
    facts.add_row("context", f"{summary.decoder['max_position_embeddings']:,} tokens")
    tokenizer = summary.tokenizer
    facts.add_row(
        "tokenizer",
        plain(
            f"{tokenizer['vocab_size']:,} tokens, BOS {tokenizer['bos_token']}, "
            f"EOS {tokenizer['eos_token']}"
        )
        if tokenizer
        else "none",
    )
    for name, value in summary.decoder.items():
        facts.add_row(name, plain(str(value)))

    tensors = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("tensors", "format", "scale"):
        tensors.add_column(heading, overflow="fold")
    for heading in ("count", "weights", "MB", "bits"):
        tensors.add_column(heading, justify="right")
    for group in summary.tensors:
        tensors.add_row(
            group.pattern,
            group.format,
            group.scale,
            str(group.count),
            f"{group.parameters:,}",
            f"{group.n_bytes / 1e6:,.2f}",
            f"{8 * group.n_bytes / group.parameters:.2f}",
        )
    console = Console()
    console.print(facts)
    console.print()
    console.print(tensors)
