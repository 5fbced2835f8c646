"""Errors with a name.

ValueError: the caller's fault; FormatError: a bad file; RuntimeError: our bug.
"""

__all__ = ["FormatError"]


class FormatError(ValueError):
    """A file that breaks a rule. The message names the file, the tensor or field, and the rule."""
