"""A family's own head: read, saved and computed as transformers does, with stored values and live where torch is."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from tsds_jax.encoders import HEADS, MODEL_TYPES, Encoder, load_encoder
from tsds_jax.encoders.heads import head_config
from tsds_jax.encoders.tokens import Batch
from tsds_jax.errors import InputError
from tsds_jax.finetuning import TargetModel, load_target
from tsds_jax.finetuning.target import new_target

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
CLASSES = ("bad", "good", "neither")


def logits(module, *arrays) -> np.ndarray:
    graphdef, state = nnx.split(module)
    return np.asarray(jax.jit(lambda state: nnx.merge(graphdef, state)(Batch(*arrays)))(state))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_golden_logits_of_pytorch_are_met(family):
    encoder = load_encoder(GOLDEN / family)
    with np.load(GOLDEN / family / "expected.npz") as stored:
        head = {name.removeprefix("head."): stored[name] for name in stored.files if name.startswith("head.")}
        arrays = stored["input_ids"], stored["attention_mask"], stored["token_type_ids"]
        expected = stored["logits"]
    encoder = dataclasses.replace(encoder, head=head)
    graphdef, params, fresh = new_target(encoder, 3, ("0", "1", "2"), "own", seed=0)
    assert fresh == ()
    np.testing.assert_allclose(logits(nnx.merge(graphdef, params), *arrays), expected, atol=1e-5)


def classifier(folder: Path, family: str, **options):
    """A random classifier of PyTorch, saved there with names of its classes."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    if family in ("modernbert", "llama", "qwen2", "qwen3"):
        sizes |= {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    if family.startswith("qwen"):
        sizes |= {"num_key_value_heads": 2}
    names = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
    config = transformers.AutoConfig.for_model(
        family, vocab_size=84, max_position_embeddings=66, initializer_range=0.2, **sizes | names | options
    )
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return model


def arrays(family: str):
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 84, (5, 14)).astype(np.int32)
    mask = (np.arange(14) < np.array([14, 3, 9, 1, 12])[:, None]).astype(np.int32)
    ids = np.where(mask == 1, ids, 1 if "roberta" in family or family == "camembert" else 0)
    return ids, mask, np.zeros_like(ids)


def torch_logits(model, ids, mask, types) -> np.ndarray:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.tensor(ids.astype(int)), attention_mask=torch.tensor(mask.astype(int))).logits.numpy()


@pytest.mark.parametrize("family", MODEL_TYPES)
def test_a_classifier_goes_from_pytorch_to_here_and_back_with_the_same_logits(family, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = classifier(tmp_path / "theirs", family)
    target = load_target(tmp_path / "theirs")
    assert target.classes == CLASSES
    expected = torch_logits(model, *arrays(family))
    np.testing.assert_allclose(logits(target.module, *arrays(family)), expected, atol=1e-5)

    target.save_pretrained(tmp_path / "ours")
    again, told = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "ours", attn_implementation="eager", output_loading_info=True
    )
    assert type(again) is type(model)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert again.config.id2label == dict(enumerate(CLASSES))
    np.testing.assert_array_equal(torch_logits(again.eval(), *arrays(family)), expected)
    stored, saved = (load_file(tmp_path / place / "model.safetensors") for place in ("theirs", "ours"))
    assert stored.keys() == saved.keys()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_decoders_last_token_is_as_in_pytorch_the_last_that_is_no_padding(family, tmp_path):
    model, (ids, mask, types) = classifier(tmp_path, family), arrays(family)
    ids[0, -1], ids[2, 6:9], ids[3] = 0, 0, 0  # of rows of 14, 9 and 1 tokens
    found = logits(load_target(tmp_path).module, ids, mask, types)
    np.testing.assert_allclose(found, torch_logits(model, ids, mask, types), atol=1e-5)


