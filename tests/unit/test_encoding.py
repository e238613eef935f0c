"""Records to tokens as training made them, and the mask of the tokens that training predicts."""

import copy
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraudit.data import Encoded, audited_text, encode, record_facts, record_id, token_record
from loraudit.errors import DataError
from loraudit.types import Message, Record

TURN_BY_TURN = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKED = (
    "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}<|assistant|>"
    "{%- generation -%}{{ message['content'] + '\n' }}{%- endgeneration -%}"
    "{%- else -%}{{ '<|' + message['role'] + '|>' + message['content'] + '\n' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
# As templates of reasoning models do: only the last turn keeps its thoughts.
FORGETFUL = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] if loop.last else message['content'].split('</think>')[-1] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# No break between turns, so that a token may reach from one into the next.
UNBROKEN = (
    "{% for message in messages %}{{ ' ' if loop.index0 is odd else '' }}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} {% endif %}"
)
STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ message['content'] }}\n{% endfor %}"
)


def text(content: str, line: int = 1) -> Record:
    return Record(record_id(text=content), "members.jsonl", line, text=content)


def pair(prompt: str, completion: str, line: int = 1) -> Record:
    return Record(
        record_id(prompt=prompt, completion=completion), "members.jsonl", line, prompt=prompt, completion=completion
    )


def chat(*turns: tuple[str, str], line: int = 1) -> Record:
    messages = tuple(Message(*turn) for turn in turns)
    return Record(record_id(messages=messages), "members.jsonl", line, messages=messages)


TALK = chat(
    ("system", "Be brief."),
    ("user", "Hello there"),
    ("assistant", "Hello, how are you?"),
    ("user", "I am well"),
    ("assistant", "Good é🙂"),
)


