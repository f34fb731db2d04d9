"""longspan generate: the numbers, their types and shapes, and that no rank count changes them."""

import filecmp

import harness
import h5py
import numpy

SHAPE = ["--tokens", "1001", "--keys", "77", "--heads", "6", "--kv-heads", "2", "--dim", "7", "--value-dim", "5"]


def philox(counter, key):
    """Philox4x32-10 as printed in Salmon et al., SC 2011, section 3.3, for an array of counters [n, 4]."""
    word = [counter[:, i].astype(numpy.uint64) for i in range(4)]
    key = [numpy.uint64(k) for k in key]
    mask = numpy.uint64(0xFFFFFFFF)
    for _ in range(10):
        product0 = word[0] * numpy.uint64(0xD2511F53)
        product1 = word[2] * numpy.uint64(0xCD9E8D57)
        word = [(product1 >> numpy.uint64(32)) ^ word[1] ^ key[0], product1 & mask,
                (product0 >> numpy.uint64(32)) ^ word[3] ^ key[1], product0 & mask]
        key = [(key[0] + numpy.uint64(0x9E3779B9)) & mask, (key[1] + numpy.uint64(0xBB67AE85)) & mask]
    return numpy.stack(word, axis=1)


def normals(seed, tensor, count):
    """The generator of runtime/cli/random.h, written again."""
    blocks = (count + 3) // 4
    counter = numpy.zeros((blocks, 4), numpy.uint64)
    counter[:, 0] = numpy.arange(blocks)
    counter[:, 2] = tensor
    uniform = (philox(counter, (seed & 0xFFFFFFFF, seed >> 32)) + 0.5) / 2.0**32
    radius = numpy.sqrt(-2 * numpy.log(uniform[:, 0::2]))
    angle = 2 * numpy.pi * uniform[:, 1::2]
    return numpy.stack([radius * numpy.cos(angle), radius * numpy.sin(angle)], axis=2).ravel()[:count]


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][...] for name in file}