def test_a_decoder_whose_tokenizer_ends_texts_with_padding_is_the_same_once_it_is_saved(of_family, tmp_path):
    folder = of_family("qwen3").folder
    settings = {**json.loads((folder / "tokenizer_config.json").read_text()), "pad_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    encoder = load_encoder(configured(folder, pad_token_id=None))
    graphdef, params, _ = new_target(encoder, 3, CLASSES, "own", seed=3)
    target, texts = TargetModel(nnx.merge(graphdef, params), encoder, "own", CLASSES, 24), ["a good film", "boring ."]
    ids = np.array([encoder.tokenizer(texts[0])["input_ids"]])
    assert ids[0, -1] == encoder.tokenizer.pad_token_id
    short = logits(target.module, ids[:, :-1], np.ones_like(ids[:, :-1]), np.zeros_like(ids[:, :-1]))
    np.testing.assert_allclose(target.outputs(texts)[:1], short, atol=1e-6)
    again = load_target(target.save_pretrained(tmp_path / "saved"))
    np.testing.assert_array_equal(again.outputs(texts), target.outputs(texts))
    assert again.base.settings["pad_token_id"] == encoder.tokenizer.pad_token_id
    assert target.encoder.head_fingerprint() == again.base.head_fingerprint()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("modernbert", {"classifier_pooling": "mean", "classifier_bias": True, "norm_bias": True}),
        ("bert", {"num_labels": 1, "id2label": {0: "LABEL_0"}, "label2id": {}, "problem_type": "regression"}),
    ],
)
def test_settings_of_a_head_are_followed(family, options, tmp_path):
    model = classifier(tmp_path, family, **options)
    target = load_target(tmp_path)
    assert target.classes == (() if family == "bert" else CLASSES)
    np.testing.assert_allclose(logits(target.module, *arrays(family)), torch_logits(model, *arrays(family)), atol=1e-5)


def configured(folder: Path, **settings) -> Path:
    values = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_one_output_is_a_number_unless_it_is_one_of_several_labels(golden, tmp_path):
    encoder, saved = load_encoder(golden), tmp_path / "saved"
    graphdef, params, _ = new_target(encoder, 1, (), "own", seed=3)
    TargetModel(nnx.merge(graphdef, params), encoder, "own", (), 24, "regression").save_pretrained(saved)
    target = load_target(configured(saved, problem_type=None))
    assert (target.task, target.classes) == ("regression", ())
    np.testing.assert_array_equal(target.predict(["a good film"]), target.outputs(["a good film"])[:, 0])
    target.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["problem_type"] == "regression"
    for said, task in (("single_label_classification", "regression"), ("multi_label_classification", "multi_label")):
        assert load_target(configured(saved, problem_type=said)).task == task


def test_a_regression_onto_several_numbers_is_refused(golden, tmp_path):
    tuned("bert", "own", golden).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match=r"regression \(problem_type in config\.json\) onto 3 numbers"):
        load_target(configured(tmp_path / "saved", problem_type="regression"))


def tuned(family: str, head: str, golden: Path) -> TargetModel:
    """A target model that starts at random, with the tokenizer of the golden BERT where it is that."""
    return started(load_encoder(golden.parent / family), head)


