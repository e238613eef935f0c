"""Tiny sequence classifiers with random weights, encoder and decoder, over the tokenizer of the tests."""

from __future__ import annotations

from typing import Any

import torch

from conftest import CONTEXT, VOCABULARY

KINDS = ("bert", "roberta", "distilbert", "gpt2", "llama", "llama_without_padding", "llama_lora")


def small_classifier(kind: str, *, n_labels: int = 2, seed: int = 0) -> Any:
    """One of `KINDS`, in evaluation mode."""
    import transformers as library

    like_bert = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shared = {"vocab_size": VOCABULARY, "initializer_range": 0.2, "num_labels": n_labels, "pad_token_id": 1}
    name = kind.split("_", maxsplit=1)[0]
    if name == "bert":
        config = library.BertConfig(**shared, **like_bert, max_position_embeddings=CONTEXT)
        family = library.BertForSequenceClassification
    elif name == "roberta":
        config = library.RobertaConfig(**shared, **like_bert, max_position_embeddings=CONTEXT + 2)
        family = library.RobertaForSequenceClassification
    elif name == "distilbert":
        config = library.DistilBertConfig(
            **shared, dim=32, hidden_dim=64, n_layers=2, n_heads=4, max_position_embeddings=CONTEXT
        )
        family = library.DistilBertForSequenceClassification
    elif name == "gpt2":
        config = library.GPT2Config(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT)
        family = library.GPT2ForSequenceClassification
    else:
        config = library.LlamaConfig(**shared, **like_bert, num_key_value_heads=2, max_position_embeddings=CONTEXT)
        family = library.LlamaForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family(config).eval()
        if kind == "llama_without_padding":
            model.config.pad_token_id = None
        return with_lora(model) if kind == "llama_lora" else model


def with_lora(model: Any) -> Any:
    """The classifier inside PEFT, every trained tensor noise."""
    import peft

    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS", lora_dropout=0.5)
    )
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return wrapped.eval()
