import contextlib
import dataclasses
import json
import shutil
import time

import huggingface_hub
import numpy as np
import pytest
import tokenizers
from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects
from safetensors.numpy import load_file, save_file

from tsds_jax.encoders import load, load_encoder
from tsds_jax.errors import InputError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cache(hub, name, folder):
    root = hub / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, root / "snapshots" / ("0" * 40))


def refused(name) -> str:
    with pytest.raises(InputError) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_loaded_by_string_or_path(golden, encoder):
    again = load_encoder(str(golden))
    assert again.name == str(golden)
    np.testing.assert_array_equal(again.embed(["a film"]), encoder.embed(["a film"]))


@pytest.mark.parametrize("name", ["tiny", "someone/tiny"])
def test_a_hub_name_is_found_in_the_local_cache(hub, folder, encoder, name, tmp_path):
    cache(hub, name, folder)
    found = load_encoder(name)
    assert found.name == name
    with pytest.warns(RuntimeWarning, match=f"how {name} is pooled is not known here, taken as mean: give pooling"):
        vectors = found.embed(["a film"])
    np.testing.assert_array_equal(vectors, encoder.embed(["a film"]))
    np.testing.assert_array_equal(found.embed(["a film"], pooling="mean"), vectors)
    assert not found.with_model(found.model).pooling_known
    with pytest.warns(RuntimeWarning, match=f"how {name} is pooled is not known here, and .* by the mean"):
        found.save_pretrained(tmp_path / "copy")


def test_offline_an_unknown_name_says_what_was_tried(hub):
    message = refused("someone/unknown-model")
    assert all(word in message for word in ("someone/unknown-model", str(hub), "HF_HUB_OFFLINE"))


def test_the_hub_is_asked_for_no_pickle_and_its_failure_is_told(hub, monkeypatch):
    asked = []

    def snapshot(name, **options):
        asked.append(options)
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    assert "no route" in refused("someone/unknown")
    assert [options.get("local_files_only", False) for options in asked] == [True, False]
    for options in asked:
        assert not any("bin" in pattern or "pt" in pattern for pattern in options["allow_patterns"])


