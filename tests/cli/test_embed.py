"""longspan embed text: tokens, offsets and features of a document, and that no rank count changes them."""
import re

import harness
import h5py
import numpy

PASSAGE = ("Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, "
           "and nothing particular to interest me on shore, I thought I would sail about a little and see the watery "
           "part of the world. It is a way I have of driving off the spleen. ")
TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^\s]")


def document(words, seed):
    """Words without a pattern, with the passage at the beginning and at the end."""
    random = numpy.random.default_rng(seed)
    letters = numpy.array(list("abcdefghijklmnopqrstuvwxyz"))
    middle = " ".join("".join(random.choice(letters, random.integers(2, 9))) for _ in range(words))
    return (PASSAGE + middle + "\n" + "Größe ünd naïve_1 ... \n" + PASSAGE).encode()


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][...] for name in file}


class Embed(harness.Case):
    def setUp(self):
        super().setUp()
        self.text = document(700, seed=1)
        with open(self.path("book.txt"), "wb") as file:
            file.write(self.text)

    def test_offsets_are_those_of_the_tokens(self):
        self.succeed("embed", "text", "book.txt", "-o", "book.h5")
        found = contents(self.path("book.h5"))
        expected = [match.start() for match in TOKEN.finditer(self.text)]
        self.assertEqual(found["token_offsets"].dtype, numpy.int64)
        self.assertEqual(found["token_offsets"].tolist(), expected)
        for name in "qkv":
            self.assertEqual(found[name].shape, (len(expected), 4, 64))

    def test_no_rank_or_thread_count_changes_a_bit(self):
        for type_name in ("float32", "bfloat16"):
            arguments = ["embed", "text", "book.txt", "--heads", "5", "--dim", "24", "--value-dim", "7", "--type",
                         type_name, "--force"]
            self.succeed(*arguments, "-o", "1.h5", ranks=1)
            expected = contents(self.path("1.h5"))
            for ranks, threads in ((2, 1), (3, 2), (7, 1)):
                self.succeed(*arguments, "-o", "p.h5", "--threads", threads, ranks=ranks)
                found = contents(self.path("p.h5"))
                self.assertEqual(found.keys(), expected.keys())
                for name in expected:
                    self.assertEqual(found[name].tobytes(), expected[name].tobytes(),
                                     f"/{name} as {type_name} on {ranks} ranks with {threads} threads")

    def test_pieces_and_batches_join_without_a_seam(self):
        # Above 1 MiB of text, and features of many times 16 MiB: several pieces and batches on every rank.
        text = self.text * 240
        self.assertGreater(len(text), 1 << 20)
        with open(self.path("long.txt"), "wb") as file:
            file.write(text)
        for ranks in (1, 2):
            self.succeed("embed", "text", "long.txt", "-o", f"{ranks}.h5", "--heads", "4", "--dim", "8", ranks=ranks)
        one, two = contents(self.path("1.h5")), contents(self.path("2.h5"))
        self.assertEqual(one["token_offsets"].tolist(), [match.start() for match in TOKEN.finditer(text)])
        for name in one:
            self.assertEqual(one[name].tobytes(), two[name].tobytes(), f"/{name}")
        # The document repeats, so its features do, beyond the longest window.
        period = len(TOKEN.findall(self.text))
        for name in "qkv":
            self.assertEqual(one[name][40:period].tobytes(), one[name][period * 150 + 40:period * 151].tobytes(), name)

    def test_equal_passages_attend_to_each_other(self):
        self.succeed("embed", "text", "book.txt", "-o", "book.h5")
        found = contents(self.path("book.h5"))
        q, k = found["q"].astype(float), found["k"].astype(float)
        length = len(TOKEN.findall(PASSAGE.encode()))
        first, last = 40, len(q) - length + 40  # past the longest window, in both copies
        for head in range(4):
            scores = k[:, head] @ q[last, head] / 8
            scores[last - 8:] = -numpy.inf
            self.assertEqual(int(numpy.argmax(scores)), first, f"head {head}")

    def test_attributes_say_where_it_came_from(self):
        self.succeed("embed", "text", "book.txt", "-o", "book.h5", "--seed", "3")
        with h5py.File(self.path("book.h5")) as file:
            text = {name: str(numpy.asarray(value).astype(str)) for name, value in file.attrs.items()}
        self.assertEqual(text["document"], "book.txt")
        self.assertEqual(text["document_bytes"], str(len(self.text)))
        self.assertEqual(text["tokens"], str(len(TOKEN.findall(self.text))))
        self.assertEqual(text["seed"], "3")
        self.assertEqual(text["format_version"], "1")
        self.assertIn("sharpness", text)

    def test_more_ranks_than_bytes(self):
        with open(self.path("tiny.txt"), "wb") as file:
            file.write(b"a b")
        self.succeed("embed", "text", "tiny.txt", "-o", "tiny.h5", ranks=5)
        self.assertEqual(contents(self.path("tiny.h5"))["token_offsets"].tolist(), [0, 2])

    def test_one_long_word_over_all_ranks(self):
        with open(self.path("word.txt"), "wb") as file:
            file.write(b" " + b"x" * 100000 + b"\n")
        self.succeed("embed", "text", "word.txt", "-o", "word.h5", ranks=3)
        self.assertEqual(contents(self.path("word.h5"))["token_offsets"].tolist(), [1])


if __name__ == "__main__":
    harness.main()
