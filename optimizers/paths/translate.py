"""A rule's text turned into a C++ kernel: operators on symbols write down what they do.

The kernel reads and writes each element once, whatever the number of operators, and rounds after
each of them, as PyTorch does when it carries them out one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..rule import Rule

# pointers    [2 + slots, tensors]  parameter, gradient and each slot of a tensor
# sizes       [tensors]             elements in one row of a tensor
# coefficients [rows, C]            rows is the K of a stack, or 1
# Parts share out all elements in equal runs of whole cache lines.
KERNEL = """\
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <omp.h>

using T = {type};

static inline T sign(T x) {{ return T((T(0) < x) - (x < T(0))); }}
static inline T maximum(T a, T b) {{ return (a > b || a != a) ? a : b; }}

struct Step {{
  int64_t tensors;
  T* const* pointers;
  const int64_t* sizes;
  int64_t rows;
  const T* coefficients;
  int64_t parts;
}};

static void take(const Step& step, int64_t part, int64_t parts) {{
  const int64_t tensors = step.tensors, rows = step.rows, *sizes = step.sizes;
  T* const* pointers = step.pointers;
  const T* coefficients = step.coefficients;
  int64_t elements = 0;
  for (int64_t i = 0; i < tensors; i++) elements += rows * sizes[i];
  const int64_t lines = (elements + 15) / 16;
  int64_t begin = 16 * (lines * part / parts), end = 16 * (lines * (part + 1) / parts);
  for (int64_t i = 0; i < tensors && end > 0; i++) {{
    const int64_t size = sizes[i], total = rows * size, last = std::min(end, total);
    for (int64_t at = std::max(begin, int64_t(0)); at < last;) {{
      const int64_t row = at / size, stop = std::min(last, (row + 1) * size);
{load_coefficients}
{load_pointers}
#pragma omp simd
      for (int64_t j = at; j < stop; j++) {{
{body}
      }}
      at = stop;
    }}
    begin -= total, end -= total;
  }}
}}

extern "C" void step(const Step* step, int threads) {{
#pragma omp parallel num_threads(threads) if (threads > 1)
  take(*step, omp_get_thread_num(), omp_get_num_threads());
}}

// For whoever shares out a step otherwise.
extern "C" void step_part(void* step, int part) {{
  take(*static_cast<Step*>(step), part, static_cast<Step*>(step)->parts);
}}
"""


@dataclass
class Trace:
    """The lines of C written so far, and the coefficients that they use."""

    lines: list[str] = field(default_factory=list)
    coefficients: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Symbol:
        if name not in self.coefficients:
            self.coefficients.append(name)
        return Symbol(self, f"c_{name}")

    def write(self, expression: str) -> Symbol:
        name = f"t{len(self.lines)}"
        self.lines.append(f"const T {name} = {expression};")
        return Symbol(self, name)


@dataclass(frozen=True)
class Symbol:
    """A value of the kernel. Each operator adds a line to the trace."""

    trace: Trace
    name: str

    def _binary(self, template: str, other: Symbol | float) -> Symbol:
        b = other.name if isinstance(other, Symbol) else f"T({other!r})"
        return self.trace.write(template.format(a=self.name, b=b))

    def _unary(self, function: str) -> Symbol:
        return self.trace.write(f"{function}({self.name})")

    def __add__(self, other: Symbol | float) -> Symbol:
        return self._binary("{a} + {b}", other)

    def __radd__(self, other: float) -> Symbol:
        return self._binary("{b} + {a}", other)

    def __sub__(self, other: Symbol | float) -> Symbol:
        return self._binary("{a} - {b}", other)

    def __rsub__(self, other: float) -> Symbol:
        return self._binary("{b} - {a}", other)

    def __mul__(self, other: Symbol | float) -> Symbol:
        return self._binary("{a} * {b}", other)

    def __rmul__(self, other: float) -> Symbol:
        return self._binary("{b} * {a}", other)

    def __truediv__(self, other: Symbol | float) -> Symbol:
        return self._binary("{a} / {b}", other)

    def __rtruediv__(self, other: float) -> Symbol:
        return self._binary("{b} / {a}", other)

    def __neg__(self) -> Symbol:
        return self._unary("-")

    def maximum(self, other: Symbol) -> Symbol:
        return self._binary("maximum({a}, {b})", other)

    def abs(self) -> Symbol:
        return self._unary("std::abs")

    def sign(self) -> Symbol:
        return self._unary("sign")

    def sqrt(self) -> Symbol:
        return self._unary("std::sqrt")


@dataclass(frozen=True)
class Source:
    rule: str
    text: str
    coefficients: tuple[str, ...]  # in the order in which the kernel expects them


def translate(rule: type[Rule], real: str) -> Source:
    """The kernel of `rule` over C's type `real`."""
    trace = Trace()
    operands = ["p", "g", *rule.slots]
    loaded: Any = [trace.write(f"{name}_[j]") for name in operands]
    p, g, *slots = loaded
    next_p, next_slots = rule.step(p, g, tuple(slots), trace)
    results = {"p": next_p, **dict(zip(rule.slots, next_slots, strict=True))}
    stores = [f"{name}_[j] = {symbol.name};" for name, symbol in results.items()]
    text = KERNEL.format(
        type=real,
        load_coefficients=indent(
            f"const T c_{name} = coefficients[row * {len(trace.coefficients)} + {i}];"
            for i, name in enumerate(trace.coefficients)
        ),
        load_pointers=indent(
            f"{'const ' * (name == 'g')}T* __restrict__ {name}_ = pointers[{i} * tensors + i];"
            for i, name in enumerate(operands)
        ),
        body=indent([*trace.lines, *stores], 10),
    )
    return Source(rule.__name__, text, tuple(trace.coefficients))


def indent(lines: Any, by: int = 8) -> str:
    return "\n".join(" " * by + line for line in lines)