@pytest.mark.parametrize("name", ["trian", "someone/trian"])
def test_a_typo_without_a_network_fails_at_once_in_one_line_and_without_noise(name, hub, monkeypatch, capfd, caplog):
    # Port 9 of this machine: nobody listens there.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    start = time.monotonic()
    message = refused(name)
    assert time.monotonic() - start < 3
    assert all(words in message for words in (f"no folder '{name}'", "hub cannot be reached", "correct the path"))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_hub_that_cannot_be_reached_is_asked_for_nothing(hub, monkeypatch):
    def snapshot(name, *, local_files_only=False, **_):
        assert local_files_only, "asked the hub"
        raise FileNotFoundError(name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(load, "hub_answers", lambda: False)
    assert "hub cannot be reached" in refused("someone/unknown")


def test_a_snapshot_that_lacks_what_is_not_read_here_is_used_and_one_that_lacks_weights_is_fetched(
    hub, folder, tmp_path, monkeypatch
):
    lacking = huggingface_hub.errors.IncompleteSnapshotError("modules.json is missing", str(folder))
    whole = shutil.copytree(folder, tmp_path / "whole")
    asked = []

    def snapshot(name, *, local_files_only=False, **options):
        asked.append(local_files_only)
        if local_files_only:
            raise lacking
        return str(whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    assert load.find_folder("someone/tiny") == folder
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    (folder / "tokenizer.json").unlink()
    assert load.find_folder("someone/tiny") == whole
    monkeypatch.setattr(load, "hub_answers", lambda: False)
    assert load.find_folder("someone/tiny") == folder
    assert asked == [True, True, False, True]
    (folder / "model.safetensors").unlink()
    assert "the hub cannot be reached" in refused("someone/tiny")


def test_a_model_that_the_hub_has_as_a_pickle_alone_is_told_with_the_way_to_convert_it(hub, folder, monkeypatch):
    (folder / "model.safetensors").unlink()

    def snapshot(name, *, local_files_only=False, **_):
        if local_files_only:
            raise FileNotFoundError(name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    message = refused("someone/old")
    assert message.startswith("model 'someone/old' has no safetensors on the hub: convert its weights")
    assert "AutoModel.from_pretrained('someone/old').save_pretrained(NEW_FOLDER), with its tokenizer" in message
    assert str(folder) not in message


def test_a_model_in_the_working_folder_is_no_hub_name(hub, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "no model of that name in the hub's cache" in refused("someone/tiny")


def test_whatever_breaks_a_download_is_told_in_one_line(hub, monkeypatch):
    class Broken(Exception):
        """As of the HTTP client: of no kind that others are of."""

    def snapshot(name, **options):
        raise Broken("peer closed\nconnection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    assert "Broken: peer closed connection" in refused("someone/tiny")


def test_what_a_config_has_refused_is_not_fetched_whole(hub, tmp_path, monkeypatch):
    def snapshot(name, *, local_files_only=False, **options):
        assert local_files_only, "fetched"
        raise FileNotFoundError(name)

    def download(name, file):
        (tmp_path / file).write_text('{"model_type": "mpnet"}')
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    assert "model_type 'mpnet' is not supported; supported: bert, " in refused("someone/mpnet")


def test_a_tokenizer_file_without_settings_cuts_texts_as_it_says(folder):
    made = json.loads((folder / "tokenizer.json").read_text())
    made["normalizer"] = {"type": "Lowercase"} if made["normalizer"] is None else None
    (folder / "tokenizer.json").write_text(json.dumps(made))
    (folder / "tokenizer_config.json").unlink()
    expected = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode("The FILM").ids
    assert load_encoder(folder).tokenizer("The FILM")["input_ids"] == expected


@pytest.mark.parametrize("asked", [True, False])
def test_a_text_ends_with_the_end_token_where_the_settings_say_so(folder, asked):
    made = json.loads((folder / "tokenizer.json").read_text())
    made["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(made))
    ends = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[SEP]", "bos_token": "[CLS]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(ends | {"add_eos_token": asked}))
    tokenizer = load_encoder(folder).tokenizer
    for text in ("a film", "the story"):
        found = tokenizer(text)["input_ids"]
        assert (found[-1] == tokenizer.eos_token_id) == asked
        assert found[0] != tokenizer.bos_token_id
        assert len(found) == 2 + asked


def test_a_decoder_with_code_of_its_own_has_to_say_whether_it_looks_ahead(of_family, tmp_path):
    of_family("qwen2")
    file = tmp_path / "qwen2" / "config.json"
    values = json.loads(file.read_text()) | {"auto_map": {"AutoModel": "modeling_qwen.Qwen2Model"}}
    file.write_text(json.dumps(values))
    assert "write is_causal, true or false, into config.json" in refused(file.parent)
    file.write_text(json.dumps(values | {"is_causal": False}))
    both = load_encoder(file.parent)
    assert not both.config.causal
    saved = both.save_pretrained(tmp_path / "saved")
    assert "auto_map" not in json.loads((saved / "config.json").read_text())


def test_a_file_given_for_a_model_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").touch()
    for name in ("train.csv", tmp_path / "train.csv"):
        message = refused(name)
        assert message.startswith(f"model {str(name)!r}: this is a file")
        assert "give the folder of a Hugging Face model" in message


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "", "with space"])
def test_a_path_that_is_no_folder_is_refused_without_asking_the_hub(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert "no folder" in refused(name)


def test_a_folder_without_a_tokenizer_still_gives_hidden_states(folder):
    (folder / "tokenizer.json").unlink()
    encoder = load_encoder(folder)
    assert encoder.hidden_states(np.array([[1, 2, 3]]))[-1].shape == (1, 3, 32)
    with pytest.raises(InputError, match="no tokenizer"):
        encoder.embed(["a"])


@pytest.mark.parametrize("file", ["tokenizer.model", "sentencepiece.bpe.model"])
def test_a_model_of_sentencepiece_is_a_tokenizer_that_counts_and_says_what_reads_it(folder, file):
    (folder / "tokenizer.json").unlink()
    prints = set()
    for content in (b"no model", b"none either"):
        (folder / file).write_bytes(content)
        prints.add(load_encoder(folder).fingerprint())
    assert len(prints) == 2
    with pytest.raises(InputError, match=r"cannot be read .*save it there as tokenizer\.json, .*install sentencepiece"):
        load_encoder(folder).embed(["a"])


@pytest.mark.parametrize("content", ["{", "{}", '{"model": {"type": "Nothing"}}'])
def test_a_broken_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="tokenizer"):
        load_encoder(folder).embed(["a"])


def test_the_code_of_a_folder_is_never_run(folder):
    ran = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Tokenizer: pass")
    for file, auto_map in (
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Tokenizer", None]}),
        ("config.json", {}),
    ):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | {"auto_map": auto_map or {"AutoModel": "evil.Model"}}))
    with contextlib.suppress(InputError):
        load_encoder(folder).embed(["a"])
    assert not ran.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1, 2, 3],), "shape"),
        (([[1, 2]], [[1, 1, 1]]), "shape"),
        (([[1, 84]],), "input_ids"),
        (([[1, -1]],), "input_ids"),
        (([[1.0, 2.0]],), "input_ids"),
        (([[1, 2]], None, [[0, 2]]), "token_type_ids"),
        (([[1] * 65],), "64"),
    ],
)
def test_ids_that_make_no_batch_are_refused(encoder, arguments, words):
    with pytest.raises(InputError, match=words):
        encoder.hidden_states(*arguments)


