"""What each option of fine-tuning promises, on a tiny BERT and texts of one length."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from datasets import Dataset
from flax import nnx

from tsds_jax.data import TextData, load_data
from tsds_jax.encoders import Encoder, embed, load_encoder
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.finetuning import FineTuned, finetune, finetune_seeds, load_target, training
from tsds_jax.finetuning import checkpoints as checkpoints_module
from tsds_jax.finetuning.checkpoints import Checkpoints
from tsds_jax.finetuning.optimiser import learning_rate_at
from tsds_jax.finetuning.scores import METRICS, goodness, score
from tsds_jax.finetuning.target import new_target
from tsds_jax.finetuning.units import Units
from tsds_jax.options import FineTuneOptions
from tsds_jax.pipeline import select
from tsds_jax.stages import finetune_files, finetune_seed_files

MODEL = Path(__file__).parent / "golden" / "bert"
OPTIONS = FineTuneOptions(head="mean", steps=4, batch_size=6, learning_rate=1e-2, dropout=0.0, max_length=16)
WORDS = ("bad", "awful", "poor", "sad", "good", "great", "fine", "lovely")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(MODEL)


def films(rows: int, seed: int = 0) -> TextData:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, len(WORDS), rows)
    texts = [f"the {rng.choice(('film', 'plot', 'music'))} was {WORDS[word]}" for word in words]
    labels = (words > 3).astype(np.int32)
    table = Dataset.from_dict({"text": texts, "label": [("neg", "pos")[label] for label in labels]})
    return TextData(table, texts, labels, ("neg", "pos"), ("text",), "label")


def tune(encoder: Encoder, train: TextData | None = None, *, held: TextData | None = None, **given) -> FineTuned:
    folder = {name: given.pop(name) for name in ("folder", "resume", "checkpoint_every", "progress") if name in given}
    options = dataclasses.replace(OPTIONS, **given)
    return finetune(encoder, train or films(40), validation=held, test=held, options=options, **folder)


def weights(module: nnx.Module) -> dict[str, np.ndarray]:
    return {".".join(map(str, path)): np.asarray(param[...]) for path, param in nnx.to_flat_state(nnx.state(module))}


def changed(encoder: Encoder, result: FineTuned) -> set[str]:
    """The encoder's parameters that training changed."""
    before, after = weights(encoder.model), weights(result.model.module.encoder)
    return {name for name in before if np.abs(before[name] - after[name]).max() > 0}


@pytest.fixture(scope="module")
def plain(encoder) -> FineTuned:
    return tune(encoder)


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"accumulate": 2}, {"accumulate": 4}, {"remat": True}])
def test_what_saves_memory_changes_no_weight(given, encoder, plain):
    expected = weights(plain.model.module)
    for name, found in weights(tune(encoder, **given).model.module).items():
        # A key's bias has no gradient but rounding, and Adam makes a step of any.
        if not name.endswith("key.bias"):
            np.testing.assert_allclose(found, expected[name], atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_each_part_of_a_step_and_each_layer_drops_by_masks_of_its_own(encoder):
    """With dropout the parts of a step draw anew: their mean loss is none of one mask's repeated."""
    twice = films(3).select([0, 1, 2, 0, 1, 2])
    losses = [
        tune(encoder, twice, steps=1, dropout=0.3, accumulate=parts, learning_rate=1e-9).history[0]["train_loss"]
        for parts in (1, 2)
    ]
    assert abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.slow
def test_layers_computed_again_drop_the_same_entries_as_the_first_time(encoder):
    kept, again = (tune(encoder, dropout=0.2, remat=remat, steps=2) for remat in (False, True))
    expected = weights(kept.model.module)
    for name, found in weights(again.model.module).items():
        if not name.endswith("key.bias"):
            np.testing.assert_allclose(found, expected[name], atol=2e-5, err_msg=name)


def test_all_of_the_encoder_trains_by_default(encoder, plain):
    assert changed(encoder, plain) == set(weights(encoder.model))
    assert plain.trained == encoder.parameters + 2 * 32 + 2


def test_bitfit_trains_biases_and_the_head(encoder):
    result = tune(encoder, tune="biases")
    assert changed(encoder, result) == {name for name in weights(encoder.model) if name.endswith(".bias")}
    assert result.trained == sum(leaf.size for name, leaf in weights(encoder.model).items() if "bias" in name) + 66


def test_the_head_alone_trains_where_that_is_asked_for(encoder):
    result = tune(encoder, tune="head")
    assert changed(encoder, result) == set()
    assert result.trained == 66
    assert np.abs(weights(result.model.module)["head.out.kernel"]).max() > 0.02


def test_frozen_layers_and_the_embeddings_below_them_stay(encoder):
    result = tune(encoder, frozen_layers=1)
    assert changed(encoder, result) == {name for name in weights(encoder.model) if name.startswith("layers.1.")}
    with pytest.raises(InputError, match="frozen_layers must be at most 2, the layers of the model, not 3"):
        tune(encoder, frozen_layers=3)


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("llama", {"tune": "biases"}),  # it has none
        ("bert", {"tune": "biases", "frozen_layers": 2}),
        ("bert", {"tune": "lora", "frozen_layers": 2}),
    ],
)
def test_a_part_that_the_encoder_does_not_have_is_refused_and_the_head_alone_named(family, given):
    encoder = load_encoder(MODEL.parent / family)
    with pytest.raises(InputError, match=f"tune {given['tune']} finds nothing .* frozen_layers .*give tune head"):
        tune(encoder, **given)


@pytest.mark.parametrize(("on", "layers"), [("query_value", 0), ("all", 1)])
def test_lora_adds_a_matrix_of_its_rank_to_the_maps_it_is_asked_for(on, layers, encoder):
    result = tune(encoder, tune="lora", lora_rank=3, lora_on=on, frozen_layers=layers)
    kernels = [name for name in weights(encoder.model) if name.endswith(".kernel")]
    wanted = ("query.kernel", "value.kernel") if on == "query_value" else (".kernel",)
    expected = {name for name in kernels if name.endswith(wanted) and int(name.split(".")[1]) >= layers}
    assert changed(encoder, result) == expected
    before, after = weights(encoder.model), weights(result.model.module.encoder)
    for name in expected:
        sizes = np.linalg.svd((after[name] - before[name]).astype(np.float64), compute_uv=False)
        assert sizes[2] > 1e-4
        assert sizes[3] < 1e-5
    assert result.trained == 66 + sum(3 * sum(before[name].shape) for name in expected)


