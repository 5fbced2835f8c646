"""What the numbers of a conversion mean, in words a user can act upon.

Owns: the sentences and the limits between them. Does not own: the numbers.
"""

from .methods import methods

__all__ = ["quality_warnings", "verdict"]

# Output perplexity over source perplexity: below each limit, the words.
VERDICTS = (
    (0.98, "better than its dense form: the source was trained to be ternary, keep this one"),
    (1.002, "as good as the source"),
    (1.02, "nearly as good as the source"),
    (1.10, "a little worse than the source; check it on your own task"),
    (1.50, "clearly worse than the source"),
    (3.00, "much worse than the source; not fit for use without more training"),
)
BROKEN = "broken: this text makes no sense to it"


def verdict(perplexity_ratio: float) -> str:
    """One honest sentence.

    Args:
        perplexity_ratio: output over source; NaN counts as broken.
    """
    for limit, words in VERDICTS:
        if perplexity_ratio <= limit:
            return words
    return f"{BROKEN}; {_what_to_do()}"


def quality_warnings(
    n_rounded: int, n_ternary: int, weight_error: float | None, *, is_verified: bool
) -> tuple[str, ...]:
    """What to say when weights that were not ternary were made so.

    Args:
        n_rounded: matrices that went through absmean.
        n_ternary: matrices that are stored as ternary.
        weight_error: their relative change; None when nothing was written.
        is_verified: a verdict stands beside it, which says how it went and what to do.
    """
    if not n_rounded:
        return ()
    tail = "" if is_verified else f". Measure it with --verify TEXT; {_what_to_do()}"
    measured = "" if weight_error is None else f", and that changed them by {weight_error:.0%}"
    return (
        f"{n_rounded} of {n_ternary} ternary matrices were not ternary before{measured} (relative "
        "to their size). Unless this model was trained with ternary weights (BitNet masters), "
        f"expect text without sense{tail}",
    )


def _what_to_do() -> str:
    better = [name for name in ("ptq", "planes", "int8") if name in methods()]
    options = [f"--method {name}" for name in (*better, "bf16")]
    return (
        f"what to do: {' or '.join(options)}, a model that was trained to be ternary (BitNet "
        "b1.58, Falcon-E), or training this one"
    )