class Generate(harness.Case):
    def test_philox_of_the_test_gives_the_published_vectors(self):
        # Random123's known-answer tests: kat_vectors, philox4x32 10
        zeros = philox(numpy.zeros((1, 4)), (0, 0))[0]
        self.assertEqual([hex(w) for w in zeros], ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"])

    def test_numbers_are_those_of_the_generator(self):
        for seed in (1, 2**40 + 7):
            self.succeed("generate", "in.h5", *SHAPE, "--seed", seed, "--force")
            for tensor, values in zip((0, 1, 2), map(contents(self.path("in.h5")).get, "qkv")):
                expected = normals(seed, tensor, values.size).reshape(values.shape)
                numpy.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7, err_msg=f"seed {seed}")

    def test_no_rank_or_thread_count_changes_a_bit(self):
        for type_name in ("float32", "float16", "bfloat16"):
            self.succeed("generate", "1.h5", *SHAPE, "--type", type_name, "--force", ranks=1)
            expected = contents(self.path("1.h5"))
            for ranks, threads in ((2, 1), (3, 2), (5, 1)):
                self.succeed("generate", "p.h5", *SHAPE, "--type", type_name, "--threads", threads, "--force",
                             ranks=ranks)
                found = contents(self.path("p.h5"))
                self.assertEqual(found.keys(), expected.keys())
                for name in expected:
                    self.assertEqual(found[name].tobytes(), expected[name].tobytes(),
                                     f"/{name} as {type_name} on {ranks} ranks with {threads} threads")
                self.assertTrue(filecmp.cmp(self.path("1.h5"), self.path("p.h5"), shallow=False),
                                f"the files differ as {type_name} on {ranks} ranks with {threads} threads")

    def test_rounded_types_hold_the_rounded_numbers(self):
        self.succeed("generate", "32.h5", *SHAPE)
        exact = contents(self.path("32.h5"))["q"]
        for type_name, bound in (("float16", 2.0**-11), ("bfloat16", 2.0**-8)):
            self.succeed("generate", "16.h5", *SHAPE, "--type", type_name, "--force")
            rounded = contents(self.path("16.h5"))["q"].astype(numpy.float32)
            error = numpy.abs(rounded - exact) / numpy.maximum(numpy.abs(exact), 2.0**-14)
            self.assertGreater(error.max(), 0)
            self.assertLessEqual(error.max(), bound, type_name)

    def test_shapes_and_attributes_are_those_asked_for(self):
        self.succeed("generate", "in.h5", "--tokens", "1k", "--batch", "2", "--heads", "4", "--dim", "3", "--seed", "9")
        with h5py.File(self.path("in.h5")) as file:
            self.assertEqual(file["q"].shape, (2, 1024, 4, 3))
            self.assertEqual(file["k"].shape, (2, 1024, 4, 3))
            self.assertEqual(file["v"].dtype, numpy.float32)
            self.assertEqual(file.attrs["format_version"], 1)
            self.assertEqual(file.attrs["seed"], 9)
            self.assertRegex(str(numpy.asarray(file.attrs["program"]).astype(str)), r"^longspan \d")

    def test_values_of_heads_are_written_when_asked_for(self):
        found = []
        for ranks in (1, 3):
            self.succeed("generate", "in.h5", *SHAPE, "--alibi", "--sinks", "--force", ranks=ranks)
            with h5py.File(self.path("in.h5")) as file:
                self.assertEqual((file["alibi_slopes"].dtype, file["sinks"].dtype), ("f4", "f4"))
                self.assertEqual(file["sinks"].shape, (6,))
                found.append((file["alibi_slopes"][...], file["sinks"][...]))
        numpy.testing.assert_allclose(found[0][0], 2.0 ** (-8 * numpy.arange(1, 7) / 6), rtol=1e-6)
        numpy.testing.assert_allclose(found[0][1], normals(1, 3, 6), rtol=1e-5)
        numpy.testing.assert_array_equal(found[0], found[1])
        self.succeed("attend", "in.h5", "-o", "out.h5")
        self.succeed("generate", "plain.h5", *SHAPE)
        self.assertFalse({"alibi_slopes", "sinks"} & set(contents(self.path("plain.h5"))))

    def test_moments_are_those_of_a_standard_normal(self):
        self.succeed("generate", "in.h5", "--tokens", "8k", "--heads", "4", "--dim", "32")
        data = contents(self.path("in.h5"))
        for name, values in data.items():
            x = values.astype(numpy.float64).ravel()
            n = x.size
            self.assertLess(abs(x.mean()), 5 / n**0.5, name)
            self.assertLess(abs(x.var() - 1), 5 * (2 / n) ** 0.5, name)
            self.assertLess(abs((x**3).mean()), 5 * (15 / n) ** 0.5, name)
            self.assertLess(abs((x**4).mean() - 3), 5 * (96 / n) ** 0.5, name)
        q, k = data["q"].ravel(), data["k"].ravel()
        self.assertLess(abs(float(numpy.mean(q * k))), 5 / q.size**0.5, "q and k are correlated")

    def test_more_ranks_than_elements(self):
        self.succeed("generate", "in.h5", "--tokens", "1", "--heads", "1", "--dim", "2", ranks=5)
        self.assertEqual(contents(self.path("in.h5"))["q"].shape, (1, 1, 2))

    def test_output_replaced_only_with_force(self):
        self.succeed("generate", "in.h5", *SHAPE)
        before = contents(self.path("in.h5"))["q"]
        self.assert_refused(self.longspan("generate", "in.h5", *SHAPE, "--seed", 2), 4, "in.h5", "--force")
        self.assertTrue(numpy.array_equal(before, contents(self.path("in.h5"))["q"]))
        self.succeed("generate", "in.h5", *SHAPE, "--seed", 2, "--force")
        self.assertFalse(numpy.array_equal(before, contents(self.path("in.h5"))["q"]))

    def test_quiet_says_nothing(self):
        result = self.succeed("generate", "in.h5", *SHAPE, "--quiet")
        self.assertEqual((result.out, result.err), ("", ""))


if __name__ == "__main__":
    harness.main()