def started(encoder: Encoder, head: str = "own") -> TargetModel:
    graphdef, params, _ = new_target(encoder, 3, CLASSES, head, seed=3)
    return TargetModel(nnx.merge(graphdef, params), encoder, head, CLASSES, 24)


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_a_saved_model_judges_pairs_in_pytorch_as_here_without_being_told_of_segments(family, of_family, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    target = started(of_family(family))
    saved = target.save_pretrained(tmp_path / "saved")
    pairs = [("a good film", "the plot was slow"), ("boring .", "a good film")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(saved).eval()
    with torch.no_grad():
        theirs = model(**tokenizer(*zip(*pairs, strict=True), padding=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(target.outputs(pairs), theirs, atol=1e-5)


def test_a_saved_model_judges_texts_in_pytorch_as_here(golden, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    target = tuned("bert", "own", golden)
    target.save_pretrained(tmp_path / "saved")
    texts = ["a good film", "the plot was slow and the actors were not so good , but the music was fine"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        tokens = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=True)
        theirs = model(**tokens).logits.numpy()
    np.testing.assert_allclose(target.outputs(texts), theirs, atol=1e-5)


def test_a_padding_token_that_the_model_does_not_have_is_not_written_as_its_own(of_family, tmp_path):
    pytest.importorskip("torch")
    transformers, encoder = pytest.importorskip("transformers"), of_family("llama")
    encoder.tokenizer.add_special_tokens({"pad_token": "[FILL]"})
    assert encoder.tokenizer.pad_token_id >= encoder.config.vocab_size
    saved = started(encoder).save_pretrained(tmp_path / "saved")
    assert transformers.AutoModelForSequenceClassification.from_pretrained(saved).score.weight.shape[0] == 3


def test_a_decoder_that_has_a_head_keeps_the_padding_token_of_its_config(of_family, tmp_path):
    encoder = of_family("llama")
    saved = started(encoder).save_pretrained(tmp_path / "saved")
    assert load_target(saved).module.head.config.pad == encoder.tokenizer.pad_token_id
    assert load_target(configured(saved, pad_token_id=7)).module.head.config.pad == 7


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_saved_and_loaded(head, golden, tmp_path):
    target = tuned("bert", head, golden)
    target.save_pretrained(tmp_path / "saved")
    again = load_target(tmp_path / "saved")
    assert (again.head, again.classes, again.max_length) == (head, CLASSES, 24)
    texts = ["a good film", "boring ."]
    np.testing.assert_array_equal(again.outputs(texts), target.outputs(texts))
    # And its encoder by itself.
    np.testing.assert_array_equal(load_encoder(tmp_path / "saved").embed(texts), target.encoder.embed(texts))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_encoder_is_the_same_in_pytorch(family, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    load_encoder(GOLDEN / family).save_pretrained(tmp_path / "saved")
    model = transformers.AutoModel.from_pretrained(tmp_path / "saved", attn_implementation="eager").eval()
    with np.load(GOLDEN / family / "expected.npz") as stored, torch.no_grad():
        ids, mask = (torch.tensor(stored[name].astype(int)) for name in ("input_ids", "attention_mask"))
        segments = {"token_type_ids": torch.tensor(stored["token_type_ids"].astype(int))}
        knows = family in ("bert", "electra")
        states = model(ids, attention_mask=mask, output_hidden_states=True, **segments if knows else {}).hidden_states
        for ours, theirs in zip(stored["hidden_states"], states, strict=True):
            there = stored["attention_mask"] == 1
            np.testing.assert_allclose(ours[there], theirs.numpy()[there], atol=1e-5)


def test_a_number_of_classes_that_a_base_config_had_is_not_saved_beside_another(folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    old = configured(folder, num_labels=5, _num_labels=5)
    load_encoder(old).save_pretrained(tmp_path / "encoder")
    encoder = load_encoder(old)
    graphdef, params, _ = new_target(encoder, 3, CLASSES, "own", seed=3)
    TargetModel(nnx.merge(graphdef, params), encoder, "own", CLASSES, 24).save_pretrained(tmp_path / "target")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "target").id2label == dict(enumerate(CLASSES))
    for place in ("encoder", "target"):
        assert not {"num_labels", "_num_labels"} & json.loads((tmp_path / place / "config.json").read_text()).keys()


def test_nothing_is_written_over(golden, tmp_path):
    target = tuned("bert", "own", golden)
    (tmp_path / "file.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "file.txt"):
        for save in (target.save_pretrained, target.base.save_pretrained):
            with pytest.raises(InputError, match="exists: give a new or an empty folder"):
                save(place)
    assert (tmp_path / "file.txt").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_a_head_is_taken_over_only_for_the_same_classes(tmp_path, golden):
    tuned("bert", "own", golden).save_pretrained(tmp_path / "saved")
    encoder = load_encoder(tmp_path / "saved")
    out, pooler = ("classifier.bias", "classifier.weight"), ("pooler.dense.bias", "pooler.dense.weight")
    for classes, expected in (
        (CLASSES, ()),
        (("good", "bad", "neither"), ()),
        (("good", "bad", "other"), out),
        (("bad", "good"), out),
    ):
        assert sorted(new_target(encoder, len(classes), classes, "own", seed=0)[2]) == sorted(expected)
    maps = [
        nnx.merge(*new_target(encoder, 3, classes, "own", seed=0)[:2]).head.out
        for classes in (CLASSES, ("neither", "bad", "good"))
    ]
    for part in ("kernel", "bias"):
        here, there = (np.asarray(getattr(one, part)[...]) for one in maps)
        np.testing.assert_array_equal(there, here[..., [2, 0, 1]])
    bare = dataclasses.replace(encoder, head={})
    assert sorted(new_target(bare, 3, CLASSES, "own", seed=0)[2]) == sorted(out + pooler)


def test_a_head_whose_classes_have_one_name_twice_is_read(tmp_path, golden):
    tuned("bert", "own", golden).save_pretrained(tmp_path / "saved")
    names = {"0": "other", "1": "neg", "2": "other"}
    assert load_target(configured(tmp_path / "saved", id2label=names)).classes == ("other", "neg", "other")


@pytest.mark.parametrize("named", [5, "BertForTokenClassification", {"a": 1}])
def test_architectures_that_are_no_list_say_nothing(named, tmp_path, golden):
    tuned("bert", "own", golden).save_pretrained(tmp_path / "saved")
    assert load_target(configured(tmp_path / "saved", architectures=named)).classes == CLASSES


def test_a_map_of_one_pooling_is_not_taken_over_for_another(tmp_path, golden):
    tuned("bert", "mean", golden).save_pretrained(tmp_path / "saved")
    encoder = load_encoder(tmp_path / "saved")
    assert new_target(encoder, 3, CLASSES, "mean", seed=0)[2] == ()
    fresh = ["linear_head.bias", "linear_head.weight"]
    assert sorted(new_target(encoder, 3, CLASSES, "cls", seed=0)[2]) == fresh
    assert load_encoder(configured(tmp_path / "saved", tsds_jax={"head": "cls"})).head_fingerprint() != (
        encoder.head_fingerprint()
    )


@pytest.mark.parametrize("kind", ["ForTokenClassification", "ForMultipleChoice"])
def test_a_map_of_tokens_or_choices_is_not_taken_over(kind, tmp_path, golden):
    tuned("bert", "own", golden).save_pretrained(tmp_path / "saved")
    encoder = load_encoder(configured(tmp_path / "saved", architectures=[f"Bert{kind}"]))
    assert sorted(new_target(encoder, 3, CLASSES, "own", seed=0)[2]) == ["classifier.bias", "classifier.weight"]


@pytest.mark.parametrize("names", [None, {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}])
def test_a_head_without_names_is_taken_over_only_where_classes_are_its_places_or_have_no_names(names, tmp_path, golden):
    tuned("bert", "own", golden).save_pretrained(tmp_path / "saved")
    encoder = load_encoder(configured(tmp_path / "saved", id2label=names))
    out = ["classifier.bias", "classifier.weight"]
    for classes, expected in (
        (("0", "1", "2"), []),
        (("LABEL_0", "LABEL_1", "LABEL_2"), []),
        (("a", "b", "c"), out),  # sorted by name here, and nobody knows how there
        (("1", "2", "3"), out),
    ):
        assert sorted(new_target(encoder, 3, classes, "own", seed=0)[2]) == expected
    number, single = new_target(encoder, 1, (), "own", seed=0)[:2], tmp_path / "single"
    TargetModel(nnx.merge(*number), encoder, "own", (), 24, "regression").save_pretrained(single)
    assert new_target(load_encoder(single), 1, (), "own", seed=0)[2] == ()


@pytest.mark.parametrize("kind", ["ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"])
def test_a_head_that_is_not_for_texts_is_refused_whatever_its_parts_are_called(golden, tmp_path, kind):
    tuned("bert", "own", golden).save_pretrained(tmp_path)
    configured(tmp_path, architectures=[f"Bert{kind}"])
    with pytest.raises(InputError, match=f"is a Bert{kind}, whose head is for no text's class: fine-tune the model"):
        load_target(tmp_path)


def test_a_loaded_target_model_has_its_weights_once(golden, tmp_path):
    target = load_target(tuned("bert", "own", golden).save_pretrained(tmp_path))
    assert target.base.model is target.module.encoder


def test_a_folder_without_a_head_is_no_target_model(folder):
    with pytest.raises(InputError, match=r"no head \(classifier\.weight\): fine-tune the model first"):
        load_target(folder)


def test_a_setting_of_a_head_that_cannot_be_used_is_refused(folder):
    settings = json.loads((folder / "config.json").read_text()) | {"classifier_dropout": 1.5}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"classifier_dropout must be .*1\.5"):
        load_encoder(folder)
    with pytest.raises(InputError, match="head 'sum' is unknown: use one of own, cls, mean"):
        head_config("sum", {}, load_encoder(GOLDEN / "bert").config)
    with pytest.raises(InputError, match="classifier_pooling 'max' is unknown: use one of cls, mean"):
        head_config("own", {"classifier_pooling": "max"}, load_encoder(GOLDEN / "modernbert").config)
