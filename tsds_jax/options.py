"""Every option of a run, with its default and its meaning: the Python API, the command line and TOML files share them.

This module imports nothing heavy, so that ``tsds --help`` can read it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tsds_jax.errors import InputError


def _option(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class SelectOptions:
    """From text to a selection: representation, valuation, transfer.

    Logistic regression with C = 1 on 32 principal components is what CS-Shapley of the same group has, where the paper
    does not say. The defaults differ from the paper in the utility (the paper's is ``"accuracy"``), the estimator of
    the same values (``"permutation"`` is the paper's truncated sampling chains), the last layer's mean for the
    penultimate representation, a subset size that follows the dimension for 2 % of the data, and the cross-fitted
    rule, checked on the target, for the largest score (``rule="argmax"``, ``check_seeds=0``).

    Attributes:
      pooling: how token vectors become one, ``"mean"``, ``"weighted_mean"``, ``"cls"`` or ``"last"``; None as the
        model says (`Encoder.pooling`), which for most is the mean.
      layer: whose hidden state; 0 the embeddings, -1 the last layer. Of several, such as ``(-1, -4)``, the pooled
        vectors stand side by side.
      max_length: tokens that a longer text is cut to where it is represented; None takes the encoder's limit.
        `FineTuneOptions` has its own.
      represent_by: the model ``"pretrained"``, as it is; ``"fine_tuned"`` for one pass over the training rows; or
        ``"cross_fitted"``, halves of the rows by a model that was fine-tuned on the other half.
      pca: principal components kept, fitted on training rows; 0 keeps the representation as it is.
      source: source classifier.
      utility: what it is scored by on the validation rows. The paper takes accuracy, which a linear classifier keeps
        in spite of many wrong labels; ``"log_likelihood"`` finds more of them.
      estimator: how values are estimated.
      subset_size: points in a chain of ``"permutation"``; a coalition of ``"add_one"`` or ``"exact"`` has at most one
        less, for one more joins it; the Banzhaf value is of all points. None takes four times (features + 1), from 64
        to 512. With ``group`` it counts groups, of which None takes as many as hold these points, but 16 at least.
      samples: coalitions (of ``"permutation"`` contributions per point), or with ``reliability`` at most so many.
      reliability: the rank correlation to expect with another seed (`Valuation.split_half`) at which sampling stops.
      C: inverse L2 strength of the source classifier.
      truncation: how close to the whole chain's utility ends a chain's walk, of a mean squared error in units of the
        variance of ``y_val``; 0 never.
      rule: removal index by ``"cross_fitted"`` (each half of the validation rows judges the removals that the other
        half decides), ``"one_se"`` or ``"argmax"`` (the paper); see `removal_index`.
      remove_count: rows to remove, in place of the rule's choice.
      remove_share: share of the rows to remove, likewise.
      remove_below: value below which rows are removed, likewise.
      class_floor: least share of each class's rows that stays.
      by_class: whether rows go by their place among their own class, about the same share of each.
      tie_duplicates: whether rows of the same text and label are kept or removed together, at their mean value. Without
        ``group`` alone: copies in two groups go with their groups, and judge each other.
      group: a column of the training rows; rows with the same entry are valued, kept or removed as a whole,
        and where validation rows are set apart, set apart as a whole.
      protect: a column of the training rows that marks those never to remove, nor to set apart for validation, by 1,
        true or yes.
      check_seeds: seeds of short fine-tunings of the target that check the rule's cut before it is recommended; 0 does
        not check. Where nothing is to be removed, or as much as was asked for, there is nothing to check. With
        ``rule="cross_fitted"`` the seeds take turns with the halves of the validation rows: give an even number.
      check_steps: gradient steps of each, at most; with three cuts and all rows, four fine-tunings a seed. Where the
        whole fine-tuning takes more, they are about fewer rows, so as to make as many passes.
      grid: share of the points between two cuts of the removal curve.
      largest_cut: largest share of the points that a rule may remove.
      validation_fraction: share of the training rows, but for those that ``protect`` marks, set apart where no
        validation data is given.
      drop_overlap: leave out training rows whose text stands in validation or test, and validation rows whose text
        stands in test.
      seed: decides every draw.
    """

    pooling: str | None = _option(
        None, "How token vectors become one: mean, weighted_mean, cls or last; else as the model says, or mean."
    )
    layer: int | tuple[int, ...] = _option(
        -1, "Layer whose hidden state represents a text, 0 the embeddings, -1 the last; or several: -1,-4."
    )
    max_length: int | None = _option(
        None, "Tokens a longer text is cut to; else the encoder's limit, and 128 in fine-tuning."
    )
    represent_by: str = _option("pretrained", "The model pretrained, fine_tuned for a pass, or cross_fitted.")
    pca: int = _option(32, "Principal components kept, fitted on training rows; 0 keeps all features.")
    source: str = _option("logistic", "Source classifier: logistic or ridge.")
    utility: str = _option(
        "log_likelihood", "log_likelihood, accuracy (the paper's), balanced_accuracy, probability or class_wise."
    )
    estimator: str = _option("add_one", "add_one, permutation (the paper's chains), exact, banzhaf or banzhaf_add_one.")
    subset_size: int | None = _option(None, "Points in a chain; one more than the largest coalition of add_one.")
    samples: int = _option(
        300, "Coalitions drawn, each of which values all points outside it; of permutation, contributions per point."
    )
    reliability: float | None = _option(
        None, "Stop sampling once another seed would rank alike: their rank correlation, 0 to 0.999."
    )
    C: float = _option(1.0, "Inverse L2 strength of the source classifier.")
    truncation: float = _option(
        1e-3, "A chain of --estimator permutation ends this close to its full utility; 0 never."
    )
    rule: str = _option("cross_fitted", "Removal index by cross_fitted, one_se or argmax (the paper's).")
    remove_count: int | None = _option(None, "Rows to remove, in place of the rule's choice.")
    remove_share: float | None = _option(None, "Share of the rows to remove, in place of the rule's choice.")
    remove_below: float | None = _option(None, "Value below which rows are removed, in place of the rule's choice.")
    class_floor: float = _option(0.0, "Least share of each class's rows that stays.")
    by_class: bool = _option(False, "Remove about the same share of each class.")
    tie_duplicates: bool = _option(True, "Keep or remove rows of one text and label together, unless --group does so.")
    group: str | None = _option(None, "Column whose equal entries are valued, kept, removed and set apart as a whole.")
    protect: str | None = _option(None, "Column that marks rows never to remove or set apart: 1, true or yes.")
    check_seeds: int = _option(
        2, "Seeds of short fine-tunings that check the cut on the model itself, an even number; 0 does not."
    )
    check_steps: int = _option(100, "Gradient steps of each, at most; on fewer rows, for as many passes.")
    grid: float = _option(0.02, "Share of the points between two cuts of the removal curve.")
    largest_cut: float = _option(0.5, "Largest share of the points that a rule may remove.")
    validation_fraction: float = _option(0.2, "Share of training rows set apart where no validation is given.")
    drop_overlap: bool = _option(False, "Leave out rows whose text also stands in a later split.")
    seed: int = _option(0, "Decides every draw.")


# Of these, what decides how rows are valued; and what `evaluate` takes, which values rows one by one and cuts them
# where the rule says.
VALUED = ("source", "utility", "estimator", "subset_size", "samples", "reliability", "C", "truncation", "seed")
_CUT = ("rule", "grid", "largest_cut", "check_seeds", "check_steps", "drop_overlap")
EVALUATED = ("pooling", "layer", "max_length", "represent_by", "pca", *VALUED, *_CUT)
# What decides how many of which points go, once they have values.
CHOSEN = (
    *("rule", "grid", "largest_cut", "remove_count", "remove_share", "remove_below"),
    *("class_floor", "by_class"),
)
# What `suspects` takes, which values nothing.
SUSPECTED = ("pooling", "layer", "max_length", "represent_by", "pca", "C", "group", "seed")


@dataclass(frozen=True)
class FineTuneOptions:
    """How a target model is fine-tuned.

    Attributes:
      task: ``"classification"``; ``"multi_label"``, any number of classes a row, each by its own yes or no; or
        ``"regression"`` of numbers by their squared error. These are trained in units of their spread, so that
        ``learning_rate`` suits any.
      head: ``"own"``, that of the family's ``ForSequenceClassification`` model in transformers; or a pooling's name,
        ``"mean"``, ``"weighted_mean"``, ``"cls"`` or ``"last"``, under one linear map.
      epochs: passes over the training rows, when ``steps`` is not given.
      steps: gradient steps, the same whatever the number of rows.
      batch_size: rows of a step.
      accumulate: parts that a step's rows are computed in, one after another: less memory, the same gradient.
      learning_rate: of AdamW at its peak: it rises to it in a straight line, then falls to 0.
      schedule: how it falls: ``"linear"``, ``"cosine"``, or ``"constant"``, not at all.
      warmup: share of the steps in which it rises.
      weight_decay: of matrices and embeddings; biases and layer norms have none.
      clip: largest global norm of a step's gradient.
      dropout: in place of the config's rates and for the head; None takes the config's.
      label_smoothing: share of the target that is spread over all classes, in ``"multi_label"`` over yes and no.
      tune: what trains beside the head: ``"all"``, ``"biases"`` (BitFit), ``"lora"`` adapters, or nothing, ``"head"``.
      frozen_layers: lowest layers, with the embeddings, that do not train.
      lora_rank: of an adapter's two factors.
      lora_alpha: what an adapter adds is scaled by this over the rank.
      lora_on: which maps have adapters, ``"query_value"`` or ``"all"`` of the layers'.
      dtype: ``"float32"``, or ``"bfloat16"`` to compute the encoder in it; weights, head and loss stay in float32. A
        step multiplies float32 as JAX does by default, with fewer digits on accelerators (TF32 on NVIDIA's), which
        ``jax.default_matmul_precision`` changes; looks and predictions always with all digits.
      remat: compute each layer again in the backward pass in place of keeping what it computed: a fourth more time,
        far less memory.
      shard: each device keeps its part alone of the parameters and the optimiser's state between steps, and asks the
        others for theirs within a step: less memory, more talk. An `Encoder` that was given stays whole where it is.
        Nothing on one device.
      max_length: tokens that longer texts are cut to, at most the encoder's own limit.
      evaluate_every: steps from one look at the validation rows to the next; None looks 4 times a run.
      patience: looks without improvement after which to stop; None never stops early. With validation rows the best
        state is the result either way.
      best_by: the metric of the validation rows that says which is best: ``"accuracy"``, ``"macro_f1"`` or
        ``"loss"``; of several labels ``"micro_f1"``, ``"macro_f1"``, ``"accuracy"`` (all of a row right) or ``"loss"``;
        in regression ``"loss"``, ``"mean_absolute_error"``, ``"r2"``, ``"pearson"`` or ``"spearman"``; None takes the
        first. A tie goes to the lower loss.
      seed: decides the head's first values, the order of the rows and dropout.
    """

    task: str = _option("classification", "classification, multi_label (any number of classes a row), or regression.")
    head: str = _option("own", "The family's own, or mean, weighted_mean, cls or last under one linear map.")
    epochs: float = _option(3.0, "Passes over the training rows, where --steps is not given.")
    steps: int | None = _option(None, "Gradient steps, the same whatever the number of rows.")
    batch_size: int = _option(32, "Rows of a gradient step.")
    accumulate: int = _option(1, "Parts that a step is computed in, to save memory.")
    learning_rate: float = _option(5e-5, "Of AdamW at its peak.")
    schedule: str = _option("linear", "How the learning rate falls: linear, cosine or constant.")
    warmup: float = _option(0.1, "Share of the steps in which the learning rate rises.")
    weight_decay: float = _option(0.01, "Of matrices and embeddings.")
    clip: float = _option(1.0, "Largest global norm of a gradient.")
    dropout: float | None = _option(None, "In place of the model's own rates.")
    label_smoothing: float = _option(0.0, "Share of the target spread over all classes.")
    tune: str = _option("all", "What trains beside the head: all, biases, lora or (nothing) head.")
    frozen_layers: int = _option(0, "Lowest layers, with the embeddings, that do not train.")
    lora_rank: int = _option(8, "Rank of a LoRA adapter.")
    lora_alpha: float = _option(16.0, "A LoRA adapter is scaled by this over its rank.")
    lora_on: str = _option("query_value", "Maps that LoRA adapts: query_value or all.")
    dtype: str = _option("float32", "What the encoder computes in while it is tuned: float32 or bfloat16.")
    remat: bool = _option(False, "Compute layers again in the backward pass, to save memory.")
    shard: bool = _option(False, "Each device keeps its part alone of the parameters, to save memory.")
    max_length: int = _option(128, "Tokens a longer text is cut to.")
    evaluate_every: int | None = _option(None, "Steps between two looks at the validation rows.")
    patience: int | None = _option(None, "Looks without improvement after which to stop.")
    best_by: str | None = _option(None, "Metric of the validation rows that says which step is best.")
    seed: int = _option(0, "Decides the head's first values, the order of rows and dropout.")


# One pass is enough for MiniLM on tweets, at twice the usual rate: more passes mostly fit the wrong labels too. It was
# made for the mean of its tokens, which its pooler never saw.
DEMO_FINETUNING = FineTuneOptions(head="mean", epochs=1.0, learning_rate=1e-4)

Options = TypeVar("Options")


def build(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """Options of ``kind`` with what is given in place of the defaults.

    Raises:
      InputError: an option that does not exist, with those that do.
    """
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            raise InputError(f"there is no option {name!r}: use {', '.join(names)}")
    return kind(**{name: plain(entry) for name, entry in given.items()})


def select_options(
    options: object, changes: Mapping[str, Any], takes: Sequence[str] = (), taker: str = ""
) -> SelectOptions:
    """``changes`` over ``options``, or over the defaults where there are none.

    Raises:
      InputError: ``options`` that are none; or an option that does not exist, or that is none of those which the
        ``taker`` ``takes``, where it does not take all.

    Example:
      >>> select_options(SelectOptions(pca=8), {"seed": 3}).pca
      8
    """
    if not isinstance(options, SelectOptions | None):
        raise InputError(f"options is a {type(options).__name__}: give SelectOptions(...)")
    base = vars(options or SelectOptions())
    changed = [name for name, entry in vars(SelectOptions()).items() if base[name] != entry]
    for name in [*changes, *changed] if takes else ():
        if name not in takes:
            raise InputError(f"{taker} has no option {name!r}: use {', '.join(takes)}")
    return build(SelectOptions, {**base, **changes})


def plain(entry: Any) -> Any:
    """A NumPy scalar as the number that it is, which JSON knows, also in a tuple or list; anything else as it came.

    >>> plain("a"), plain([3])
    ('a', (3,))
    """
    if isinstance(entry, tuple | list):
        return tuple(map(plain, entry))
    return entry.item() if getattr(entry, "shape", None) == () and hasattr(entry, "item") else entry