def test_loras_gradient_is_that_of_low_rank_factors():
    """The kernel made anew each step has the chain rule's gradient: dA = dW B' s, dB = A' dW s."""
    from tsds_jax.finetuning.parts import Adapter, Trained, whole

    rng = np.random.default_rng(0)
    kernel, given, down, up = (
        jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((5, 4), (7, 5), (5, 2), (2, 4))
    )
    frozen = nnx.from_flat_state([(("encoder", "map", "kernel"), nnx.Param(kernel))])

    def loss(adapter):
        _, merged = whole(Trained(nnx.State({}), {"encoder.map.kernel": adapter}), frozen, 0.5)
        return jnp.sin(given @ merged["encoder"]["map"]["kernel"][...]).sum()

    found = jax.grad(loss)(Adapter(down, up))
    slope = given.T @ jnp.cos(given @ (kernel + 0.5 * down @ up))
    np.testing.assert_allclose(found.down, 0.5 * slope @ up.T, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(found.up, 0.5 * down.T @ slope, rtol=2e-5, atol=1e-5)


def test_bfloat16_computes_nearly_the_same_and_keeps_float32_weights(encoder, plain):
    result = tune(encoder, dtype="bfloat16")
    assert {leaf.dtype for leaf in weights(result.model.module).values()} == {np.dtype(np.float32)}
    # What the step computes, not only what it is given, is of that type.
    target = result.model.module
    states = training._lowered((nnx.state(target),), "bfloat16")
    graphdef = nnx.split(target)[0]
    ids = np.zeros((2, 8), np.int32)
    hidden = jax.eval_shape(lambda: nnx.merge(graphdef, *states).encoder.hidden_states(ids, ids, ids))
    assert {state.dtype for state in hidden} == {jnp.dtype("bfloat16")}
    ours, theirs = result.history[0]["train_loss"], plain.history[0]["train_loss"]
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.02)


def test_in_bfloat16_a_segment_that_all_tokens_are_of_gets_the_sum_of_their_gradients(encoder, monkeypatch):
    monkeypatch.setattr(training, "adamw", lambda *rates: optax.sgd(1.0))  # a step is the gradient
    alike = dataclasses.replace(films(256), labels=np.zeros(256, np.int32))

    def slope(dtype: str) -> np.ndarray:
        result = tune(encoder, alike, dtype=dtype, dropout=0.0, steps=1, batch_size=256)
        name = "embeddings.types.embedding"
        return weights(result.model.module.encoder)[name][0] - weights(encoder.model)[name][0]

    exact = slope("float32")
    # As those of other parameters; summed in bfloat16 it was 14 % off.
    assert np.linalg.norm(slope("bfloat16") - exact) < 0.04 * np.linalg.norm(exact)


def test_a_step_that_a_device_has_no_memory_for_says_what_takes_less(encoder, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.")

    monkeypatch.setattr(training, "train_step", full)
    with pytest.raises(TsdsError, match=r"no memory for a step of 8 rows of \d+ tokens: give remat, .* accumulate"):
        tune(encoder, batch_size=8)


def test_a_run_goes_on_with_less_memory(encoder, tmp_path):
    with pytest.raises(Stop):
        tune(encoder, steps=4, folder=tmp_path / "cut", checkpoint_every=0.0, progress=stopping(2))
    steps = []
    resumed = tune(
        encoder, steps=4, folder=tmp_path / "cut", resume=True, remat=True, progress=lambda e: steps.append(e.done)
    )
    assert steps[0] > 1
    texts = list(films(9, 1).texts)
    expected = tune(encoder, steps=4).model.outputs(texts)
    np.testing.assert_allclose(resumed.model.outputs(texts), expected, atol=1e-4)


def test_smoothed_targets_give_the_loss_of_pytorch(encoder):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 4, 9)
    plan = training.the_plan(None, "classification", 0.1, 0.0, "float32", False)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(outputs), torch.tensor(labels), label_smoothing=0.1, reduction="none"
    )
    np.testing.assert_allclose(training._losses(plan, jnp.asarray(outputs), jnp.asarray(labels)), expected, rtol=1e-5)
    assert tune(encoder, label_smoothing=0.2).history[0]["train_loss"] != tune(encoder).history[0]["train_loss"]


def test_the_cosine_falls_as_optax_has_it_and_the_constant_does_not_fall():
    options = FineTuneOptions(learning_rate=2.0, warmup=0.2, schedule="cosine")
    falling = optax.cosine_decay_schedule(2.0, 8)
    rates = [learning_rate_at(step, options, 10) for step in range(10)]
    np.testing.assert_allclose(rates[2:], [falling(step) for step in range(8)], rtol=1e-5)
    assert rates[0] < rates[1] < rates[2] == 2
    options = dataclasses.replace(options, schedule="constant")
    assert [learning_rate_at(step, options, 10) for step in range(2, 10)] == [2.0] * 8


def numbers(rows: int, seed: int) -> TextData:
    """Texts whose number is how good their word is."""
    data = films(rows, seed)
    values = np.array([10 + WORDS.index(text.split()[-1]) for text in data.texts], np.float32)
    return dataclasses.replace(data, labels=values, classes=())


def test_a_regression_is_learned_saved_and_loaded(encoder, tmp_path):
    held = numbers(40, 1)
    given = {"task": "regression", "steps": 60, "batch_size": 16, "learning_rate": 2e-2, "head": "own"}
    result = tune(encoder, numbers(80, 0), held=held, **given)
    assert (result.classes, result.probabilities) == ((), None)
    assert set(result.metrics) == set(METRICS["regression"])
    assert result.metrics["r2"] > 0.8
    assert result.predictions.dtype == np.float32
    result.model.save_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(load_target(tmp_path / "saved").predict(held.texts), result.predictions)
    with pytest.raises(InputError, match="no probabilities"):
        result.model.probabilities(held.texts)


@pytest.mark.slow
def test_a_regressions_head_starts_at_the_mean_of_the_numbers(encoder):
    result = tune(encoder, numbers(50, 0), task="regression", steps=1, learning_rate=1e-9)
    assert result.history[0]["train_loss"] < 2 * numbers(50, 0).labels.var()


