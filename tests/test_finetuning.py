import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from datasets import Dataset
from flax import nnx

from tsds_jax.data import TextData
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.finetuning import checked_options, finetune, finetune_seeds, steps_for, training
from tsds_jax.finetuning.batches import draw_batches, lengths_up_to
from tsds_jax.finetuning.optimiser import adamw, decays, learning_rate_at
from tsds_jax.finetuning.scores import score
from tsds_jax.finetuning.target import _outputs, new_target
from tsds_jax.options import FineTuneOptions

MODEL = Path(__file__).parent / "golden" / "bert"
GOOD = ("good", "great", "fine", "lovely", "happy", "funny", "clever", "bright")
BAD = ("bad", "awful", "poor", "sad", "dull", "boring", "weak", "slow")
THINGS = ("film", "movie", "story", "plot", "actor", "scene", "music")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(MODEL)


def reviews(rows: int, seed: int, classes: int = 2) -> TextData:
    """Texts whose class follows from one word."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows).astype(np.int32)
    texts = []
    for label in labels:
        word = rng.choice((BAD, GOOD, ("table",))[label])
        texts.append(f"the {rng.choice(THINGS)} was {word}" + " and the week" * rng.integers(0, 6))
    names = ("bad", "good", "neither")[:classes]
    table = Dataset.from_dict({"text": texts, "label": [names[label] for label in labels]})
    return TextData(table, texts, labels, names, ("text",), "label")


FAST = FineTuneOptions(head="mean", steps=120, batch_size=16, learning_rate=1e-2, dropout=0.02)


@pytest.fixture(scope="module")
def result(encoder):
    return finetune(encoder, reviews(120, 0), validation=reviews(60, 1), test=reviews(100, 2), options=FAST)


def fresh(encoder, outputs: int, **given):
    """The two parts of a new target model with a linear head on the mean."""
    return new_target(encoder, outputs, (), "mean", seed=0, **given)[:2]


def leaves(module) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(module))]


@pytest.mark.slow
def test_separable_texts_are_learned(result):
    assert result.metrics["accuracy"] > 0.95
    assert result.metrics["macro_f1"] > 0.95
    assert result.probabilities.shape == (100, 2)
    assert result.probabilities.dtype == np.float32
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(result.predictions, result.probabilities.argmax(axis=1))
    assert result.predictions.dtype == np.int32
    assert result.classes == ("bad", "good")


@pytest.mark.slow
def test_three_classes_are_learned(encoder):
    options = dataclasses.replace(FAST, head="cls")
    three = finetune(encoder, reviews(150, 0, 3), test=reviews(90, 2, 3), options=options)
    assert three.metrics["accuracy"] > 0.95
    assert three.probabilities.shape == (90, 3)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(encoder, result):
    data = {"validation": reviews(60, 1), "test": reviews(100, 2)}
    again = finetune(encoder, reviews(120, 0), **data, options=FAST)
    np.testing.assert_array_equal(result.probabilities, again.probabilities)
    assert result.history == again.history
    other = finetune(encoder, reviews(120, 0), **data, options=dataclasses.replace(FAST, seed=1))
    assert np.abs(result.probabilities - other.probabilities).max() > 1e-4


def test_the_given_encoder_stays_as_it_is(encoder):
    before = leaves(encoder.model)
    texts = reviews(10, 3).texts
    embedded = encoder.embed(texts)
    tuned = finetune(encoder, reviews(30, 0), options=dataclasses.replace(FAST, steps=3))
    for old, new in zip(before, leaves(encoder.model), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(embedded, encoder.embed(texts))
    moved = [np.abs(a - b).max() for a, b in zip(before, leaves(tuned.model.module.encoder), strict=True)]
    assert min(moved) > 0


def test_the_result_still_works_after_another_run(encoder, result):
    texts = reviews(20, 4).texts
    before = result.model.probabilities(texts)
    finetune(encoder, reviews(30, 0), options=dataclasses.replace(FAST, steps=2))
    np.testing.assert_array_equal(before, result.model.probabilities(texts))


@pytest.mark.parametrize("rows", [5, 16, 77])
def test_the_steps_are_those_asked_for_whatever_the_rows(encoder, rows):
    events = []
    tuned = finetune(encoder, reviews(rows, 0), options=dataclasses.replace(FAST, steps=7), progress=events.append)
    assert tuned.steps == tuned.best_step == 7
    steps = [event for event in events if event.stage == "finetune"]
    assert [event.done for event in steps] == list(range(1, 8))
    assert all(event.total == 7 and event.detail.startswith("loss ") for event in steps)


def test_epochs_become_steps():
    assert steps_for(FineTuneOptions(epochs=3, batch_size=32), 100) == 10
    assert steps_for(FineTuneOptions(epochs=1.1, batch_size=32), 1600) == 55  # of 1760.0000000000002 rows
    assert steps_for(FineTuneOptions(epochs=0.1, batch_size=32), 10) == 1
    assert steps_for(FineTuneOptions(epochs=1e-10, batch_size=32), 100) == 1
    assert steps_for(FineTuneOptions(epochs=3, steps=4), 100) == 4


def test_the_best_steps_weights_are_returned(encoder, monkeypatch):
    """Scores that peak at the third look: its weights come back, though training went on."""
    scores = iter([(0.5, 1.0), (0.7, 0.9), (0.9, 0.5), (0.9, 0.6), (0.8, 0.1)])
    seen = []

    def scored(logits, labels, task):
        seen.append(logits)
        return dict(zip(("accuracy", "loss"), next(scores), strict=True))

    monkeypatch.setattr(training, "score", scored)
    valid = reviews(20, 1)
    options = dataclasses.replace(FAST, steps=10, evaluate_every=2)
    tuned = finetune(encoder, reviews(60, 0), validation=valid, options=options)
    assert (tuned.steps, tuned.best_step) == (10, 6)
    assert [look["step"] for look in tuned.history] == [2, 4, 6, 8, 10]
    expected = jax.nn.softmax(seen[2], axis=-1)
    np.testing.assert_allclose(tuned.model.probabilities(valid.texts), expected, atol=1e-6)
    assert np.abs(jax.nn.softmax(seen[4], axis=-1) - expected).max() > 1e-4


def test_a_tie_in_accuracy_goes_to_the_lower_loss(encoder, monkeypatch):
    scores = iter([{"accuracy": 0.9, "loss": loss} for loss in (1.0, 0.5, 0.7)])
    monkeypatch.setattr(training, "score", lambda *given: next(scores))
    options = dataclasses.replace(FAST, steps=6, evaluate_every=2)
    assert finetune(encoder, reviews(60, 0), validation=reviews(9, 1), options=options).best_step == 4


def test_patience_stops_a_run_that_no_longer_improves(encoder, monkeypatch):
    scores = iter([{"accuracy": accuracy, "loss": 0.5} for accuracy in (0.5, 0.9, 0.8, 0.8)])
    monkeypatch.setattr(training, "score", lambda *given: next(scores))
    options = dataclasses.replace(FAST, steps=100, evaluate_every=2, patience=2)
    tuned = finetune(encoder, reviews(60, 0), validation=reviews(9, 1), options=options)
    assert (tuned.steps, tuned.best_step) == (8, 4)


def test_the_history_tells_losses_and_accuracies(result):
    assert [look["step"] for look in result.history] == [30, 60, 90, 120]
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    best = max(result.history, key=lambda look: (look["validation_accuracy"], -look["validation_loss"]))
    assert result.best_step == best["step"]


def test_without_held_out_rows_there_are_no_scores(encoder):
    tuned = finetune(encoder, reviews(20, 0), options=dataclasses.replace(FAST, steps=2))
    assert (tuned.probabilities, tuned.predictions, tuned.metrics) == (None, None, {})
    assert [look["validation_loss"] for look in tuned.history] == [None, None]


def test_a_score_is_accuracy_and_mean_cross_entropy():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], dtype=np.float32)
    labels = np.array([0, 1, 1])
    found = score(logits, labels, "classification")
    assert found["accuracy"] == pytest.approx(2 / 3)
    expected = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), labels).mean()
    assert found["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_files_and_folders_are_read(encoder, tmp_path):
    train = reviews(30, 0)
    train.rows.to_csv(tmp_path / "train.csv", index=False)
    options = dataclasses.replace(FAST, steps=3)
    tuned = finetune(str(MODEL), tmp_path / "train.csv", text="text", label="label", options=options)
    same = finetune(encoder, train, options=options)
    np.testing.assert_array_equal(tuned.model.module.head.out.kernel[...], same.model.module.head.out.kernel[...])


def test_held_out_files_are_read_by_the_columns_of_the_training_data(encoder, tmp_path):
    columns = {"text": "sentence", "label": "mood"}
    train, held = reviews(30, 0), reviews(20, 1)
    train = dataclasses.replace(
        train, rows=train.rows.rename_columns(columns), text_columns=("sentence",), label_column="mood"
    )
    held.rows.rename_columns(columns).to_csv(tmp_path / "held.csv", index=False)
    held.rows.to_csv(tmp_path / "other.csv", index=False)
    options = dataclasses.replace(FAST, steps=2)
    given = finetune(encoder, train, validation=held, test=held, options=options)
    read = finetune(encoder, train, validation=tmp_path / "held.csv", test=tmp_path / "held.csv", options=options)
    assert read.metrics == given.metrics
    assert read.history == given.history
    named = finetune(encoder, train, test=tmp_path / "other.csv", text="text", label="label", options=options)
    assert named.metrics == finetune(encoder, train, test=held, options=options).metrics
    with pytest.raises(InputError, match="no column 'sentence'"):
        finetune(encoder, train, test=tmp_path / "other.csv", options=options)


@pytest.mark.slow
def test_texts_cut_at_the_length_limit_are_counted_over_all_roles(encoder):
    train, valid, test = (reviews(rows, seed) for seed, rows in enumerate((30, 20, 10)))
    options = dataclasses.replace(FAST, steps=2, max_length=8)

    def longer(data):
        return sum(len(encoder.tokenizer(text)["input_ids"]) > 8 for text in data.texts)

    cut = finetune(encoder, train, validation=valid, test=test, options=options)
    assert cut.truncated == longer(train) + longer(valid) + longer(test)
    assert min(longer(train), longer(valid), longer(test)) > 0
    assert finetune(encoder, train, options=options).truncated == longer(train)
    assert finetune(encoder, train, options=dataclasses.replace(options, max_length=64)).truncated == 0


def test_labels_of_held_out_rows_are_matched_by_name(encoder, result):
    flipped = reviews(100, 2)
    flipped = dataclasses.replace(flipped, labels=1 - flipped.labels, classes=("good", "bad"))
    again = finetune(encoder, reviews(120, 0), validation=reviews(60, 1), test=flipped, options=FAST)
    assert again.metrics == result.metrics


@pytest.mark.slow
def test_biases_and_layer_norms_have_no_weight_decay(encoder):
    _, params = fresh(encoder, 2)
    chosen = jax.tree.leaves_with_path(nnx.to_pure_dict(decays(params)))
    decayed = {jax.tree_util.keystr(path, simple=True, separator=".") for path, yes in chosen if yes}
    every = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert decayed == {name for name in every if name.endswith(("kernel", "embedding"))}
    # In the numbers: with no gradient, a step shrinks what decays and nothing else.
    optimizer = adamw(0.1, 0.5, 1.0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    old, new = (dict(nnx.to_flat_state(state)) for state in (params, optax.apply_updates(params, updates)))
    for path, param in new.items():
        factor = 0.95 if path[-1] in ("kernel", "embedding") else 1.0
        np.testing.assert_allclose(param[...], old[path][...] * factor, rtol=1e-6)


def test_the_head_is_drawn_small_and_the_encoder_copied(encoder):
    _, params = fresh(encoder, 300)
    kernel = np.asarray(params["head"]["out"]["kernel"][...])
    assert kernel.std() == pytest.approx(0.02, rel=0.05)
    assert abs(kernel.mean()) < 1e-3
    np.testing.assert_array_equal(params["head"]["out"]["bias"][...], 0)


def test_the_rate_rises_to_its_peak_and_falls_towards_zero():
    options = FineTuneOptions(learning_rate=2.0, warmup=0.25)
    rates = [learning_rate_at(step, options, 8) for step in range(9)]
    assert max(rates) == rates[2] == 2
    np.testing.assert_allclose(np.diff(rates[:3]), 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(np.diff(rates[2:]), -2 / 6, rtol=1e-5)
    assert rates[8] == 0
    for warmup in (0.0, 1.0):
        options = FineTuneOptions(warmup=warmup)
        assert all(learning_rate_at(step, options, 5) > 0 for step in range(5))
    # 0.29 * 100 is 28.999999999999996.
    assert learning_rate_at(29, FineTuneOptions(learning_rate=2.0, warmup=0.29), 100) == 2


@pytest.mark.parametrize(("rows", "size"), [(10, 4), (3, 8), (8, 8), (1, 2), (100, 32), (33, 32), (3, 7)])
def test_batches_are_full_and_use_all_rows_alike(rows, size):
    lengths = np.random.default_rng(0).integers(3, 60, rows)
    counts = np.zeros(rows, int)
    for steps in (7, 20):
        batches = list(draw_batches(lengths, size, steps, seed=0))
        assert [len(batch) for batch in batches] == [size] * steps
        counts = np.bincount(np.concatenate(batches), minlength=rows)
        assert np.ptp(counts) <= 1
        np.testing.assert_array_equal(batches, list(draw_batches(lengths, size, steps, seed=0)))
    if rows > 3 and rows != size:  # else every batch is all rows
        assert (np.concatenate(batches) != np.concatenate(list(draw_batches(lengths, size, 20, seed=1)))).any()


@pytest.mark.parametrize("rows", [8, 9, 13, 15, 16, 17, 25, 50, 100, 131, 300])
@pytest.mark.parametrize("steps", [1, 7, 40, 90])
def test_no_batch_repeats_a_row_where_there_are_enough_rows(rows, steps):
    for seed, lengths in enumerate((np.full(rows, 20), np.random.default_rng(0).integers(3, 60, rows))):
        batches = list(draw_batches(lengths, 8, steps, seed))
        assert len(batches) == steps
        assert all(len(set(batch.tolist())) == 8 for batch in batches)


@pytest.mark.parametrize(("rows", "size"), [(3, 7), (5, 8), (7, 8), (4, 8), (1, 3)])
def test_a_batch_of_more_rows_than_there_are_repeats_them_alike(rows, size):
    for batch in draw_batches(np.arange(rows), size, 30, 0):
        assert np.ptp(np.bincount(batch, minlength=rows)) <= 1


def test_every_epoch_uses_every_row_once():
    """Batches are cut from shuffles one after another: the first rows * k places hold each row k times."""
    for rows, size in ((100, 32), (37, 8)):
        drawn = np.concatenate(list(draw_batches(np.random.default_rng(0).integers(3, 60, rows), size, 60, 0)))
        for batches in range(1, 61):
            used = np.bincount(drawn[: batches * size], minlength=rows)
            # Inside a stretch whole batches trade places, which moves no row out of its epoch.
            assert used.max() <= -(-batches * size // rows)


def test_rows_of_every_length_are_as_likely_in_a_last_stretch_that_is_cut_short():
    lengths = np.arange(100)
    drawn = [lengths[np.concatenate(list(draw_batches(lengths, 8, 5, seed)))] for seed in range(200)]
    assert np.mean(drawn) == pytest.approx(49.5, abs=1)  # standard error 0.25


def test_which_rows_meet_in_a_batch_changes_with_the_epoch():
    lengths = np.random.default_rng(0).integers(3, 60, 64)
    batches = [frozenset(batch.tolist()) for batch in draw_batches(lengths, 8, 80, 0)]
    assert len(set(batches)) > 30  # 16 if sorted exactly


def test_batches_of_small_data_pad_little_too():
    lengths = np.random.default_rng(0).integers(5, 60, 100)
    batches = list(draw_batches(lengths, 8, 125, seed=0))
    padded = sum(8 * lengths[batch].max() for batch in batches)
    assert padded < 1.25 * sum(lengths[batch].sum() for batch in batches)


def test_a_batch_size_far_above_the_rows_takes_no_time():
    assert [len(batch) for batch in draw_batches(np.array([4]), 1_000_000, 2, 0)] == [1_000_000] * 2


def test_batches_of_like_length_pad_little_and_come_in_random_order():
    lengths = np.random.default_rng(0).integers(5, 60, 640)
    batches = list(draw_batches(lengths, 32, 20, seed=0))
    padded = sum(32 * lengths[batch].max() for batch in batches)
    assert padded < 1.15 * lengths.sum()
    longest = [lengths[batch].max() for batch in batches]
    assert longest[:16] != sorted(longest[:16])


def test_batches_are_padded_to_a_ladder_that_ends_at_the_limit_and_goes_on_by_doubling():
    assert lengths_up_to(100) == [16, 32, 48, 64, 96, 100]
    assert lengths_up_to(16) == [16]
    assert lengths_up_to(2000)[-3:] == [512, 1024, 2000]


def test_a_second_run_compiles_nothing(encoder):
    options = dataclasses.replace(FAST, steps=10)
    data = {"validation": reviews(30, 1), "test": reviews(30, 2)}
    finetune(encoder, reviews(60, 0), **data, options=options)
    before = training.train_step._cache_size(), _outputs._cache_size()
    finetune(encoder, reviews(50, 0), **data, options=dataclasses.replace(options, seed=5, learning_rate=1e-4, steps=7))
    assert (training.train_step._cache_size(), _outputs._cache_size()) == before


def test_the_next_batch_is_made_before_a_steps_loss_is_waited_for(encoder, monkeypatch):
    events, step, batch = [], training.train_step, training.training_batch

    class Loss:
        def __init__(self, loss):
            self.loss = loss

        def __float__(self):
            events.append("loss")
            return float(self.loss)

    def stepped(*given):
        events.append("step")
        state, loss, norm = step(*given)
        return state, Loss(loss), norm

    def made(*given):
        events.append("batch")
        return batch(*given)

    monkeypatch.setattr(training, "train_step", stepped)
    monkeypatch.setattr(training, "training_batch", made)
    finetune(encoder, reviews(30, 0), options=dataclasses.replace(FAST, steps=3))
    assert events == ["batch", *["step", "batch", "loss"] * 2, "step", "loss"]


@pytest.mark.slow
def test_steps_compile_once_a_bucket(encoder):
    jax.clear_caches()
    finetune(encoder, reviews(100, 0), options=dataclasses.replace(FAST, steps=30, batch_size=4))
    assert training.train_step._cache_size() == 2  # texts of up to 16 and up to 32 tokens


def test_a_loss_that_is_not_finite_stops_the_run(encoder):
    with pytest.raises(TsdsError, match=r"step \d+; lower the learning_rate .*1e\+30"):
        finetune(encoder, reviews(30, 0), options=dataclasses.replace(FAST, learning_rate=1e30))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", float("nan")),
        ("steps", 0),
        ("steps", 2.5),
        ("batch_size", 0),
        ("batch_size", True),
        ("learning_rate", 0.0),
        ("learning_rate", "fast"),
        ("warmup", 1.5),
        ("weight_decay", -0.1),
        ("clip", 0),
        ("dropout", 1.0),
        ("max_length", 3),
        ("evaluate_every", 0),
        ("patience", -1),
        ("seed", -1),
        ("head", "sum"),
        ("task", "ranking"),
        ("accumulate", 0),
        ("schedule", "step"),
        ("label_smoothing", 1.0),
        ("tune", "some"),
        ("frozen_layers", -1),
        ("lora_rank", 0),
        ("lora_alpha", 0),
        ("lora_on", "keys"),
        ("dtype", "float16"),
        ("remat", 1),
        ("shard", "yes"),
        ("best_by", "r2"),
    ],
)
def test_an_option_out_of_range_is_named_with_its_value(encoder, name, value):
    options = dataclasses.replace(FAST, **{name: value})
    with pytest.raises(InputError) as caught:
        checked_options(options)
    assert name in str(caught.value)
    assert str(value) in str(caught.value)
    with pytest.raises(InputError):
        finetune(encoder, reviews(30, 0), options=options)


def test_no_training_rows_are_refused(encoder):
    with pytest.raises(InputError, match="training rows"):
        finetune(encoder, reviews(5, 0).select([]), options=FAST)


def test_dropout_can_be_overridden(encoder):
    def module(dropout):
        return nnx.merge(*fresh(encoder, 2, dropout=dropout))

    for dropout, rate in ((None, 0.1), (0.0, 0.0), (0.3, 0.3)):
        made = module(dropout)
        found = {
            made.head.dropout.rate,
            made.encoder.embeddings.dropout.rate,
            made.encoder.layers[0].dropout.rate,
            made.encoder.layers[1].attention.dropout.rate,
        }
        assert found == {rate}


@pytest.mark.slow
def test_a_step_equals_pytorch_adamw(encoder):
    """Two whole steps without dropout: clipped gradient, rate, decay and moments as in torch."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    options = FineTuneOptions(
        head="mean", steps=2, batch_size=8, learning_rate=1e-2, dropout=0.0, weight_decay=0.1, clip=0.5, warmup=0.5
    )
    data = reviews(8, 0)
    tuned = finetune(encoder, data, options=options)

    bert = transformers.BertModel.from_pretrained(MODEL, add_pooling_layer=False).eval()
    head = torch.nn.Linear(32, 2)
    _, params = fresh(encoder, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(np.asarray(params["head"]["out"]["kernel"][...]).T))
        head.bias.zero_()
    everything = [*bert.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in everything if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in everything if p.ndim == 1], "weight_decay": 0.0},
        ],
        eps=1e-8,
    )
    for step, rows in enumerate(draw_batches(np.full(8, 5), 8, 2, options.seed)):
        texts, labels = [data.texts[row] for row in rows], torch.tensor(data.labels[rows], dtype=torch.long)
        tokens = encoder.tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=True)
        hidden, mask = bert(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        loss = torch.nn.functional.cross_entropy(head((hidden * mask).sum(1) / mask.sum(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(everything, 0.5)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, options, 2)
        optimizer.step()

    module = tuned.model.module
    for ours, theirs in (
        (module.head.out.kernel[...], head.weight.T),
        (module.head.out.bias[...], head.bias),
        (module.encoder.embeddings.words.embedding[...], bert.embeddings.word_embeddings.weight),
        (module.encoder.embeddings.norm.scale[...], bert.embeddings.LayerNorm.weight),
        (module.encoder.layers[0].attention.value.kernel[...], bert.encoder.layer[0].attention.self.value.weight.T),
        (module.encoder.layers[1].down.bias[...], bert.encoder.layer[1].output.dense.bias),
    ):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=2e-4)


def test_options_may_be_given_one_by_one_over_those_given_together(encoder):
    rows, options = reviews(40, 0), FineTuneOptions(steps=2, learning_rate=1e-3, seed=5)
    together = finetune(encoder, rows, test=rows, options=dataclasses.replace(options, tune="head", seed=7))
    assert finetune(encoder, rows, test=rows, options=options, tune="head", seed=7).metrics == together.metrics
    runs = finetune_seeds(encoder, rows, test=rows, options=options, tune="head", seeds=(7,))
    assert runs.runs[0].metrics == together.metrics
    assert checked_options(options, {"epochs": 1.0}).steps is None
    with pytest.raises(InputError, match="epochs and steps both say how long to train"):
        finetune(encoder, rows, epochs=1.0, steps=3)
    with pytest.raises(InputError, match="both seeds and seed were given"):
        finetune_seeds(encoder, rows, seeds=(0, 1), seed=5)
    for call, more in ((finetune, {}), (finetune_seeds, {"seeds": (1,)})):
        with pytest.raises(InputError, match="there is no option 'epoch': use task, head, epochs"):
            call(encoder, rows, epoch=1, **more)
        with pytest.raises(InputError, match="fine-tuning option tune must be"):
            call(encoder, rows, tune="some", **more)