class WithoutOffsets:
    """A tokenizer that cannot say which characters a token holds, as those written in Python cannot."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.chat_template = tokenizer.chat_template
        self.eos_token_id = tokenizer.eos_token_id

    def __call__(self, text: list[str], **options: Any) -> Any:
        if options.get("return_offsets_mapping"):
            raise NotImplementedError("a tokenizer without offsets was asked for offsets")
        return self.tokenizer(text, **options)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(conversation, **options)


def with_template(tokenizer, template: str | None):
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def audited_part(tokenizer, item) -> str:
    return tokenizer.decode(item.ids[item.is_audited])


def one(record: Record, tokenizer, **options):
    (item,) = encode([record], tokenizer, **options)
    assert item.ids.dtype == np.int32
    assert item.is_audited.dtype == np.bool_
    assert item.ids.shape == item.is_audited.shape
    return item


def same(first, second) -> bool:
    return np.array_equal(first.ids, second.ids) and np.array_equal(first.is_audited, second.is_audited)


# --- plain text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", ["trained", "all"])
def test_plain_text_is_what_the_tokenizer_makes_of_it_and_all_of_it_counts(span, tokenizer, texts):
    contents = [*texts[:30], "", " ", "é🙂", "</s> in the middle <s>", "a\r\nb\tc"]
    for content, item in zip(contents, encode([text(c) for c in contents], tokenizer, span=span), strict=True):
        assert item.ids.tolist() == tokenizer(content)["input_ids"]
        assert item.is_audited.all()


def test_records_are_tokenised_alike_alone_and_together_in_any_order(tokenizer):
    talker = with_template(tokenizer, TURN_BY_TURN)
    records = [text("one"), TALK, pair("two ", "three"), text("four"), chat(("user", "five")), pair("", "six")]
    alone = [one(record, talker) for record in records]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        together = encode([records[i] for i in order], talker)
        assert all(same(item, alone[i]) for item, i in zip(together, order, strict=True))


def test_a_record_that_is_tokens_stays_the_tokens_it_is(tokenizer):
    """Single letters, which the tokenizer would join, between records that it cuts."""
    letters = tokenizer.convert_tokens_to_ids(list("theother"))
    assert tokenizer("theother", add_special_tokens=False)["input_ids"] != letters
    is_audited = np.arange(8) % 3 == 0
    record = token_record(Encoded(np.array(letters, dtype=np.int32), is_audited), source="samples", line=4)
    assert (record.source, record.line) == ("samples", 4)
    first, found, last = encode([text("one"), record, pair("two ", "three")], tokenizer)
    assert found.ids.tolist() == letters
    assert np.array_equal(found.is_audited, is_audited)
    assert same(first, one(text("one"), tokenizer))
    assert same(last, one(pair("two ", "three"), tokenizer))
    assert one(record, tokenizer, span="all").is_audited.all()
    assert one(record, tokenizer, append_eos=True).ids.tolist() == [*letters, tokenizer.eos_token_id]


def test_the_id_of_a_record_of_tokens_is_that_of_its_content():
    items = [Encoded(np.array(ids), np.array(mask)) for ids in ([1, 2], [2, 1]) for mask in ([True] * 2, [True, False])]
    ids = [token_record(item, source="a", line=1).id for item in items]
    assert len(set(ids)) == 4
    assert token_record(items[0], source="b", line=2).id == ids[0]


def test_no_records_give_nothing(tokenizer):
    assert encode([], tokenizer) == []
    assert encode([], tokenizer, append_eos=True) == []


def test_the_settings_of_the_tokenizer_for_batches_change_nothing(tokenizer):
    records = [text("a short one"), text("a much longer one " * 40), pair("ask ", "answer"), TALK]
    plain = with_template(tokenizer, TURN_BY_TURN)
    expected = encode(records, plain)
    for side in ("left", "right"):
        changed = copy.deepcopy(plain)
        changed.pad_token = "</s>"
        changed.padding_side = changed.truncation_side = side
        changed.model_max_length = 8
        changed.backend_tokenizer.enable_padding(direction=side, length=16)
        changed.backend_tokenizer.enable_truncation(4)
        assert all(same(*both) for both in zip(encode(records, changed), expected, strict=True))


def test_encoding_adds_nothing_to_the_vocabulary(tokenizer):
    before = len(tokenizer), tokenizer.get_vocab()
    encode([text("é🙂"), pair("a", "b")], tokenizer, append_eos=True)
    assert (len(tokenizer), tokenizer.get_vocab()) == before


# --- prompt and completion ----------------------------------------------------------------------------


def trimming(tokenizer):
    """Leaves blanks out of a token's offsets, as byte-level post-processing does unless told not to."""
    from tokenizers import processors

    changed = copy.deepcopy(tokenizer)
    changed.backend_tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), changed.backend_tokenizer.post_processor]
    )
    return changed


def merging_whole_words(tokenizer):
    """Takes a word that is in the vocabulary without merging it up, as the tokenizer of Llama 3 does."""
    changed = copy.deepcopy(tokenizer)
    changed.backend_tokenizer.model.ignore_merges = True
    return changed


BYTE_LEVEL = {"plain": lambda tokenizer: tokenizer, "trimming": trimming, "whole words": merging_whole_words}

PIECES = st.lists(
    st.sampled_from(
        [" ", "  ", "   ", "\n", "\n\n", "\t", "the ", "hel", "lo", " wor", "ld", ".", "é", "e\u0301", "🙂", "\u3000"]
    ),
    max_size=8,
).map("".join)


def holds_completion(tokenizer, record: Record, ids) -> list[bool]:
    """The slow obvious way: a byte-level token's name has one character per byte of the text."""
    n_prompt_bytes = len(record.prompt.encode())
    position, holds = 0, []
    for token_id, token in zip(ids, tokenizer.convert_ids_to_tokens(ids.tolist()), strict=True):
        if token_id in tokenizer.all_special_ids:
            holds.append(False)
            continue
        position += len(token)
        holds.append(position > n_prompt_bytes)
    assert position == len((record.prompt + record.completion).encode())
    return holds