@pytest.mark.slow
def test_numbers_in_other_units_are_learned_alike(encoder, tmp_path):
    held = numbers(40, 1)
    given = {"task": "regression", "steps": 60, "batch_size": 16, "learning_rate": 5e-3, "evaluate_every": 20}

    def other(data):
        return dataclasses.replace(data, labels=5000 + 1000 * data.labels)

    one = tune(encoder, numbers(80, 0), held=held, **given)
    with pytest.raises(Stop):
        tune(
            encoder,
            other(numbers(80, 0)),
            held=other(held),
            folder=tmp_path / "run",
            checkpoint_every=0.0,
            progress=stopping(30),
            **given,
        )
    two = tune(encoder, other(numbers(80, 0)), held=other(held), folder=tmp_path / "run", resume=True, **given)
    assert two.metrics["r2"] > 0.8
    np.testing.assert_allclose(two.predictions, 5000 + 1000 * one.predictions, atol=0.1 * other(held).labels.std())
    # Later looks are at what rounding has made of it.
    for name in ("train_loss", "validation_loss"):
        assert two.history[0][name] == pytest.approx(1e6 * one.history[0][name], rel=0.1)
    two.model.save_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(load_target(tmp_path / "saved").predict(held.texts), two.predictions)
    # Its head goes on where it was.
    again = tune(two.model.encoder, other(numbers(80, 0)), held=other(held), **given | {"learning_rate": 1e-9})
    np.testing.assert_allclose(again.predictions, two.predictions, rtol=1e-4)


def test_numbers_that_are_all_alike_have_no_units_and_a_head_without_bias_has_no_middle():
    assert Units.of(np.full(7, 3.3, np.float32), bias=True).scale == 1
    units = Units.of(np.array([30.0, 40.0]), bias=False)
    assert units == (0, pytest.approx(1250**0.5))
    np.testing.assert_allclose(units.inside(np.array([30.0])), 30 / 1250**0.5)


def test_a_gradient_that_is_not_finite_stops_the_run_at_the_last_step_too(encoder):
    """Its squares overflow where the loss does not."""
    far = np.stack([np.full(32, -1e25), np.full(32, 1e25)]) * np.where(np.arange(32) % 2, 1, -1)
    head = {"linear_head.weight": far.astype(np.float32), "linear_head.bias": np.zeros(2, np.float32)}
    settings = {**encoder.settings, "id2label": {"0": "neg", "1": "pos"}}
    with pytest.raises(TsdsError, match="the gradient's norm is inf at step 1; lower the learning_rate"):
        tune(dataclasses.replace(encoder, settings=settings, head=head), films(40), steps=1)


def test_scores_of_a_regression_are_those_of_their_definitions():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = rng.normal(size=30).astype(np.float32)
    outputs = (labels + rng.normal(size=30)).astype(np.float32)[:, None]
    found = score(outputs, labels, "regression")
    assert found["loss"] == pytest.approx(metrics.mean_squared_error(labels, outputs), rel=1e-5)
    assert found["mean_absolute_error"] == pytest.approx(metrics.mean_absolute_error(labels, outputs), rel=1e-5)
    assert found["r2"] == pytest.approx(metrics.r2_score(labels, outputs), rel=1e-5)
    assert found["pearson"] == pytest.approx(np.corrcoef(labels, outputs[:, 0])[0, 1], rel=1e-5)
    alike = score(np.ones((3, 1)), np.ones(3), "regression")
    assert (alike["r2"], alike["pearson"], alike["spearman"]) == (0, 0, 0)


def test_numbers_are_read_and_a_row_without_one_is_named(tmp_path):
    (tmp_path / "good.csv").write_text("text,label\na film,1.5\nbad,-2\n")
    data = load_data(tmp_path / "good.csv", task="regression")
    assert (data.labels.tolist(), data.classes, data.label_names) == ([1.5, -2.0], (), ["1.5", "-2.0"])
    assert data.select([1]).fingerprint() != data.select([0]).fingerprint()
    for value in ("much", "nan", "inf", ""):
        (tmp_path / "bad.csv").write_text(f"text,label\na film,1.5\nbad,{value}\n")
        with pytest.raises(InputError, match=r"bad\.csv .*row 1: .*not a finite number"):
            load_data(tmp_path / "bad.csv", task="regression")
    with pytest.raises(InputError, match="labels must be numbers here, and are one class a row"):
        load_data(films(3), task="regression")
    with pytest.raises(InputError, match="labels must be one class a row here, and are numbers"):
        load_data(data)


def tagged(rows: int, seed: int) -> TextData:
    """Texts with none, one or both of two labels: whether the word is good, and whether the thing is music."""
    data = films(rows, seed)
    labels = np.array([[text.split()[-1] in WORDS[4:], "music" in text] for text in data.texts])
    return dataclasses.replace(data, labels=labels, classes=("good", "music"))


def test_several_labels_a_row_are_learned_saved_and_loaded(encoder, tmp_path):
    held = tagged(40, 1)
    assert {len(names) for names in map(set, held.labels.tolist())} == {1, 2}
    given = {"task": "multi_label", "steps": 100, "batch_size": 16, "learning_rate": 5e-3, "head": "own"}
    result = tune(encoder, tagged(80, 0), held=held, **given)
    assert set(result.metrics) == set(METRICS["multi_label"])
    assert result.metrics["micro_f1"] > 0.95
    assert (result.predictions == (result.probabilities >= 0.5)).all()
    assert result.probabilities.sum(1).max() > 1.5
    result.model.save_pretrained(tmp_path / "saved")
    again = load_target(tmp_path / "saved")
    assert (again.task, again.classes) == ("multi_label", ("good", "music"))
    np.testing.assert_array_equal(again.predict(held.texts), result.predictions)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_several_labels_is_that_of_pytorch_and_transformers(smoothing):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 2, (9, 4)) > 0
    plan = training.the_plan(None, "multi_label", smoothing, 0.0, "float32", False)
    targets = torch.tensor(labels * (1 - smoothing) + smoothing / 2)
    expected = torch.nn.BCEWithLogitsLoss()(torch.tensor(outputs), targets).item()
    found = training._losses(plan, jnp.asarray(outputs), jnp.asarray(labels))
    assert float(found.mean()) == pytest.approx(expected, rel=1e-5)
    if not smoothing:
        assert score(outputs, labels, "multi_label")["loss"] == pytest.approx(expected, rel=1e-5)


def test_scores_of_several_labels_are_those_of_their_definitions():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(30, 4)), rng.integers(0, 2, (30, 4)) > 0
    labels[:, 3], outputs[:, 3] = False, -1
    found, said = score(outputs, labels, "multi_label"), outputs >= 0
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, said))
    for mean in ("micro", "macro"):
        assert found[f"{mean}_f1"] == pytest.approx(metrics.f1_score(labels, said, average=mean, zero_division=0))


@pytest.mark.slow
def test_one_label_is_enough_where_a_row_may_have_none(encoder):
    one = dataclasses.replace(tagged(40, 0), labels=tagged(40, 0).labels[:, :1], classes=("good",))
    assert tune(encoder, one, held=one, task="multi_label").probabilities.shape == (40, 1)


