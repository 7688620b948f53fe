"""Rows of the benchmark's tables, what each column means, and their Markdown."""

from dataclasses import MISSING, asdict, dataclass, field, fields
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Speed:
    """One row of the speed table.

    Attributes:
      measure: what is measured.
      unit: of every number in ``rates``; more is better.
      rates: for each side, ``ours`` first, one number a repeat.
      peer: the side that ours is measured against; None if ours has none here.
      wanted: how many times the peer's rate ours should have.
      first_call: seconds of ours' first run, compilation included, and of a later one like it.
      check: what was compared to make sure that both sides did the same work, and the number.
      about: whatever else is to be known.
      cannot: peers that do not have this, and their words.
      most: what the check's number may be; None if any.
    """

    measure: str
    unit: str
    rates: dict[str, list[float]]
    peer: str | None
    wanted: float | None
    first_call: tuple[float, float]
    check: tuple[str, float] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    cannot: dict[str, str] = field(default_factory=dict)
    most: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether all sides did the same work."""
        return self.check is None or self.most is None or self.check[1] <= self.most

    @property
    def ratio(self) -> float | None:
        """Median rate of ours over the peer's."""
        return median(self.rates["ours"]) / median(self.rates[self.peer]) if self.peer else None

    @staticmethod
    def table(rows: "list[Speed]") -> str:
        """Markdown: medians, with the lowest and the highest repeat."""
        lines = [
            "| measure | ours | peer | times the peer (wanted) | other peers | first call, of it compilation | check |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            others = [f"{name} {_rates(rates)}" for name, rates in row.rates.items() if name not in ("ours", row.peer)]
            others += [f"{name} {why}" for name, why in row.cannot.items()]
            whole, later = row.first_call
            peer, times = (f"{row.peer} {_rates(row.rates[row.peer])}", _times(row)) if row.peer else ("-", "-")
            check = f"{row.check[0]}: {row.check[1]:.1g}{'' if row.agrees else ', TOO LARGE'}" if row.check else "-"
            lines.append(
                f"| {row.measure} ({row.unit}) | {_rates(row.rates['ours'])} | {peer} | {times} "
                f"| {', '.join(others) or '-'} | {whole:.1f} s, {max(whole - later, 0):.1f} s | {check} |"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Until:
    """One row of the table of times until the values are as good as wanted.

    Attributes:
      measure: what is measured, from when to when.
      seconds: for each side, ``ours`` first, one number a repeat; less is better.
      peer: the side that ours is measured against; None if ours has none here.
      wanted: how many times less ours should take.
      samples: for each side, coalitions of ours and samples a point of the peer, the fewest that reach the goal.
      spearman: rank correlation of ours with the reference in each timed run, with seeds not used in the search.
      reference: where the converged values come from.
      reliability: the squared correlation to expect of the reference with endless sampling, from its two halves.
      parts: what ours' seconds are made of, for each part one number a repeat.
      about: whatever else is to be known.
      goal: the rank correlation that is to be reached.
    """

    measure: str
    seconds: dict[str, list[float]]
    peer: str | None
    wanted: float | None
    samples: dict[str, int]
    spearman: list[float]
    reference: str
    reliability: float
    parts: dict[str, list[float]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    goal: float = 0.95

    @property
    def agrees(self) -> bool:
        """Whether the runs that were timed reached the goal, by their median."""
        return median(self.spearman) >= self.goal

    @property
    def ratio(self) -> float | None:
        """Median seconds of the peer over ours."""
        if not self.peer:
            return None
        return median(self.seconds[self.peer]) / median(self.seconds["ours"])

    @staticmethod
    def table(rows: "list[Until]") -> str:
        """Markdown: medians, with the lowest and the highest repeat."""
        lines = [
            "| until | ours, coalitions | of it | peer, samples a point | times less (wanted) | Spearman | reference |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            parts = ", ".join(f"{name} {median(seconds):.2g} s" for name, seconds in row.parts.items()) or "-"
            peer = times = "-"
            if row.peer:
                peer = f"{row.peer} {_seconds(row.seconds[row.peer])}, {row.samples[row.peer]}"
                times = _times(row)
            lines.append(
                f"| {row.measure} | {_seconds(row.seconds['ours'])}, {row.samples['ours']} "
                f"| {parts} | {peer} | {times} "
                f"| {median(row.spearman):.3f} ({min(row.spearman):.3f} to {max(row.spearman):.3f})"
                f"{'' if row.agrees else ', goal NOT reached'} "
                f"| {row.reference}, reliability {row.reliability:.3f} |"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Memory:
    """One row of the memory table.

    Attributes:
      measure: what was run, in a process of its own.
      peak: most memory that the process held, bytes, for each repeat.
      most: how much it may hold, bytes.
      seconds: of the whole process, for each repeat.
      about: whatever else is to be known.
    """

    measure: str
    peak: list[int]
    most: int
    seconds: list[float]
    about: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def table(rows: "list[Memory]") -> str:
        """Markdown."""
        lines = ["| measure | peak memory (at most) | seconds, cold |", "|---|---|---|"]
        lines += [
            f"| {row.measure} | {max(row.peak) / 2**30:.2f} GiB ({row.most / 2**30:g}) | {_seconds(row.seconds)} |"
            for row in rows
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Agreement:
    """One row of the agreement table: values of the same game by two ways.

    Attributes:
      measure: the two ways.
      points: players of the game.
      largest: largest difference between two values.
      spread: root mean square difference in standard errors, about 1 if sampling is all there is; None if none is.
      agrees: largest below 1e-4 where both are exact, else ``spread`` below 1.8 (one run in 10,000 is above).
    """

    measure: str
    points: int
    largest: float
    spread: float | None
    agrees: bool

    @staticmethod
    def table(rows: "list[Agreement]") -> str:
        """Markdown."""
        lines = [
            "| values | points | largest difference | RMS difference in standard errors | agree |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            spread = "-" if row.spread is None else f"{row.spread:.2f}"
            lines.append(
                f"| {row.measure} | {row.points} | {row.largest:.1g} | {spread} | {'yes' if row.agrees else 'NO'} |"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Coverage:
    """One row of the coverage table.

    Attributes:
      measure: estimator, samples and subset size.
      points: of the game.
      reference: where the converged values come from.
      shares: of the points whose interval holds the converged value, one a run. The points of a run share its
        coalitions, so runs differ by more than that many coins would.
    """

    measure: str
    points: int
    reference: str
    shares: list[float]

    @property
    def share(self) -> float:
        """Of all runs."""
        return sum(self.shares) / len(self.shares)

    @staticmethod
    def table(rows: "list[Coverage]") -> str:
        """Markdown."""
        lines = [
            "| 95 % intervals of values | runs | hold the converged value | reference |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {row.measure}, N = {row.points:,} | {len(row.shares)} "
            f"| {row.share:.1%} ({min(row.shares):.1%} to {max(row.shares):.1%}) | {row.reference} |"
            for row in rows
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Growth:
    """One row of the table of growth: how much more a warm process held while it made an array.

    Attributes:
      measure: what was run, in a process of its own.
      before: bytes held when all was warm, for each repeat.
      grown: most bytes held on top of these.
      output: bytes of the array that was made.
      seconds: that it took.
    """

    measure: str
    before: list[int]
    grown: list[int]
    output: list[int]
    seconds: list[float]

    @property
    def ratio(self) -> float:
        """Growth over the array's bytes."""
        return max(self.grown) / self.output[0]

    @staticmethod
    def table(rows: "list[Growth]") -> str:
        """Markdown."""
        lines = ["| measure | held when warm | grown by | output | growth over output | seconds |", "|---" * 6 + "|"]
        lines += [
            f"| {row.measure} | {max(row.before) / 2**20:,.0f} MiB | {max(row.grown) / 2**20:,.0f} MiB "
            f"| {row.output[0] / 2**20:,.0f} MiB | {row.ratio:.2f} | {_seconds(row.seconds)} |"
            for row in rows
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Encoded:
    """One row of the table of encoders on a GPU.

    Attributes:
      measure: encoder, precision and batch.
      rates: sequences a second of each side, one number a repeat.
      first: seconds of ours' first run, compilation included.
      share: of the peak, for each side.
      peak: FLOP a second of square matrix products, measured in the same run.
      moved: bytes a sequence of what the counted products read and write; None where that was not counted.
      memory_peak: bytes a second of a stream through the memory, measured in the same run; None where it was not.
      check: what was compared to make sure that both sides did the same work, and the number.
    """

    measure: str
    rates: dict[str, list[float]]
    first: float
    share: dict[str, float]
    peak: float
    moved: float | None = None
    memory_peak: float | None = None
    check: tuple[str, float] | None = None

    @property
    def memory_share(self) -> dict[str, float] | None:
        """Of the memory's peak, what the counted bytes took of it, for each side."""
        if self.moved is None or self.memory_peak is None:
            return None
        return {side: self.moved * median(rates) / self.memory_peak for side, rates in self.rates.items()}

    @property
    def limit(self) -> str | None:
        """Which of the peaks ours is nearer to."""
        return None if self.memory_share is None else _nearer(self.share["ours"], self.memory_share["ours"])

    @staticmethod
    def table(rows: "list[Encoded]") -> str:
        """Markdown; without the columns of what no row has."""
        heads = ["measure", "sequences/s, share of the peak", "measured peak", "first call", *_MEMORY, "check"]
        cells = []
        for row in rows:
            sides = ", ".join(f"{side} {_rates(row.rates[side])}, {row.share[side]:.0%}" for side in row.rates)
            moved = ""
            if row.memory_share is not None:
                shares = ", ".join(f"{side} {share:.0%}" for side, share in row.memory_share.items())
                moved = f"{row.moved / 1e6:.3g} MB a sequence, {shares}"
            check = f"{row.check[0]}: {row.check[1]:.1g}" if row.check else "-"
            peak, first = f"{row.peak / 1e12:.3g} TFLOP/s", f"{row.first:.1f} s"
            cells.append([row.measure, sides, peak, first, *_memory_cells(row, moved), check])
        return _markdown(heads, cells)


@dataclass(frozen=True)
class Large:
    """One row of the large game.

    Attributes:
      measure: the game.
      first: seconds of the first call of `tsds_jax.value`, compilation included.
      seconds: of the same call again, one number a repeat.
      flop: arithmetic counted.
      peak: FLOP a second of matrix products, by precision.
      device_memory: most bytes in use on the device in this process; None where it does not say.
      unconverged: fits that did not converge; None where that was not asked.
      moved: bytes of what the counted products read and write; None where that was not counted.
      memory_peak: bytes a second of a stream through the memory, measured in the same run; None where it was not.
      computed_in: the precision that the counted products run in.
    """

    measure: str
    first: float
    seconds: list[float]
    flop: float
    peak: dict[str, float]
    device_memory: int | None
    unconverged: int | None = None
    moved: float | None = None
    memory_peak: float | None = None
    computed_in: str = "float32 at default precision"

    @property
    def share(self) -> dict[str, float]:
        """Of each peak, what the counted arithmetic took of it."""
        return {name: self.flop / median(self.seconds) / peak for name, peak in self.peak.items()}

    @property
    def memory_share(self) -> float | None:
        """Of the memory's peak, what the counted bytes took of it."""
        if self.moved is None or self.memory_peak is None:
            return None
        return self.moved / median(self.seconds) / self.memory_peak

    @property
    def limit(self) -> str | None:
        """Which of the peaks the counted products are nearer to."""
        return None if self.memory_share is None else _nearer(self.share[self.computed_in], self.memory_share)

    @staticmethod
    def table(rows: "list[Large]") -> str:
        """Markdown; without the columns of what no row has."""
        heads = ["measure", "first call", "later calls", "arithmetic", "measured peak, share of it"]
        heads += ["memory on the device", *_MEMORY]
        cells = []
        for row in rows:
            peaks = ", ".join(f"{name} {row.peak[name] / 1e12:.3g} TFLOP/s, {row.share[name]:.1%}" for name in row.peak)
            memory = "-" if row.device_memory is None else f"{row.device_memory / 2**30:.1f} GiB"
            moved = "" if row.memory_share is None else f"{row.moved / 1e12:.3g} TB, {row.memory_share:.1%}"
            later, amount = f"{median(row.seconds):.2f} s", f"{row.flop / 1e12:.3g} TFLOP"
            cells.append([row.measure, f"{row.first:.1f} s", later, amount, peaks, memory, *_memory_cells(row, moved)])
        return _markdown(heads, cells)


# What a row says of the device's memory.
_MEMORY = (
    "read and written by the counted products, share of the memory's peak",
    "measured memory peak",
    "nearer limit",
)

# In the order of their tables.
KINDS: tuple[Any, ...] = (Speed, Until, Large, Memory, Growth, Coverage, Agreement, Encoded)


def tables(rows: "list[Any]") -> str:
    """Markdown: a table for each kind of row."""
    some = ([row for row in rows if isinstance(row, kind)] for kind in KINDS)
    return "\n\n".join(type(of[0]).table(of) for of in some if of)


def as_json(row: Any) -> dict[str, Any]:
    """A row as JSON values, with what follows from them."""
    found = {name: getattr(row, name) for name in ("ratio", "share", "memory_share", "limit") if hasattr(row, name)}
    return asdict(row) | {name: value for name, value in found.items() if value is not None}


def rebuilt(entry: dict[str, Any]) -> Any:
    """The row that `as_json` wrote: of the kind all of whose fields it has, and of those the one with most."""

    def needed(kind: Any) -> set[str]:
        return {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}

    kind = max((kind for kind in KINDS if needed(kind) <= entry.keys()), key=lambda kind: len(needed(kind)))
    return kind(**{one.name: entry[one.name] for one in fields(kind) if one.name in entry})


def _nearer(arithmetic: float, memory: float) -> str:
    """Which of the two shares of a peak is larger."""
    return "arithmetic" if arithmetic >= memory else "memory"


def _memory_cells(row: Encoded | Large, moved: str) -> list[str]:
    """Under `_MEMORY`; ``moved`` is the first."""
    return ["-"] * len(_MEMORY) if row.limit is None else [moved, f"{row.memory_peak / 1e9:,.0f} GB/s", row.limit]


def _markdown(heads: list[str], cells: list[list[str]]) -> str:
    """A table of the columns in which any row has something."""
    kept = [number for number in range(len(heads)) if any(line[number] != "-" for line in cells)]
    lines = [f"| {' | '.join(line[number] for number in kept)} |" for line in (heads, *cells)]
    return "\n".join([lines[0], "|" + "---|" * len(kept), *lines[1:]])


def _times(row: Speed | Until) -> str:
    return f"{_digits(row.ratio)} ({row.wanted:g})"


def _rates(rates: list[float]) -> str:
    """Median, with the lowest and the highest if there are several."""
    middle = _digits(median(rates))
    return middle if len(rates) == 1 else f"{middle} ({_digits(min(rates))} to {_digits(max(rates))})"


def _seconds(seconds: list[float]) -> str:
    """Median, with the lowest and the highest if there are several."""
    middle = f"{_digits(median(seconds))} s"
    return middle if len(seconds) == 1 else f"{middle} ({_digits(min(seconds))} to {_digits(max(seconds))})"


def _digits(number: float) -> str:
    """Two digits behind the point below ten, none from there."""
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"