@pytest.mark.parametrize("kind", BYTE_LEVEL)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=PIECES, completion=PIECES)
def test_the_tokens_that_count_are_those_that_hold_a_character_of_the_completion(kind, tokenizer, prompt, completion):
    changed = BYTE_LEVEL[kind](tokenizer)
    record = pair(prompt, completion)
    item = one(record, changed)
    assert item.ids.tolist() == changed(prompt + completion)["input_ids"]
    assert item.is_audited.tolist() == holds_completion(changed, record, item.ids)


def test_a_token_across_the_boundary_counts(tokenizer, texts):
    """Cut a text inside one of its tokens: that token holds characters of both sides."""
    content = texts[0]
    offsets = tokenizer(content, return_offsets_mapping=True)["offset_mapping"]
    place, (start, end) = next((i, span) for i, span in enumerate(offsets) if span[1] - span[0] > 2)
    item = one(pair(content[: start + 1], content[start + 1 :]), tokenizer)
    assert item.ids.tolist() == tokenizer(content)["input_ids"]
    assert np.flatnonzero(item.is_audited)[0] == place
    assert item.is_audited[place:].all()
    assert end - start > 2


def test_every_token_counts_where_the_span_is_all(tokenizer):
    record = pair("What is it? ", "It is so.")
    item = one(record, tokenizer, span="all")
    assert item.ids.tolist() == tokenizer("What is it? It is so.")["input_ids"]
    assert item.is_audited.all()


def test_no_token_counts_for_an_empty_completion(tokenizer):
    assert not one(pair("What is it?", ""), tokenizer).is_audited.any()


def test_all_but_special_tokens_count_for_an_empty_prompt(tokenizer):
    assert one(pair("", "It is so."), tokenizer).is_audited.tolist() == [False] + [True] * (
        len(tokenizer("It is so.")["input_ids"]) - 1
    )


def test_a_completion_whose_characters_are_normalised_counts_whole(tokenizer):
    from tokenizers import normalizers

    composing = copy.deepcopy(tokenizer)
    composing.backend_tokenizer.normalizer = normalizers.NFC()
    item = one(pair("Be\u0301 ", "e\u0301 x"), composing)
    assert item.ids.tolist() == tokenizer("B\u00e9 \u00e9 x")["input_ids"]
    assert audited_part(composing, item) == "\u00e9 x"


