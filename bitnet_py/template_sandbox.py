"""A Jinja environment for templates of strangers: no way out, and no way to run or grow for ever.

A chat template is a program that came with a checkpoint. jinja2's ImmutableSandboxedEnvironment
keeps it from reaching Python; this one also meters it. Whatever can take time or make a large value
passes a gate, and every gate looks at the clock and at sizes:

    loop steps                      a call of `tick` is put into every body before compiling
    + * ** %                        `call_binop`
    [..] {..} (..)                  become calls of `measure` before compiling
    ~, captured blocks, output      `concat`
    functions, macros, methods      `call`
    filters, tests                  wrapped when they are added
    what filters give bit by bit    `_bounded`

Owns: the gates. Does not own: what the templates are for (chat_template.py).
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from typing import Any, Final, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

__all__ = ["MeteredEnvironment", "TemplateLimitError"]

RENDER_SECONDS: Final = 2.0  # real conversations take milliseconds
MAX_SIZE: Final = 1 << 24  # of one value, or of the output: characters, an element counts as many
ELEMENT_SIZE: Final = 128
MAX_PRODUCT: Final = 1 << 26  # of two sizes, where an operation may multiply them
MAX_INTEGER_BITS: Final = 1 << 13  # below the 4300 digits that Python prints
MAX_ARGUMENT: Final = MAX_RANGE  # of integers: widths, counts, precisions

# Methods that make much of little in ways that no gate measures, or bytes, which no template needs.
FORBIDDEN_METHODS: Final = {
    "encode", "expandtabs", "maketrans", "to_bytes", "translate",
}  # fmt: skip
# Methods and filters that may write one operand once per element of another.
MULTIPLYING: Final = {"format", "format_map", "indent", "join", "replace", "wordwrap"}
# Filters that make a list of all that their value holds, characters of a text too.
LISTING: Final = {"batch", "groupby", "join", "list", "slice", "sort", "unique"}
# Filters whose time or memory grows too fast with a text to be let loose on a long one.
SLOW: Final = {"striptags", "title", "urlencode", "wordcount", "wordwrap", "xmlattr"}
MAX_SLOW_SIZE: Final = 1 << 16
SPLITTING: Final = {"rsplit", "split", "splitlines"}  # methods
MAX_ELEMENTS: Final = MAX_SIZE // ELEMENT_SIZE
JINJA_ARGUMENTS: Final = {"_loop_vars", "_block_vars"}  # what jinja2 itself adds to a call
CONTAINERS: Final = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
FORMAT_FROM_OUTSIDE: Final = re.compile(r"%[^a-zA-Z]*\*|\{[^}]*\{")  # a width that is an argument


class TemplateLimitError(Exception):
    """A template that ran too long, or made something that is too large."""


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """See the head of this file. One thread at a time."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, **options: Any) -> None:
        """Takes jinja2's options."""
        super().__init__(**options)
        self._deadline = 0.0
        self.globals["namespace"] = MeteredNamespace
        # What can run for long, and no chat template needs.
        del self.globals["lipsum"], self.filters["urlize"], self.filters["pprint"]
        for name in tuple(self.filters):
            self.add_filter(name, self.filters[name])
        self.tests = {name: self._ticking(test) for name, test in self.tests.items()}

    def start_clock(self) -> None:
        """Gives the template its time from now on; needed before compiling and before rendering."""
        self._deadline = time.monotonic() + RENDER_SECONDS

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Makes a function a filter, behind a gate."""
        n_passed = 0 if getattr(function, "jinja_pass_arg", None) is None else 1

        @functools.wraps(function)  # keeps jinja2's mark of what is passed first
        def metered(*args: Any, **kwargs: Any) -> Any:
            passed, value, rest = args[:n_passed], args[n_passed], args[n_passed + 1 :]
            if name in MULTIPLYING and isinstance(value, Iterator):
                value = list(value)  # bounded, as its maker is a filter
            if name not in ("default", "d"):
                _check_filter(name, value, {"": rest, **kwargs})
                _check_operands(name, value, [*rest, *kwargs.values()])
            result = function(*passed, value, *rest, **kwargs)
            return self._bounded(result) if isinstance(result, Iterator) else self.measure(result)

        self.filters |= {name: metered}

    def tick(self) -> None:
        """Looks at the clock."""
        if time.monotonic() > self._deadline:
            message = f"it ran for more than {RENDER_SECONDS:g} s"
            raise TemplateLimitError(message)

    def measure(self, value: Any) -> Any:
        """Gives the value back when it is not too large, with all that it holds."""
        self.tick()
        _size(value)
        return value

    def _bounded(self, items: Iterator[Any]) -> Iterator[Any]:
        """Items as they come, until they are too large together."""
        size = 0
        for item in items:
            self.tick()
            size += ELEMENT_SIZE + _size(item)
            if size > MAX_SIZE:
                _refuse_size()
            yield item

    def concat(self, parts: Iterable[Any]) -> str:
        """The parts as one text; also the last step of rendering."""
        texts, size = [], 0
        for part in parts:
            self.tick()
            texts.append(str(part))
            size += len(texts[-1])
            if size > MAX_SIZE:
                _refuse_size()
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Applies an operator whose result may be large."""
        if operator == "*":
            _check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * abs(right) > MAX_INTEGER_BITS:
                _refuse_size()
        elif operator == "%" and isinstance(left, str):
            _check_operands("format", left, [right])
        return self.measure(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function or a method."""
        # str.format comes wrapped by the sandbox
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        if isinstance(owner, str):
            own = {name: value for name, value in kwargs.items() if name not in JINJA_ARGUMENTS}
            if function.__name__ in MULTIPLYING:
                args = tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
            if function.__name__ in SPLITTING:
                _check_split(owner, next(iter(args), own.get("sep")))
            _check_operands(function.__name__, owner, [*args, *own.values()])
        result = super().call(context, function, *args, **kwargs)
        return result if owner is self else self.measure(result)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuses methods that no gate could measure."""
        return attr not in FORBIDDEN_METHODS and super().is_safe_attribute(obj, attr, value)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        """Compiles; jinja2's hook for a change of the tree before that."""
        return super()._generate(GateInserter().visit(source), *args, **kwargs)

    def _ticking(self, test: Any) -> Any:
        @functools.wraps(test)
        def ticking(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return test(*args, **kwargs)

        return ticking


class MeteredNamespace(Namespace):
    """`namespace(...)`: printed without its content, which no gate has measured."""

    def __setitem__(self, name: str, value: Any) -> None:
        """Sets an attribute; one that begins with an underscore is refused."""
        if name.startswith("_"):
            message = f"a namespace takes no attribute {name!r}"
            raise SecurityError(message)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        """Without the attributes."""
        return "<Namespace>"


class GateInserter(NodeTransformer):
    """Puts the gates that jinja2 has no hook for into a template's tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_gate("tick", lineno=node.lineno)))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _gate("measure", self.generic_visit(node))

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _gate("measure", self.generic_visit(node))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        visited = self.generic_visit(node)
        return _gate("measure", visited) if node.ctx == "load" else visited

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)  # in place
        return _gate("concat", nodes.List(node.nodes, lineno=node.lineno))


def _gate(method: str, *operands: nodes.Node, lineno: int | None = None) -> nodes.Call:
    """A call of an environment's method."""
    lineno = operands[0].lineno if operands else lineno
    function = nodes.EnvironmentAttribute(method, lineno=lineno)
    return nodes.Call(function, list(operands), [], None, None, lineno=lineno)


def _check_filter(name: str, value: Any, operands: Mapping[str, Any]) -> None:
    """Before a filter: what it makes of its value is not too large before it can be measured."""
    if name in LISTING and isinstance(value, str) and len(value) > MAX_ELEMENTS:
        _refuse_size()
    if name in SLOW and _factor(value) > MAX_SLOW_SIZE:
        _refuse_size()
    if name == "sum":
        starts = [*operands[""][1:], operands.get("start", 0)]
        if not all(isinstance(start, (int, float)) for start in starts):
            message = "sum of what are no numbers"
            raise TemplateLimitError(message)


def _check_split(text: str, separator: Any) -> None:
    is_given = isinstance(separator, str) and separator
    n_parts = text.count(separator) if is_given else len(text) // 2
    if n_parts > MAX_ELEMENTS:
        _refuse_size()


def _check_operands(name: str, value: Any, operands: Sequence[Any]) -> None:
    """Before a filter or a method of a string: its operands can not make much of little."""
    for operand in operands:
        if isinstance(operand, int) and abs(operand) > MAX_ARGUMENT:
            message = f"{name} with {operand}, more than {MAX_ARGUMENT}"
            raise TemplateLimitError(message)
    widths: list[int] = []
    if name in ("format", "format_map"):
        if FORMAT_FROM_OUTSIDE.search(str(value)):
            message = "a format whose width is an argument"
            raise TemplateLimitError(message)
        widths = [int(digits[:9]) for digits in re.findall(r"\d+", str(value))]
    if name in MULTIPLYING:
        for factor in (*operands, *widths):
            _check_product(value, factor)


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
            _refuse_size()
    elif _factor(left) * _factor(right) > MAX_PRODUCT:
        _refuse_size()


def _factor(value: Any) -> int:
    if isinstance(value, int):
        return abs(value)
    if isinstance(value, range):
        return len(value)
    return len(value) if isinstance(value, str) else _size(value)


def _size(value: Any) -> int:
    """The size of a value with all that it holds, each time it is held; bounded, so it ends."""
    size, unseen = 0, [value]
    while unseen:
        item = unseen.pop()
        size += ELEMENT_SIZE if item is not value else 0
        if isinstance(item, (str, bytes)):
            size += len(item)
        elif isinstance(item, int):
            size += item.bit_length() // 3
        elif isinstance(item, dict):
            unseen.extend(item)
            unseen.extend(item.values())
        elif isinstance(item, CONTAINERS):
            unseen.extend(item)
        if size + ELEMENT_SIZE * len(unseen) > MAX_SIZE:
            _refuse_size()
    return size


def _refuse_size() -> NoReturn:
    message = "it made something that is too large"
    raise TemplateLimitError(message)
