"""What is made of a text is kept for the next time, within bounds."""

from concurrent.futures import ThreadPoolExecutor

from loraudit.memorization.plagiarism.kept import Kept


def counting(characters):
    made = []

    def upper(text, *rest):
        made.append((text, *rest))
        return text.upper(), rest

    return Kept(upper, characters), made


def test_an_answer_is_made_once_for_each_text_and_setting():
    kept, made = counting(10_000)
    assert kept("a", 1) == kept("a", 1) == ("A", (1,))
    assert kept("a", 2) == ("A", (2,))
    assert made == [("a", 1), ("a", 2)]
    kept.cache_clear()
    kept("a", 1)
    assert made[2:] == [("a", 1)]


def test_the_texts_longest_unused_are_forgotten_first():
    kept, made = counting(3 * (64 + 100))
    a, b, c, d = ("abcd"[i] * 100 for i in range(4))
    for text in (a, b, c, a, d):
        kept(text)
    made.clear()
    for text in (a, c, d):
        kept(text)
    assert made == []
    kept(b)
    assert made == [(b,)]


def test_however_many_texts_come_their_characters_stay_bounded():
    kept, _ = counting(5000)
    for i in range(500):
        kept(str(i) * (i % 50), i)
        assert kept.n_characters <= 5000
    assert kept.n_characters > 4000


def test_a_text_beyond_the_limit_is_answered_and_drives_out_no_other():
    kept, made = counting(1000)
    kept("short")
    assert kept("x" * 5000) == ("X" * 5000, ())
    kept("short")
    assert made.count(("short",)) == 1


def test_threads_get_the_same_answers():
    kept, _ = counting(2000)
    texts = [str(i % 37) * 20 for i in range(2000)]
    with ThreadPoolExecutor(4) as pool:
        assert [answer for answer, _ in pool.map(kept, texts)] == [text.upper() for text in texts]
    assert kept.n_characters <= 2000
