"""What a notebook shows of the package's objects: a line of facts, not every text and weight."""

import pytest

import tsds_jax as tsds


@pytest.fixture(scope="module")
def selection(tiny_files, tiny_model):
    how = {"check_seeds": 0, "samples": 8, "pca": 8, "subset_size": 40, "layer": 0}
    return tsds.select(tiny_files["train"], validation=tiny_files["validation"], model=tiny_model, **how)


@pytest.mark.slow
def test_rows_are_shown_by_number_source_and_classes(selection, tiny_files):
    assert repr(selection.train) == f"TextData(120 rows of {tiny_files['train']!r}, {{'neg': 73, 'pos': 47}})"


@pytest.mark.slow
def test_of_many_classes_the_number_is_shown(selection):
    import dataclasses

    classes = tuple(f"class {number}" for number in range(100))
    assert repr(dataclasses.replace(selection.train, classes=classes)).endswith("100 classes)")


@pytest.mark.slow
def test_values_are_shown_by_what_they_are(selection):
    assert repr(selection.valuation) == "Valuation(120 points, shapley of log_likelihood by add_one, 8 samples)"


@pytest.mark.slow
def test_a_selection_is_shown_by_what_it_keeps(selection):
    kept = len(selection.kept)
    assert repr(selection) == f"Selection(keeps {kept} of 120 rows, removes {120 - kept} by 'cross_fitted')"


def test_an_encoder_is_shown_by_name_and_size(tiny_model):
    encoder = tsds.load_encoder(tiny_model)
    assert repr(encoder) == f"Encoder('{tiny_model}', bert, {encoder.parameters:,} parameters, float32)"


@pytest.mark.slow
def test_fine_tuned_models_are_shown_by_steps_scores_and_outputs(tiny_files, tiny_model):
    how = {"steps": 2, "batch_size": 4, "max_length": 16, "evaluate_every": 1}
    given = {"validation": tiny_files["validation"], "test": tiny_files["test"]}
    options = tsds.FineTuneOptions(**how)
    runs = tsds.finetune_seeds(tiny_model, tiny_files["train"], seeds=[3], options=options, **given)
    tuned = runs.runs[0]
    scores = "".join(f", {name} {value:.4g}" for name, value in tuned.metrics.items())
    assert repr(tuned) == f"FineTuned(step {tuned.best_step} of 2{scores})"
    assert repr(runs) == f"SeedRuns(seeds [3]{scores})"
    assert repr(tuned.model) == f"TargetModel('{tiny_model}', classification by head 'own', 2 classes)"