def test_the_metric_that_decides_can_be_chosen():
    scores = {"accuracy": 0.8, "macro_f1": 0.6, "loss": 0.5}
    assert goodness(scores, "classification", None) == (0.8, -0.5)
    assert goodness(scores, "classification", "macro_f1") == (0.6, -0.5)
    assert goodness(scores, "classification", "loss") == (-0.5, -0.5)


@pytest.mark.slow
def test_where_the_checkpoint_has_no_head_it_is_said(encoder):
    assert sorted(tune(encoder, steps=1, head="own").fresh) == ["classifier.bias", "classifier.weight"]


class Stop(Exception):
    pass


def stopping(at: int):
    def progress(event):
        if event.stage == "finetune" and event.done == at:
            raise Stop

    return progress


LONGER = {"held": films(20, 1), "steps": 8, "evaluate_every": 3, "dropout": 0.1, "checkpoint_every": 0.0}


@pytest.fixture(scope="module")
def uncut(encoder, tmp_path_factory):
    """A folder, and the run in it that was not stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, tune(encoder, folder=folder, **LONGER)


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 5, 7])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(at, encoder, uncut, tmp_path):
    folder, whole = uncut
    with pytest.raises(Stop):
        tune(encoder, folder=tmp_path / "cut", progress=stopping(at), **LONGER)
    events = []
    resumed = tune(encoder, folder=tmp_path / "cut", resume=True, progress=events.append, **LONGER)
    assert events[0].done == at  # the step after the last checkpoint
    for name, expected in weights(whole.model.module).items():
        np.testing.assert_array_equal(weights(resumed.model.module)[name], expected, err_msg=name)
    assert (resumed.history, resumed.metrics, resumed.best_step) == (whole.history, whole.metrics, whole.best_step)
    lines = [
        [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (folder, tmp_path / "cut")
    ]
    steps = [[(line["step"], line["loss"]) for line in run if "loss" in line] for run in lines]
    assert [step for step, _ in steps[0]] == list(range(1, 9))
    assert steps[0] == steps[1]
    assert set(lines[0][0]) >= {"step", "loss", "learning_rate", "gradient_norm", "tokens", "seconds"}


def test_the_seconds_of_a_run_that_goes_on_have_those_before_its_checkpoint(encoder, tmp_path):
    def slow(event):
        time.sleep(0.5 if event.done == 1 else 0)
        stopping(3)(event)

    with pytest.raises(Stop):
        tune(encoder, folder=tmp_path, progress=slow, checkpoint_every=0.0)
    for _ in range(2):  # it is gone on with, and once more after its last step
        began = time.perf_counter()
        resumed = tune(encoder, folder=tmp_path, resume=True, checkpoint_every=0.0)
        assert resumed.seconds > time.perf_counter() - began + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("what", ["all", "lora"])
def test_what_a_run_saves_that_went_on_after_its_last_step_is_the_model_that_it_holds(what, encoder, tmp_path):
    given = {"folder": tmp_path / "run", "checkpoint_every": 0.0, "tune": what}
    whole = tune(encoder, **given)
    resumed = tune(encoder, resume=True, **given)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(nnx.state(resumed.model.module)))
    resumed.model.save_pretrained(tmp_path / "model")
    saved = weights(load_target(tmp_path / "model").module)
    for name, expected in weights(whole.model.module).items():
        np.testing.assert_array_equal(weights(resumed.model.module)[name], expected, err_msg=name)
        np.testing.assert_array_equal(saved[name], expected, err_msg=name)


@pytest.mark.slow
def test_a_run_that_goes_on_holds_no_more_than_one_that_was_not_cut(encoder, tmp_path, monkeypatch):
    step, held = training.train_step, []

    def watched(*arguments):
        held.append(sum(array.nbytes for array in jax.live_arrays()))
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", watched)
    given = {"steps": 6, "evaluate_every": 3, "held": films(20, 1), "checkpoint_every": 0.0}
    tune(encoder, folder=tmp_path / "whole", **given)
    whole = held[-1]
    with pytest.raises(Stop):
        tune(encoder, folder=tmp_path / "cut", progress=stopping(2), **given)
    tune(encoder, folder=tmp_path / "cut", resume=True, **given)
    assert held[-1] <= whole + 10_000


def test_fine_tuning_from_files_holds_no_copy_of_the_encoder_beside_the_one_that_trains(tmp_path, monkeypatch):
    step, held = training.train_step, []

    def watched(*arguments):
        held.append(sum(array.nbytes for array in jax.live_arrays()))
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", watched)
    films(40).rows.to_csv(tmp_path / "train.csv", index=False)
    before = sum(array.nbytes for array in jax.live_arrays())
    options = dataclasses.replace(OPTIONS, steps=2)
    finetune_files(str(tmp_path / "train.csv"), str(MODEL), str(tmp_path / "run"), options=options)
    weights = sum(array.nbytes for array in jax.tree.leaves(nnx.state(load_encoder(MODEL).model)))
    # What trains, two moments and the best state; of the head and a batch there is little.
    assert max(held) - before < 4.5 * weights


@pytest.mark.slow
@pytest.mark.parametrize("torn", ['{"time": 1.5, "stage": "finet', "\0\0\0"])
def test_a_line_of_the_metrics_that_was_cut_off_is_dropped_when_the_run_goes_on(torn, encoder, tmp_path):
    given = {"folder": tmp_path, "checkpoint_every": 0.0}
    tune(encoder, **given)
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole + torn)
    tune(encoder, resume=True, **given)
    assert (tmp_path / "metrics.jsonl").read_text() == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_the_last_step_written_before_the_run_ends(number, encoder, tmp_path):
    def told(event):
        if event.done == 3:
            os.kill(os.getpid(), number)

    before, given = signal.getsignal(number), {"steps": 5, "checkpoint_every": 3600.0}
    with pytest.raises(KeyboardInterrupt):
        tune(encoder, folder=tmp_path / "cut", progress=told, **given)
    assert signal.getsignal(number) == before
    events = []
    resumed = tune(encoder, folder=tmp_path / "cut", resume=True, progress=events.append, **given)
    assert [event.done for event in events] == [4, 5]
    for name, expected in weights(tune(encoder, steps=5).model.module).items():
        np.testing.assert_array_equal(weights(resumed.model.module)[name], expected, err_msg=name)


def test_a_slow_disk_is_no_reason_for_orbax_to_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from orbax.checkpoint import checkpoint_manager

    monkeypatch.setattr(checkpoint_manager, "_WAIT_FOR_PREV_SAVE_WARNING_THRESHOLD_SECS", 2e-3)
    with Checkpoints(tmp_path / "kept", 3600.0) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, lambda: [np.zeros(1_000_000)], {})
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.parametrize(("seconds", "due"), [(0.0, [True] * 5), (60.0, [False, True, False, False, True])])
def test_a_slow_save_is_no_more_than_a_twentieth_of_the_time_unless_every_step_is_to_be_kept(
    seconds, due, tmp_path, monkeypatch
):
    now = 0.0
    monkeypatch.setattr(checkpoints_module, "time", SimpleNamespace(monotonic=lambda: now))
    found = []
    with Checkpoints(tmp_path / "kept", seconds) as checkpoints:
        write = checkpoints.manager.save

        def slow(*given, **how):
            nonlocal now
            now += 50.0
            return write(*given, **how)

        monkeypatch.setattr(checkpoints.manager, "save", slow)
        # The save at 100 s ends at 150 s, so the next is due from 1,150 s on.
        for step, time in enumerate((30.0, 100.0, 300.0, 1100.0, 1151.0), 1):
            now = max(now, time)
            found.append(checkpoints.due)
            if found[-1]:
                checkpoints.save(step, lambda: [np.zeros(3)], {})
    assert found == due


@pytest.mark.slow
def test_a_run_that_took_long_is_kept_whole_at_its_end(encoder, tmp_path, monkeypatch):
    """What follows, its test rows and whoever saves the model, may fail, and no step is taken twice for that."""
    monkeypatch.setattr(checkpoints_module, "_WORTH", 0.0)
    given = {"held": films(20, 1), "dropout": 0.1, "folder": tmp_path, "checkpoint_every": 3600.0}
    first, steps = tune(encoder, **given), []
    again = tune(encoder, **given, resume=True, progress=steps.append)
    assert steps == []
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    assert (again.history, again.best_step, again.steps) == (first.history, first.best_step, first.steps)


# A process of its own: TensorStore's threads go on with the other arrays, and tell of what became of each.
FULL = """
import resource, sys
tests, out = sys.argv[1:]
sys.path.insert(0, tests)
import numpy as np
from test_finetuning_options import MODEL, Checkpoints, checkpoints_module, films, load_encoder, tune, weights
from tsds_jax.cli import main

