"""Pretrain the small base model that ships in `loraudit/assets/base`.

    python scripts/pretrain_base.py --data books-0.jsonl.xz books-1.jsonl.xz ... --out src/loraudit/assets/base

The data are public-domain English prose (102 books, 1516-1924) from
https://github.com/mlschmitt/classic-books-markdown, one JSON object per line with
`title` and `text`. The sha256 of every file read, the whole recipe and the loss on
held-out books are written to `pretraining.json` beside the weights.

The weights are trained under bf16 autocast and stored in float16, which halves the
file and leaves the validation loss as it is to four decimals (both are recorded).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def read_books(paths: list[Path]) -> list[dict[str, str]]:
    books: list[dict[str, str]] = []
    for path in paths:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            books.extend(json.loads(line) for line in lines)
    return books


def train_tokenizer(texts: list[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that every string can be encoded and none needs an unknown token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B",
        special_tokens=[(END_OF_TEXT, 0)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def encode(tokenizer: PreTrainedTokenizerFast, books: list[dict[str, str]]) -> np.ndarray:
    """All books as one stream of token ids, each book opened by the end-of-text token."""
    parts: list[np.ndarray] = []
    for book in books:
        for start in range(0, len(book["text"]), 100_000):  # long single strings are slow to encode
            piece = tokenizer(book["text"][start : start + 100_000], add_special_tokens=False)["input_ids"]
            parts.append(np.asarray(([0] if start == 0 else []) + piece, dtype=np.int32))
    return np.concatenate(parts)


@torch.no_grad()
def mean_loss(model: LlamaForCausalLM, stream: np.ndarray, context: int, n_windows: int) -> float:
    """Mean loss in nats per token over `n_windows` evenly spaced windows of the stream."""
    model.eval()
    starts = np.linspace(0, len(stream) - context, n_windows).astype(int)
    losses = []
    for chunk in np.array_split(starts, max(1, n_windows // 16)):
        ids = np.stack([stream[s : s + context] for s in chunk])
        ids[:, 0] = 0
        batch = torch.from_numpy(ids.astype(np.int64))
        losses.append(model(input_ids=batch, labels=batch).loss.item() * len(chunk))
    model.train()
    return sum(losses) / n_windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="books as .jsonl.xz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32, help="sequences per step")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--validation-books", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="compile the step; faster, and needs a C++ compiler")
    arguments = parser.parse_args()

    rng = np.random.default_rng(arguments.seed)
    torch.manual_seed(arguments.seed)
    books = read_books(arguments.data)
    order = rng.permutation(len(books))
    held_out = [books[i] for i in order[: arguments.validation_books]]
    training = [books[i] for i in order[arguments.validation_books :]]
    tokenizer = train_tokenizer([book["text"] for book in training], arguments.vocabulary)
    train_stream, valid_stream = encode(tokenizer, training), encode(tokenizer, held_out)
    print(f"{len(train_stream):,} training tokens, {len(valid_stream):,} validation tokens", flush=True)

    config = LlamaConfig(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.width,
        intermediate_size=arguments.width * 11 // 4,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.width // 64,
        max_position_embeddings=arguments.context,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters", flush=True)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=arguments.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    warmup = max(1, arguments.steps // 40)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (arguments.steps - warmup)))

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=batch, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1])
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())

    step_loss = torch.compile(loss_of) if arguments.compile else loss_of
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    began = time.time()
    model.train()
    for step in range(arguments.steps):
        starts = rng.integers(0, len(train_stream) - arguments.context, arguments.batch)
        ids = np.stack([train_stream[s : s + arguments.context] for s in starts])
        ids[:, 0] = 0  # every window opens as the tokenizer opens a text
        batch = torch.from_numpy(ids.astype(np.int64))
        loss = step_loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == arguments.steps - 1:
            seconds = time.time() - began
            print(
                f"step {step} loss {loss.item():.3f} {(step + 1) * batch.numel() / seconds:,.0f} tokens/s", flush=True
            )
        if step and step % 500 == 0:
            print(f"step {step} validation {mean_loss(model, valid_stream, arguments.context, 128):.4f}", flush=True)

    loss_fp32 = mean_loss(model, valid_stream, arguments.context, 512)
    stored = model.half()
    arguments.out.mkdir(parents=True, exist_ok=True)
    stored.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    reloaded = LlamaForCausalLM.from_pretrained(arguments.out, dtype=torch.float32)
    record = {
        "data": [
            {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in arguments.data
        ],
        "data_source": "https://github.com/mlschmitt/classic-books-markdown (public-domain titles)",
        "validation_books": sorted(book["title"] for book in held_out),
        "training_tokens_available": len(train_stream),
        "training_tokens_seen": arguments.steps * arguments.batch * arguments.context,
        "parameters": n_parameters,
        "recipe": {name: value for name, value in sorted(vars(arguments).items()) if name not in {"data", "out"}}
        | {
            "optimizer": "AdamW betas 0.9, 0.95, weight decay 0.1",
            "schedule": "linear warm-up 2.5 %, cosine to 2 %",
            "autocast": "bfloat16",
            "gradient_clipping": 1.0,
        },
        "validation_loss_nats_per_token": round(mean_loss(reloaded, valid_stream, arguments.context, 512), 4),
        "validation_loss_before_float16": round(loss_fp32, 4),
        "torch": torch.__version__,
    }
    (arguments.out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
