"""Tiny encoders with random weights, written to folders: a sentence embedder and sequence-pair classifiers."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = (
    *("the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat"),
    *("house", ".", ",", "red", "blue", "two", "three", "people", "town"),
    *("river"),
)
POSITIONS = 24
EMBEDDED = 20


def save_tokenizer(folder):
    """A word-level BERT tokenizer over `WORDS`, letters and [UNK]."""
    from transformers import BertTokenizerFast

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += [piece for piece in [*WORDS, *letters, *("##" + c for c in letters)] if piece not in vocabulary]
    vocabulary = list(dict.fromkeys(vocabulary))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(
        vocab=dict(zip(vocabulary, range(len(vocabulary)), strict=True)), model_max_length=POSITIONS
    )
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def bert_config(n_words, **changes):
    from transformers import BertConfig

    return BertConfig(
        vocab_size=n_words,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,  # so that texts differ visibly
        **changes,
    )


def save_embedder(folder: Path) -> Path:
    """A folder in the layout of sentence-transformers: mean pooling, at most `EMBEDDED` tokens."""
    import torch
    from transformers import BertModel

    n_words = save_tokenizer(folder)
    torch.manual_seed(3)
    BertModel(bert_config(n_words)).save_pretrained(folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "1_Pooling").mkdir()
    for name, content in (
        ("modules.json", modules),
        ("sentence_bert_config.json", {"max_seq_length": EMBEDDED, "do_lower_case": False}),
        ("1_Pooling/config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def save_classifier(folder: Path, labels=("not_paraphrase", "paraphrase"), **changes) -> Path:
    """A pair classifier over `labels`."""
    import torch
    from transformers import BertForSequenceClassification

    n_words = save_tokenizer(folder)
    torch.manual_seed(4)
    config = bert_config(n_words, id2label=dict(enumerate(labels)), label2id={b: a for a, b in enumerate(labels)})
    for name, value in changes.items():
        setattr(config, name, value)
    model = BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return folder