def full(from_step):
    def save(self, step, *rest):
        # Of files beyond so many bytes.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if step >= from_step else resource.RLIM_INFINITY, -1))
        try:
            write(self, step, *rest)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, -1))
    return save

write, checkpoints_module._WORTH = Checkpoints.save, 0.0
whole = tune(load_encoder(MODEL))
Checkpoints.save = full(from_step=1)
tuned = tune(load_encoder(MODEL), folder=f"{out}/tuned", checkpoint_every=3600.0)
for name, expected in weights(whole.model.module).items():
    np.testing.assert_array_equal(weights(tuned.model.module)[name], expected, err_msg=name)
films(40).rows.to_csv(f"{out}/train.csv", index=False)
Checkpoints.save = full(from_step=2)
command = ["finetune", "--train", f"{out}/train.csv", "--model", str(MODEL), "--steps", "3", "--batch-size", "6"]
main([*command, "--checkpoint-every", "0", "--out", f"{out}/run"])
"""


@pytest.mark.slow
def test_a_full_disk_takes_nothing_of_what_was_learned_and_is_told_with_the_way_out_while_a_run_goes_on(tmp_path):
    pytest.importorskip("resource")
    program = [sys.executable, "-c", FULL, str(Path(__file__).parent), str(tmp_path)]
    stopped = subprocess.run(program, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    place = tmp_path / "run" / "checkpoints"
    words = f"{place} cannot be written (file too large): make room, and the same command with --resume goes on"
    # Not a line by itself: TensorStore's threads may be telling theirs.
    assert f"tsds: error: {words}" in stopped.stderr
    assert stopped.returncode == 1
    assert (place / "1").is_dir()


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (ValueError(f"RESOURCE_EXHAUSTED: writing: {os.strerror(errno.ENOSPC)} [os_error_code='28']"), errno.ENOSPC),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), errno.EDQUOT),
        (ValueError("a shape"), None),
    ],
)
def test_a_checkpoint_without_room_names_the_folder_and_leaves_no_part_there(error, number, tmp_path, monkeypatch):
    def full(step, **how):
        (tmp_path / f"{step}.orbax-checkpoint-tmp").mkdir()
        (tmp_path / f"{step}.orbax-checkpoint-tmp" / "half").write_text("of it")
        raise error

    with Checkpoints(tmp_path, 3600.0) as checkpoints:
        checkpoints.save(1, lambda: [np.zeros(3)], {})
        monkeypatch.setattr(checkpoints.manager, "save", full)
        with pytest.raises(OSError if number else ValueError) as told:
            checkpoints.save(2, lambda: [np.zeros(3)], {})
        assert number is None or (told.value.errno, told.value.filename) == (number, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.slow
def test_numbers_of_numpy_are_numbers(encoder, tmp_path):
    given = {"steps": np.int64(2), "batch_size": np.int32(8), "learning_rate": np.float32(1e-4)}
    options = dataclasses.replace(OPTIONS, **given)
    runs = finetune_seeds(encoder, films(20), seeds=np.arange(2), options=options, folder=tmp_path)
    assert [run.steps for run in runs.runs] == [2, 2]
    assert json.dumps(runs.seeds) == "[0, 1]"
    folder = finetune_seed_files(np.arange(2), tmp_path / "files", train=films(20), model=str(MODEL), options=options)
    assert json.loads((folder / "seeds.json").read_text())["seeds"] == [0, 1]
    one = embed(encoder, ["a good film was good"], max_length=np.int64(6), layer=np.int64(-1), batch_size=np.int64(1))
    two = embed(encoder, ["a good film was good"], max_length=6, batch_size=1)
    np.testing.assert_array_equal(one.values, two.values)
    assert one.truncated == 1


def test_a_signal_that_comes_after_the_last_step_is_not_lost(tmp_path):
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path / "kept", 3600.0):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_folder_of_another_run_is_refused_and_the_difference_named(encoder, tmp_path):
    tune(encoder, steps=1, folder=tmp_path)
    with pytest.raises(InputError, match="holds another run: resume it"):
        tune(encoder, steps=1, folder=tmp_path)
    with pytest.raises(InputError, match=r"options\.steps 1 instead of 2"):
        tune(encoder, steps=2, folder=tmp_path, resume=True)
    other = dataclasses.replace(encoder, head={name: tensor + 1 for name, tensor in encoder.head.items()})
    with pytest.raises(InputError, match=r"a run with head \w+ instead of"):
        tune(other, steps=1, folder=tmp_path, resume=True)


def test_a_model_is_not_overwritten_by_what_is_made_of_it(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "manifest.json").write_text('{"identity": {}}')
    with pytest.raises(InputError, match=r"model is of the run in .* that overwrite would remove: copy it elsewhere"):
        finetune(tmp_path / "model", films(4), options=OPTIONS, folder=tmp_path, overwrite=True)
    assert (tmp_path / "model").exists()


@pytest.mark.parametrize(("name", "value"), [("patience", 2), ("best_by", "loss")])
@pytest.mark.parametrize("held", [None, films(0)])
def test_what_validation_rows_decide_is_refused_without_any_before_a_model_is_read(name, value, held):
    options = dataclasses.replace(OPTIONS, **{name: value})
    with pytest.raises(InputError, match=f"option {name} .* give some, or leave it out"):
        finetune("no/model", films(4), validation=held, options=options)
    with pytest.raises(InputError, match="no/model"):
        finetune("no/model", films(4), validation=films(2), options=options)


@pytest.mark.slow
def test_representing_and_checking_take_the_last_step_whatever_decides_which_is_best(encoder, monkeypatch):
    asked = {}
    for name in ("pipeline.representing", "pipeline.target_check"):
        asked[name] = called = []

        def recorded(*given, options, called=called, **how):
            called.append(options.best_by)
            return finetune(*given, options=options, **how)

        monkeypatch.setattr(import_module(f"tsds_jax.{name}"), "finetune", recorded)
    options = dataclasses.replace(OPTIONS, best_by="loss", steps=1)
    how = {"pca": 4, "samples": 4, "subset_size": 20, "check_seeds": 2, "check_steps": 1, "remove_count": None}
    rows = {"validation": films(30, 1), "model": encoder, "represent_by": "fine_tuned"}
    found = select(films(60), **rows, finetuning=options, rule="argmax", **how)
    assert asked["pipeline.representing"] == [None]
    # Of each seed the model with all rows, and those without the lowest ones.
    assert len(found.check.cuts) > 0
    assert asked["pipeline.target_check"] == [None] * 2 * (1 + len(found.check.cuts))


def test_patience_that_ended_a_run_still_ends_it_when_it_is_resumed(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "score", lambda *given: {"accuracy": 0.5, "macro_f1": 0.5, "loss": 1.0})
    given = {"held": films(20, 1), "steps": 8, "evaluate_every": 2, "patience": 1, "checkpoint_every": 0.0}
    first = tune(encoder, folder=tmp_path, **given)
    assert (first.steps, first.best_step) == (4, 2)
    again = tune(encoder, folder=tmp_path, resume=True, **given)
    assert (again.steps, again.best_step) == (4, 2)
    assert again.history == first.history


@pytest.mark.parametrize("resume", [False, True])
def test_what_forbids_a_later_seed_is_said_before_the_first_is_trained(encoder, resume, tmp_path):
    (tmp_path / "seed-5").mkdir()
    (tmp_path / "seed-5" / ("notes.txt" if resume else "manifest.json")).write_text('{"identity": {}}')
    with pytest.raises(InputError, match="seed-5 holds"):
        finetune_seeds(encoder, films(4), seeds=(3, 5), options=OPTIONS, folder=tmp_path, resume=resume)
    assert [folder.name for folder in tmp_path.iterdir()] == ["seed-5"]


@pytest.mark.slow
def test_a_later_seeds_run_of_other_options_is_refused_before_the_first_is_trained(encoder, tmp_path):
    finetune_seeds(encoder, films(8), seeds=(5,), options=OPTIONS, folder=tmp_path / "python")
    other = dataclasses.replace(OPTIONS, learning_rate=2e-2)
    with pytest.raises(InputError, match=r"seed-5 holds a run with options.learning_rate 0.01 instead of 0.02"):
        finetune_seeds(encoder, films(8), seeds=(3, 5), options=other, folder=tmp_path / "python", resume=True)
    assert not (tmp_path / "python" / "seed-3").exists()

    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "the film was good,pos\nthe plot was bad,neg\n" * 4)
    given = {"train": str(rows), "model": str(MODEL), "out": str(tmp_path / "files")}
    finetune_seed_files((5,), options=OPTIONS, **given)
    with pytest.raises(InputError, match=r"seed-5 holds a run with options.learning_rate 0.01 instead of 0.02"):
        finetune_seed_files((3, 5), options=other, resume=True, **given)
    assert not (tmp_path / "files" / "seed-3").exists()


@pytest.mark.slow
def test_the_runs_of_all_seeds_are_overwritten_before_the_first_is_trained(encoder, tmp_path):
    before = finetune_seeds(encoder, films(8), seeds=(3, 5), options=OPTIONS, folder=tmp_path)

    def cut(event):
        raise KeyboardInterrupt

    how = {"seeds": (3, 5), "options": OPTIONS, "folder": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        finetune_seeds(encoder, films(8), overwrite=True, progress=cut, **how)
    assert not (tmp_path / "seed-5" / "metrics.jsonl").exists()
    after = finetune_seeds(encoder, films(8), resume=True, **how)
    assert [run.history for run in after.runs] == [run.history for run in before.runs]


@pytest.mark.parametrize(
    ("given", "words"),
    [({"checkpoint_every": -1}, "checkpoint_every is -1"), ({"progres": print}, "no option 'progres'")],
)
def test_old_runs_of_seeds_are_there_while_what_was_given_cannot_be_used(given, words, encoder, tmp_path):
    old = tmp_path / "seed-3" / "manifest.json"
    old.parent.mkdir()
    old.write_text('{"identity": {}}')
    with pytest.raises(InputError, match=words):
        finetune_seeds(encoder, films(8), seeds=(3,), options=OPTIONS, folder=tmp_path, overwrite=True, **given)
    assert old.read_text() == '{"identity": {}}'


def test_a_row_that_cannot_be_tokenised_leaves_a_new_folder_to_be_resumed_with_the_row_mended(encoder, tmp_path):
    rows = films(8)
    blank = dataclasses.replace(rows, texts=[" ", *rows.texts[1:]])
    with pytest.raises(InputError, match="row 0"):
        finetune(encoder, blank, options=OPTIONS, folder=tmp_path / "run", resume=True)
    finetune(encoder, rows, options=OPTIONS, folder=tmp_path / "run", resume=True)


def test_rows_of_one_class_are_no_classification(encoder):
    rows = films(8)
    one = dataclasses.replace(rows, labels=np.zeros(8, np.int32), classes=("neg",))
    with pytest.raises(InputError, match="'neg' alone"):
        finetune(encoder, one, options=OPTIONS)


def test_a_dropout_of_almost_all_leaves_some(encoder):
    assert np.isfinite(tune(encoder, steps=1, dropout=0.999999).history[-1]["train_loss"])


def test_what_was_read_from_a_run_is_not_overwritten_by_what_is_made_of_it(tmp_path):
    run = tmp_path / "runs" / "seed-0"
    shutil.copytree(MODEL, run / "model")
    (run / "manifest.json").write_text('{"identity": {}}')
    told = r"seed-0/model is of the run in .* that overwrite would remove"
    for model in (run / "model", load_encoder(run / "model")):
        with pytest.raises(InputError, match=told):
            finetune_seeds(model, films(4), seeds=(0, 1), options=OPTIONS, folder=tmp_path / "runs", overwrite=True)
        with pytest.raises(InputError, match=told):
            finetune(model, films(4), options=OPTIONS, folder=run, overwrite=True)
    assert (run / "model" / "config.json").exists()


def test_a_tokenizer_that_was_read_is_saved_wherever_its_folder_has_gone(tmp_path):
    encoder = load_encoder(shutil.copytree(MODEL, tmp_path / "gone"))
    tuned = tune(encoder, steps=1)
    shutil.rmtree(tmp_path / "gone")
    assert tuned.model.encoder.tokenizer is encoder.tokenizer
    assert encoder.fingerprint() == load_encoder(MODEL).fingerprint()
    for name, saves in (("target", tuned.model), ("encoder", encoder), ("tuned", tuned.model.encoder)):
        assert load_encoder(saves.save_pretrained(tmp_path / name)).embed(["a good film"]).shape == (1, 32)


def test_seeds_run_apart_and_are_summed_up(encoder, tmp_path):
    held = films(20, 1)
    before = training.train_step._cache_size()
    runs = finetune_seeds(
        encoder, films(40), seeds=(3, 5), test=held, validation=held, options=OPTIONS, folder=tmp_path / "runs"
    )
    alone = tune(encoder, held=held, seed=5)
    assert runs.runs[1].metrics == alone.metrics
    assert training.train_step._cache_size() - before <= 1
    accuracies = [run.metrics["accuracy"] for run in runs.runs]
    assert runs.mean["accuracy"] == pytest.approx(np.mean(accuracies))
    assert runs.deviation["loss"] == pytest.approx(np.std([run.metrics["loss"] for run in runs.runs], ddof=1))
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == ["seed-3", "seed-5"]
    for seeds in ((), (1, 1), 3, "0,1"):
        with pytest.raises(InputError, match="different whole numbers"):
            finetune_seeds(encoder, films(4), seeds=seeds)
    for call in (finetune, partial(finetune_seeds, seeds=(1, 2))):
        with pytest.raises(InputError, match="options is a dict: give FineTuneOptions"):
            call(encoder, films(4), options={"steps": 3})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unfit(place: Path) -> Path:
    """The model with a tokenizer whose word "zebra" it has no vector for."""
    folder = Path(shutil.copytree(MODEL, place))
    tokenizer = load_encoder(folder).tokenizer
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)
    return folder


def with_text(text: str) -> TextData:
    rows = films(8)
    return dataclasses.replace(rows, texts=[*rows.texts[:7], text])


@pytest.mark.slow
@pytest.mark.parametrize(("text", "words"), [("zebra", "row 7 has the token id"), (" ", "row 7 is empty")])
def test_a_text_that_the_model_cannot_take_is_refused_while_the_old_runs_are_there(text, words, tmp_path):
    options, given = dataclasses.replace(OPTIONS, steps=1), {"train": films(8), "model": str(MODEL)}
    alone = finetune_files(**given, out=tmp_path / "alone", options=options)
    seeds = finetune_seed_files([0, 1], tmp_path / "seeds", **given, options=options)
    before = files(alone), files(seeds)
    bad = {"train": with_text(text), "model": str(unfit(tmp_path / "unfit")), "options": options}
    for out, how in ((tmp_path / "alone", {"overwrite": True}), (tmp_path / "new", {})):
        for call in (partial(finetune_files, out=out), partial(finetune, folder=out)):
            with pytest.raises(InputError, match=words):
                call(**bad, **how)
    with pytest.raises(InputError, match=words):
        finetune_seed_files([0, 1], tmp_path / "seeds", **bad, overwrite=True)
    with pytest.raises(InputError, match="checkpoint_every is -1"):
        finetune_seed_files([0, 1], seeds, **given, options=options, overwrite=True, checkpoint_every=-1)
    assert (files(alone), files(seeds)) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_runs_of_seeds_are_overwritten_whatever_else_lies_beside_them(tmp_path):
    given = {"train": films(8), "model": str(MODEL)}
    out = finetune_seed_files([0, 1], tmp_path, **given, options=dataclasses.replace(OPTIONS, steps=1))
    (out / "seed-0" / "notes.txt").write_text("mine")
    finetune_seed_files([0, 1, 2], out, **given, options=dataclasses.replace(OPTIONS, steps=2), overwrite=True)
    for seed in (0, 1, 2):
        assert json.loads((out / f"seed-{seed}" / "finetune.json").read_text())["steps"] == 2
    assert (out / "seed-0" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_fine_tuned_encoder_is_a_source_of_representations(encoder):
    result = tune(encoder, steps=20)
    tuned = result.model.encoder
    texts = films(6, 2).texts
    assert np.abs(tuned.embed(texts) - encoder.embed(texts)).max() > 1e-3
    assert tuned.fingerprint() != encoder.fingerprint()
    chosen = select(films(60), validation=films(30, 1), model=tuned, pca=4, samples=4, subset_size=20, check_seeds=0)
    assert len(chosen.kept) + len(chosen.removed) == 60
    # And it can be fine-tuned on: its own head goes on.
    assert tune(tuned, steps=1).fresh == ()


@pytest.mark.parametrize("names", [None, {"0": "NEGATIVE", "1": "POSITIVE"}])
def test_a_fine_tuned_models_head_goes_on_for_its_own_classes_and_no_others(names, encoder):
    base = dataclasses.replace(encoder, settings={**encoder.settings, "id2label": names})
    tuned = tune(base, steps=1, head="own").model.encoder
    for classes, expected in ((("neg", "pos"), []), (("ham", "spam"), ["classifier.bias", "classifier.weight"])):
        assert sorted(new_target(tuned, 2, classes, "own", seed=0)[2]) == expected


MANY = """
import sys
import numpy as np
tests, out = sys.argv[1:]
sys.path.insert(0, tests)
import jax
from test_finetuning_options import films, load_encoder, MODEL, training, tune, weights
step = training.train_step
def watched(plan, spread, state, frozen, *rest):
    arrays = [array for array in jax.tree.leaves((state, frozen)) if array.ndim]
    here = sum(array.addressable_shards[0].data.nbytes for array in arrays)
    held.append(here / sum(array.nbytes for array in arrays))
    return step(plan, spread, state, frozen, *rest)