def test_the_fingerprint_tells_weights_configs_and_tokenizers_apart(encoder, folder):
    prints = {encoder.fingerprint()}
    assert load_encoder(folder).fingerprint() in prints
    for file, old, new in (
        ("config.json", '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-06'),
        ("tokenizer.json", '"lowercase": true', '"lowercase": false'),
    ):
        content = (folder / file).read_text()
        assert old in content
        (folder / file).write_text(content.replace(old, new))
        prints.add(load_encoder(folder).fingerprint())
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][0] += 1
    save_file(tensors, folder / "model.safetensors")
    prints.add(load_encoder(folder).fingerprint())
    assert len(prints) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: setattr(tokenizer, "truncation_side", "left"),
        lambda tokenizer: setattr(tokenizer, "split_special_tokens", True),
        lambda tokenizer: tokenizer.add_tokens(["zebra"]),
        lambda tokenizer: setattr(tokenizer.backend_tokenizer, "normalizer", tokenizers.normalizers.NFC()),
    ],
    ids=["side", "special tokens", "tokens", "normalizer"],
)
def test_the_fingerprint_tells_a_tokenizer_that_was_changed_after_it_was_read(folder, change):
    encoder = load_encoder(folder)
    before = encoder.fingerprint()
    change(encoder.tokenizer)
    assert encoder.fingerprint() != before
    assert encoder.with_model(encoder.model).fingerprint() == encoder.fingerprint()


def test_the_fingerprint_is_the_same_before_and_after_the_tokenizer_is_read_and_used(folder, tmp_path):
    encoder = load_encoder(folder)
    before = encoder.fingerprint()
    assert "tokenizer" not in vars(encoder)
    encoder.embed(["a film " * 20], max_length=8)
    assert "tokenizer" in vars(encoder)
    assert encoder.fingerprint() == before
    encoder.save_pretrained(tmp_path / "saved")
    encoder.tokenizer(["a film", "the"], padding=True)
    assert encoder.fingerprint() == encoder.with_model(encoder.model).fingerprint() == before


def test_the_heads_fingerprint_tells_apart_what_fine_tuning_starts_from_and_the_encoders_does_not(encoder, folder):
    prints = [encoder.head_fingerprint(), load_encoder(folder).head_fingerprint()]
    for values in ({"id2label": {"0": "bad", "1": "good"}}, {"classifier_dropout": 0.5}):
        settings = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps(settings))
        prints.append(load_encoder(folder).head_fingerprint())
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"classifier.weight": np.ones((2, 32), np.float32)}, folder / "model.safetensors")
    prints.append(load_encoder(folder).head_fingerprint())
    assert len(set(prints)) == len(prints) - 1
    assert prints[0] == prints[1]
    assert load_encoder(folder).fingerprint() == encoder.fingerprint()


def test_a_saved_tokenizer_names_segments_only_where_the_encoder_has_them(of_family, tmp_path):
    for family, named in (("distilbert", False), ("bert", True)):
        made = of_family(family)
        made = dataclasses.replace(made, settings={**made.settings, "type_vocab_size": 2})  # left behind by a BERT
        made.tokenizer.model_input_names = ["input_ids", "attention_mask"]
        saved = load_encoder(made.save_pretrained(tmp_path / "saved" / family))
        assert ("token_type_ids" in saved.tokenizer.model_input_names) == named


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"], "include_prompt": True}, "last"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, "mean"),
        ({"pooling_mode_weightedmean_tokens": True}, "weighted_mean"),
        ({"pooling_mode_cls_token": False, "pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_cls_token": False}, "mean"),
        ({}, "mean"),
    ],
)
def test_a_model_is_pooled_as_sentence_transformers_wrote_that_it_is_and_so_is_what_is_saved_of_it(
    folder, tmp_path, content, pooling
):
    said(folder, json.dumps(content))
    encoder = load_encoder(folder)
    assert encoder.pooling == pooling
    np.testing.assert_array_equal(encoder.embed(["a film"]), encoder.embed(["a film"], pooling=pooling))
    saved = load_encoder(encoder.save_pretrained(tmp_path / "saved"))
    assert saved.pooling == pooling
    assert (saved.folder / "1_Pooling").exists() == (pooling != "mean")