@pytest.mark.parametrize("completion", [" 🙂é x", "xé", "🙂", "  x"])
@pytest.mark.parametrize("marker", ["normalizer", "pre-tokenizer"])
def test_bytes_of_one_character_count_where_the_character_is_not_in_the_vocabulary(marker, completion):
    """SentencePiece-like: blanks are marks, and characters out of the vocabulary are single bytes."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Helox"]
    model = models.BPE(
        vocab={name: number for number, name in enumerate(names)}, merges=[], unk_token="<unk>", byte_fallback=True
    )
    backend = Tokenizer(model)
    if marker == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    marked = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    item = one(pair("Hello", completion), marked)
    n_completion = sum(1 if character in " x" else len(character.encode()) for character in completion)
    assert item.is_audited.tolist() == [False] * 7 + [True] * n_completion


# --- chats --------------------------------------------------------------------------------------------


def test_a_chat_counts_the_assistant_turns_with_what_ends_them(tokenizer):
    talker = with_template(tokenizer, TURN_BY_TURN)
    item = one(TALK, talker)
    rendered = talker.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in TALK.messages], tokenize=False
    )
    assert item.ids.tolist() == talker(rendered, add_special_tokens=False)["input_ids"]
    assert audited_part(talker, item) == "Hello, how are you?\nGood é🙂\n"


def test_a_template_that_marks_generation_gives_what_its_twin_gives_by_difference(tokenizer):
    marking, plain = with_template(tokenizer, MARKED), with_template(tokenizer, TURN_BY_TURN)
    records = [TALK, chat(("user", "five")), chat(("user", "Hello"), ("assistant", "é"), ("user", "Hello"))]
    for first, second in zip(encode(records, marking), encode(records, plain), strict=True):
        assert same(first, second)
    assert audited_part(marking, one(TALK, marking)) == "Hello, how are you?\nGood é🙂\n"


@pytest.mark.parametrize("template", [TURN_BY_TURN, MARKED])
def test_a_chat_without_an_assistant_turn_counts_nothing(template, tokenizer):
    item = one(chat(("user", "Hello there")), with_template(tokenizer, template))
    assert len(item.ids)
    assert not item.is_audited.any()


@pytest.mark.parametrize("template", [TURN_BY_TURN, MARKED, FORGETFUL, UNBROKEN])
def test_every_token_of_a_chat_counts_where_the_span_is_all(template, tokenizer):
    talker = with_template(tokenizer, template)
    item = one(TALK, talker, span="all")
    assert item.is_audited.all()
    assert item.ids.tolist() == list(
        talker.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in TALK.messages], tokenize=True, return_dict=True
        )["input_ids"]
    )


def test_special_tokens_come_from_the_template_alone(tokenizer):
    talker = with_template(tokenizer, "<s>" + TURN_BY_TURN)
    assert one(TALK, talker).ids.tolist().count(tokenizer.bos_token_id) == 1
    assert one(TALK, with_template(tokenizer, TURN_BY_TURN)).ids.tolist().count(tokenizer.bos_token_id) == 0


def test_a_special_token_that_ends_an_assistant_turn_counts(tokenizer):
    ended = TURN_BY_TURN.replace("\n", "</s>")
    item = one(chat(("user", "Hello"), ("assistant", "Good")), with_template(tokenizer, ended))
    assert item.ids[-1] == tokenizer.eos_token_id
    assert item.is_audited[-1]
    assert np.count_nonzero(item.ids[item.is_audited] == tokenizer.eos_token_id) == 1


def test_templates_that_rewrite_earlier_turns_are_refused_with_every_such_chat(tokenizer):
    thinking = [("user", "Hello"), ("assistant", "<think>hm</think>Hi"), ("user", "Bye"), ("assistant", "So long")]
    records = [
        chat(*thinking, line=3),
        chat(*thinking[:2], line=4),
        text("no chat", line=5),
        chat(*thinking, ("user", "!"), line=6),
    ]
    talker = with_template(tokenizer, FORGETFUL)
    with pytest.raises(DataError, match=r"^2 chats cannot be rendered with the model's chat template\.") as caught:
        encode(records, talker)
    assert caught.value.problems == tuple(
        f"members.jsonl:{line}: the template changes earlier turns when turn 2 is added, so the trained tokens "
        "cannot be located; audit the whole chat with --span all"
        for line in (3, 6)
    )
    assert len(encode(records, talker, span="all")) == 4
    assert audited_part(talker, one(records[1], talker)) == "<think>hm</think>Hi\n"


@pytest.mark.parametrize("span", ["trained", "all"])
@pytest.mark.parametrize("template", [None, ""])
def test_chats_for_a_tokenizer_without_a_template_are_refused(template, span, tokenizer):
    records = [chat(("user", "Hello"), line=2), text("fine", line=3), chat(("user", "Hello"), line=4)]
    with pytest.raises(DataError, match=r"^2 chats cannot be rendered") as caught:
        encode(records, with_template(tokenizer, template), span=span)
    assert caught.value.problems == tuple(
        f"members.jsonl:{line}: the tokenizer has no chat template; give prompt and completion columns instead"
        for line in (2, 4)
    )


@pytest.mark.parametrize("span", ["trained", "all"])
def test_what_a_template_objects_to_is_listed_by_record(span, tokenizer):
    records = [chat(("user", "a"), ("assistant", "b"), line=2), chat(("user", "a"), ("user", "b"), line=7)]
    talker = with_template(tokenizer, STRICT)
    if span == "trained":
        records[1] = chat(("user", "a"), ("user", "b"), ("assistant", "c"), line=7)
    with pytest.raises(DataError, match=r"^1 chats cannot be rendered") as caught:
        encode(records, talker, span=span)
    assert caught.value.problems == ("members.jsonl:7: Roles must alternate",)


def test_a_template_that_does_not_compile_is_listed_by_record(tokenizer):
    with pytest.raises(DataError, match=r"^1 chats cannot be rendered") as caught:
        encode([TALK], with_template(tokenizer, "{% for message in messages %}"))
    assert caught.value.problems[0].startswith("members.jsonl:1: ")


# --- end of text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record", [text("Hello"), text(""), pair("Hello", " there"), TALK], ids=lambda r: str(r.id[:6])
)
def test_an_end_that_is_asked_for_is_appended_and_counts(record, tokenizer):
    talker = with_template(tokenizer, TURN_BY_TURN)
    without, ended = one(record, talker), one(record, talker, append_eos=True)
    assert ended.ids.tolist() == [*without.ids.tolist(), tokenizer.eos_token_id]
    assert ended.is_audited.tolist() == [*without.is_audited.tolist(), True]


def test_an_end_that_is_there_is_not_repeated(tokenizer):
    assert one(text("Hello</s>"), tokenizer, append_eos=True).ids.tolist() == tokenizer("Hello</s>")["input_ids"]
    ended = with_template(tokenizer, TURN_BY_TURN.replace("\n", "</s>"))
    assert same(one(TALK, ended, append_eos=True), one(TALK, ended))


def test_an_end_is_refused_where_the_tokenizer_has_none(tokenizer):
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    assert endless.eos_token_id is None
    with pytest.raises(
        DataError, match=r"^--append-eos was asked for, but the tokenizer has no end-of-text token\. Leave it out\.$"
    ):
        encode([text("Hello")], endless, append_eos=True)
    assert len(encode([text("Hello")], endless)) == 1


# --- tokenizers without offsets -----------------------------------------------------------------------


@pytest.mark.parametrize("span", ["trained", "all"])
def test_text_is_encoded_alike_without_offsets(span, tokenizer, texts):
    records = [text(content) for content in texts[:10]]
    for first, second in zip(
        encode(records, WithoutOffsets(tokenizer), span=span), encode(records, tokenizer, span=span), strict=True
    ):
        assert same(first, second)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=PIECES, completion=PIECES)
def test_without_offsets_no_token_of_the_completion_is_missed(tokenizer, prompt, completion):
    record = pair(prompt, completion)
    with_offsets, without = one(record, tokenizer), one(record, WithoutOffsets(tokenizer))
    assert without.ids.tolist() == with_offsets.ids.tolist()
    if completion:
        assert without.is_audited[with_offsets.is_audited].all()
    assert same(one(record, WithoutOffsets(tokenizer), span="all"), one(record, tokenizer, span="all"))


def test_without_offsets_the_prompt_does_not_count(tokenizer):
    item = one(pair("Hello there.", " I am well."), WithoutOffsets(tokenizer))
    assert tokenizer.decode(item.ids[item.is_audited]) == " I am well."


@pytest.mark.parametrize("template", [TURN_BY_TURN, "<s>" + TURN_BY_TURN], ids=["bare", "opened"])
@pytest.mark.parametrize("span", ["trained", "all"])
def test_chats_are_encoded_alike_without_offsets(span, template, tokenizer):
    talker = with_template(tokenizer, template)
    assert same(one(TALK, WithoutOffsets(talker), span=span), one(TALK, talker, span=span))


def test_without_offsets_a_token_that_reaches_out_of_an_assistant_turn_counts(tokenizer, texts):
    """The turn ends inside a token of the rendered text, which holds characters of both turns."""
    talker = with_template(tokenizer, UNBROKEN)
    content = texts[0]
    offsets = tokenizer(content, return_offsets_mapping=True)["offset_mapping"]
    start, end = next(span for span in offsets[4:] if span[1] - span[0] > 2)
    # The user's turn is empty and the template writes a blank, so that the text reads " " + content.
    record = chat(("user", ""), ("assistant", content[: start + 1]), ("user", content[start + 1 : end]))
    with_offsets = one(record, talker)
    assert with_offsets.is_audited[-1]
    without = one(record, WithoutOffsets(talker))
    assert without.is_audited[with_offsets.is_audited].all()


# --- facts --------------------------------------------------------------------------------------------


def test_the_audited_text_is_what_training_predicts_or_everything():
    assert audited_text(text("é"), "trained") == audited_text(text("é"), "all") == "é"
    assert audited_text(pair("p", "c"), "trained") == "c"
    assert audited_text(pair("p", "c"), "all") == "pc"
    assert audited_text(TALK, "trained") == "Hello, how are you?\nGood é🙂"
    assert audited_text(TALK, "all").splitlines() == [m.content for m in TALK.messages]
    assert audited_text(chat(("user", "x")), "trained") == ""


def test_facts_count_the_bytes_of_the_audited_text_plain_and_compressed(texts):
    records = [text(texts[0] * 5), text(""), text("é🙂"), pair("prompt", "éé"), TALK]
    for span in ("trained", "all"):
        facts = record_facts(records, span)
        contents = [audited_text(record, span).encode("utf-8") for record in records]
        assert facts.n_bytes.tolist() == [len(content) for content in contents]
        assert facts.n_zlib_bytes.tolist() == [len(zlib.compress(content)) for content in contents]
    assert record_facts(records, "trained").n_bytes.tolist()[2:4] == [6, 4]
    assert facts.n_zlib_bytes[0] < facts.n_bytes[0]


def test_facts_of_no_records_are_empty():
    facts = record_facts([], "trained")
    assert facts.n_bytes.shape == facts.n_zlib_bytes.shape == (0,)


def test_facts_of_some_records_are_taken_in_order():
    facts = record_facts([text("a"), text("bb"), text("ccc")], "all").take(np.array([2, 0]))
    assert facts.n_bytes.tolist() == [3, 1]


@pytest.mark.parametrize("template", [TURN_BY_TURN, MARKED, FORGETFUL])
@pytest.mark.parametrize("is_fast", [True, False])
def test_the_answer_of_a_chat_is_the_last_assistant_turn_without_the_end_of_the_template(template, is_fast, tokenizer):
    talker = with_template(tokenizer, template.replace("\n", "</s>"))
    talker = talker if is_fast else WithoutOffsets(talker)
    item = one(TALK, talker, span="answer")
    assert audited_part(tokenizer, item) == "Good é🙂"
    assert same(Encoded(item.ids, item.is_audited), Encoded(one(TALK, talker, span="all").ids, item.is_audited))
    assert "</s>" in audited_part(tokenizer, one(TALK, talker, span="all"))


def test_the_answer_of_a_record_without_turns_is_what_was_trained(tokenizer):
    asked = pair("Where?", " Here.")
    assert same(one(asked, tokenizer, span="answer"), one(asked, tokenizer))
    tokens = token_record(one(asked, tokenizer), source="said", line=1)
    assert same(one(tokens, tokenizer, span="answer"), one(asked, tokenizer))
    assert one(text("a b"), tokenizer, span="answer").is_audited.all()
    unanswered = chat(("user", "Hello there"))
    assert not one(unanswered, with_template(tokenizer, TURN_BY_TURN), span="answer").is_audited.any()


def test_an_answer_that_the_template_rewrites_is_refused(tokenizer):
    talker = with_template(tokenizer, "{% for message in messages %}{{ message['content'] | upper }}{% endfor %}")
    with pytest.raises(DataError, match="cannot be rendered") as error:
        encode([TALK], talker, span="answer")
    assert "the template changes what the assistant says" in str(error.value)