training.train_step = watched
how = dict(batch_size=6, dropout=0.1, learning_rate=1e-4, held=films(7, 1), steps=3, checkpoint_every=0.0)
many = jax.device_count() > 1
for tune_what in ("all", "lora"):
    # One device has nobody to share with, whether it is asked to or not.
    for shard in (False, True) if many else (tune_what == "lora",):
        name, held = f"{out}-{tune_what}-{shard}", []
        for resume in (False, True) if many else (False,):  # once from the start, once from the last step's checkpoint
            result = tune(load_encoder(MODEL), **how, tune=tune_what, shard=shard, folder=name, resume=resume)
            np.savez(f"{name}-{resume}.npz", held=held, devices=jax.device_count(), **weights(result.model.module))
"""


@pytest.mark.slow
def test_devices_share_a_batch_or_the_parameters_too_and_give_the_weights_of_one(on_devices, tmp_path):
    for devices in (1, 4):
        command = [sys.executable, "-c", MANY, str(Path(__file__).parent), str(tmp_path / str(devices))]
        subprocess.run(command, check=True, env=on_devices(devices))
    paths = sorted(tmp_path.glob("4-*.npz"))
    assert len(paths) == 8
    for path in paths:
        (of_one,) = tmp_path.glob(f"1-{path.name.split('-')[1]}-*.npz")
        found, one = dict(np.load(path)), dict(np.load(of_one))
        assert (found.pop("devices"), one.pop("devices")) == (4, 1)
        # Before every step a device holds all parameters and moments, or but its quarter and what is too short.
        held = found.pop("held")
        assert (held < 0.3).all() if "True" in path.name.split("-")[2] else (held == 1).all()
        assert len(held) == len(one.pop("held")) == 3
        for name, weight in found.items():
            if not name.endswith("key.bias"):
                # Of a step of 1e-4 each: Adam makes as much of a small gradient's rounding as of a large one's.
                np.testing.assert_allclose(weight, one[name], atol=1e-5, err_msg=name)


HELD = """
import dataclasses, json, sys
tests, out = sys.argv[1:]
sys.path.insert(0, tests)
import jax
from test_finetuning_options import MODEL, OPTIONS, Checkpoints, films, finetune, training