@pytest.mark.parametrize(
    ("content", "own"),
    [
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_sqrt_len_tokens": True}, "cls+mean_sqrt_len_tokens"),
        ({"pooling_mode": ["cls", "mean"]}, "cls+mean"),
        ({"pooling_mode": 5}, "5"),
    ],
)
def test_a_pooling_that_is_not_known_is_told_where_no_other_is_asked_for(folder, tmp_path, content, own):
    said(folder, json.dumps(content))
    encoder = load_encoder(folder)
    with pytest.raises(InputError, match=r"asks for .*, which is unknown: give pooling as cls, mean"):
        encoder.embed(["a film"])
    assert encoder.embed(["a film"], pooling="mean").shape == (1, encoder.config.hidden_size)
    assert encoder.pooling == load_encoder(encoder.save_pretrained(tmp_path / "saved")).pooling == own


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_pooling_file_that_cannot_be_read_is_named(folder, content):
    said(folder, content)
    assert "1_Pooling/config.json" in refused(folder)


@pytest.mark.parametrize("path", ["1_Pooling", "2_Pooling", "../elsewhere", ".."])
def test_a_pooling_that_a_model_is_said_to_have_and_that_is_not_there_is_told(folder, tmp_path, path):
    parts_with(folder, path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text('{"pooling_mode": "cls"}')
    encoder = load_encoder(folder)
    with pytest.raises(InputError, match=r"modules.json has a pooling whose config.json is not there: give pooling as"):
        encoder.embed(["a film"])
    assert encoder.embed(["a film"], pooling="cls").shape == (1, encoder.config.hidden_size)
    assert load_encoder(encoder.save_pretrained(tmp_path / "saved")).pooling == encoder.pooling


@pytest.mark.parametrize(
    ("types", "unread"),
    [
        (("Transformer", "Pooling", "Dense", "Normalize"), "Dense"),
        (("Transformer", "Pooling", "LayerNorm"), "LayerNorm"),
        (("Transformer", "WeightedLayerPooling", "Pooling"), "WeightedLayerPooling"),
        (("Transformer", "SpladePooling"), "SpladePooling"),
        (("WordEmbeddings", "Pooling"), "WordEmbeddings"),
    ],
)
def test_a_part_of_a_model_that_is_not_read_is_told_where_no_pooling_is_asked_for(folder, tmp_path, types, unread):
    said(folder, '{"pooling_mode": "cls"}')
    parts_with(folder, "1_Pooling", types)
    encoder = load_encoder(folder)
    with pytest.raises(InputError, match=f"modules.json has a {unread} part, which is not read here: give pooling as"):
        encoder.embed(["a film"])
    assert encoder.embed(["a film"], pooling="cls").shape == (1, encoder.config.hidden_size)
    assert load_encoder(encoder.save_pretrained(tmp_path / "saved")).pooling == encoder.pooling


def test_parts_that_leave_the_pooled_vector_or_its_direction_are_passed_over(folder):
    said(folder, '{"pooling_mode": "cls"}')
    parts_with(folder, "1_Pooling", ("Transformer", "Pooling", "Dropout", "Normalize"))
    assert load_encoder(folder).pooling == "cls"


def test_a_pooling_is_found_where_the_list_of_parts_says(folder):
    parts_with(folder, "2_Pooling")
    (folder / "2_Pooling").mkdir()
    (folder / "2_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    assert load_encoder(folder).pooling == "last"
    (folder / "modules.json").write_text("[]")
    assert load_encoder(folder).pooling == "mean"
    for broken in ("{", "[1]", '[{"type": "a"}, {"type": "b.Pooling"}]', "3"):
        (folder / "modules.json").write_text(broken)
        assert "modules.json is no list of parts" in refused(folder)


def test_a_folder_that_is_given_from_here_is_the_same_from_elsewhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    encoder = load_encoder(folder.name)
    monkeypatch.chdir(tmp_path.parent)
    assert load_encoder(encoder.save_pretrained(tmp_path / "saved")).embed(["a film"]).shape == (1, 32)
    assert encoder.fingerprint() == load_encoder(folder).fingerprint()


def test_a_saved_tokenizer_cuts_nothing_of_itself(folder, tmp_path):
    encoder = load_encoder(folder)
    encoder.embed(["a film"], max_length=8)
    saved = tmp_path / "saved" / "tokenizer.json"
    encoder.save_pretrained(saved.parent)
    assert len(tokenizers.Tokenizer.from_file(str(saved)).encode("film " * 20).ids) > 20
    assert encoder.embed(["film " * 20], max_length=8).shape == (1, 32)


def parts_with(folder, path: str, types=("Transformer", "Pooling")) -> None:
    paths = {"Transformer": "", "Pooling": path}
    parts = [{"path": paths.get(kind, kind), "type": f"sentence_transformers.models.{kind}"} for kind in types]
    (folder / "modules.json").write_text(json.dumps(parts))


def nothing(*_, **__) -> str:
    raise ConnectionError


def said(folder, content: str) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(content)


def test_of_a_repository_the_hub_is_asked_for_how_texts_are_pooled_and_for_no_other_folder():
    files = [
        "config.json",
        "model.safetensors",
        "1_Pooling/config.json",
        "pytorch_model.bin",
        "2_Normalize/config.json",
    ]
    files += ["onnx/config.json", "1_Pooling/model.safetensors", "openvino/1_Pooling/config.json"]
    found = filter_repo_objects(files, allow_patterns=load._FILES, ignore_patterns=load._LEFT_OUT)
    assert [*found] == ["config.json", "model.safetensors", "1_Pooling/config.json"]


def test_how_a_model_that_others_cached_is_pooled_is_asked_of_the_hub_once(hub, folder, monkeypatch):
    has = {
        "someone/tiny": {"1_Pooling/config.json": '{"pooling_mode": "cls"}'},
        "someone/plain": {},
        "someone/dense": {"modules.json": '[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]'},
    }
    for name in has:
        cache(hub, name, folder)
    asked = []

    def download(name, file, *, revision):
        asked.append((name, file))
        root = hub / f"models--{name.replace('/', '--')}"
        place = root / ("snapshots" if file in has[name] else ".no_exist") / revision / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(has[name].get(file, ""))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    assert load_encoder("someone/tiny").pooling == "mean"  # offline
    assert not load_encoder("someone/tiny").pooling_known
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    for _ in range(2):
        assert load_encoder("someone/tiny").pooling == "cls"
        assert load_encoder("someone/plain").pooling == "mean"
        assert load_encoder("someone/dense").pooling == "part Dense"
    assert asked == [(name, file) for name in has for file in ("modules.json", "1_Pooling/config.json")]
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    assert load_encoder("someone/plain").pooling_known


def test_how_a_model_that_was_fetched_is_pooled_is_known_offline(hub, folder, monkeypatch):
    def snapshot(name, *, local_files_only=False, **_):
        place = hub / "models--someone--tiny" / "snapshots" / ("0" * 40)
        if not local_files_only:
            cache(hub, name, folder)
        elif not place.is_dir():
            raise FileNotFoundError(name)
        return str(place)

    def download(name, file, *, revision):
        place = hub / "models--someone--tiny" / ".no_exist" / revision / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(load, "hub_answers", lambda: True)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    assert load_encoder("someone/tiny").pooling == "mean"
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    assert load_encoder("someone/tiny").pooling_known


def test_a_repository_that_is_all_there_says_how_its_model_is_pooled_by_saying_nothing(hub, folder):
    (folder / ".gitattributes").touch()
    cache(hub, "someone/tiny", folder)
    encoder = load_encoder("someone/tiny")
    assert encoder.pooling_known
    assert encoder.embed(["a film"]).shape == (1, encoder.config.hidden_size)


@pytest.mark.parametrize("files", [["modules.json"], ["1_Pooling/config.json"]])
def test_a_hub_that_does_not_answer_is_no_matter_where_the_cache_has_how_texts_are_pooled(hub, folder, files):
    said(folder, '{"pooling_mode": "cls"}')
    parts_with(folder, "1_Pooling")
    for file in {"modules.json", "1_Pooling/config.json"} - {*files}:
        (folder / file).unlink()
    cache(hub, "someone/tiny", folder)
    assert load_encoder("someone/tiny").pooling in ("cls", "missing")
    assert load_encoder("someone/tiny").pooling_known