def held():
    # A part that was read is an array too, of the same place in memory.
    parts = [
        shard.data for array in jax.live_arrays() for shard in array.addressable_shards
        if shard.device == jax.devices()[0]
    ]
    return sum({part.unsafe_buffer_pointer(): part.nbytes for part in parts}.values())

def watched(of, name):
    real = getattr(of, name)
    def call(*given):
        found[name].append(held())
        return real(*given)
    setattr(of, name, call)

watched(training, "train_step")
watched(Checkpoints, "save")
about = {}
for what in ("all", "lora"):
    found = {"train_step": [], "save": []}
    options = dataclasses.replace(OPTIONS, steps=3, shard=True, tune=what, evaluate_every=9)
    result = finetune(str(MODEL), films(40), options=options, folder=f"{out}-{what}", checkpoint_every=0.0)
    about[what] = found | {"all": sum(leaf.nbytes for leaf in jax.tree.leaves(training.nnx.state(result.model.module)))}
    del result
print(json.dumps(about))
"""


@pytest.fixture(scope="module")
def held(on_devices, tmp_path_factory):
    """Bytes on the first of 8 devices that share the parameters, before each step and save, and those of all."""
    command = [sys.executable, "-c", HELD, str(Path(__file__).parent), str(tmp_path_factory.mktemp("held") / "run")]
    found = subprocess.run(command, env=on_devices(8), check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_device_that_has_its_part_has_no_more_of_parameters_moments_and_the_best_state(held):
    # An eighth each, and a batch with what is too short to cut; of adapters, moments and the best state are small.
    for what, share in {"all": 4 / 8, "lora": 2 / 8}.items():
        assert max(held[what]["train_step"]) < (share + 0.15) * held[what]["all"]


@pytest.mark.slow
def test_what_is_written_lies_on_no_device_whole(held):
    for what in held.values():
        assert len(what["save"]) == 3
        assert max(what["save"]) < max(what["train_step"]) + 0.1 * what["all"]


TOGETHER = """
import os, signal, sys
import jax, numpy as np
tests, out, place, processes, number = sys.argv[1:]
if processes == "2":
    jax.distributed.initialize(place, 2, int(number))
sys.path.insert(0, tests)
from test_finetuning_options import MODEL, films, load_encoder, tune, weights
from tsds_jax.runtime.processes import own_place

def asked(event):
    if event.done == 2 and number == "1":
        os.kill(os.getpid(), signal.SIGTERM)

def tuned(name, **given):
    with own_place(f"{out}-{name}") as folder:
        return tune(load_encoder(MODEL), folder=folder, dropout=0.1, held=films(7, 1), shard=True, **given)

found = {"late": tuned("late", checkpoint_every=0 if number == "0" else 3600)}
try:
    found["signal"] = tuned("signal", checkpoint_every=3600, progress=asked)
    assert processes == "1"
except KeyboardInterrupt:
    steps = []
    again = tuned("signal", checkpoint_every=3600, resume=True, progress=lambda event: steps.append(event.done))
    assert steps == [3, 4]
    found["signal"] = again
for name, result in found.items():
    np.savez(f"{out}-{name}.npz", devices=jax.device_count(), **weights(result.model.module))
"""


@pytest.mark.slow
def test_one_process_that_is_late_or_asked_to_end_has_all_write_and_changes_no_bit(on_devices, free_place, tmp_path):
    command = [sys.executable, "-c", TOGETHER, str(Path(__file__).parent)]
    one = subprocess.Popen([*command, str(tmp_path / "one"), "", "1", "0"], env=on_devices(2))
    assert one.wait(300) == 0
    two = [
        subprocess.Popen([*command, str(tmp_path / f"two{number}"), free_place, "2", str(number)], env=on_devices(1))
        for number in range(2)
    ]
    try:
        assert [process.wait(200) for process in two] == [0, 0]
    finally:
        for process in two:
            process.kill()
    paths = sorted(tmp_path.glob("two*.npz"))
    assert len(paths) == 4
    for path in paths:
        found, expected = dict(np.load(path)), dict(np.load(tmp_path / path.name.replace(path.name[:4], "one")))
        assert found["devices"] == expected["devices"] == 2
        for name, weight in found.items():
            np.testing.assert_array_equal(weight, expected[name], err_msg=name)
