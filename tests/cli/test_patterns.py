"""Sparse patterns of longspan attend: against numpy in float64 under an explicit mask, by longspan verify, and what plan says
of the keys that are needed."""
import json
import shutil

import harness
import h5py
import numpy
import oracle

N = 131
DOCUMENTS = [0, 7, 7, 50, 51, N]


def among(x, *runs):
    return numpy.logical_or.reduce([(x >= first) & (x <= last) for first, last in runs])


PATTERNS = {  # positions p of the query and j of the key, from the start of the document
    "sinks:3,20": lambda p, j: (j <= p) & ((j < 3) | (j >= p - 20)),
    "global:9,4,0,60-62": lambda p, j: ((j >= p - 9) & (j <= p + 4)) | among(j, (0, 0), (60, 62)) | among(p, (0, 0), (60, 62)),
    "dilated:5,6,2": lambda p, j: ((p - j) % 5 == 0) & (j >= p - 30) & (j <= p + 10),
    "strided:11": lambda p, j: (j <= p) & ((p - j <= 11) | ((p - j) % 11 == 0)),
    "fixed:16,3": lambda p, j: (j <= p) & ((j // 16 == p // 16) | (j % 16 >= 13)),
}
HEADS = 4


def longnet(*branches):
    def times(p, j):
        def kept(x, w, r, h):
            return (x >= 0) & (x % w % r == h % r)

        return numpy.stack([sum((p // w == j // w) & kept(p, w, r, h) & kept(j, w, r, h) + 0 for w, r in branches)
                            for h in range(HEADS)])
    return times


SUMS = {
    "global-twice:9,4,0,60-62": lambda p, j: numpy.where(among(p, (0, 0), (60, 62)), 1,
                                                         ((j >= p - 9) & (j <= p + 4)) + 1 * among(j, (0, 0), (60, 62))),
    "longnet:16,50,131/1,3,4": longnet((16, 1), (50, 3), (131, 4)),
    "longnet:40/6": longnet((40, 6)),
}
PATTERNS.update(SUMS)
ALONE = {"vertical-slash:0-2,70/0-9,40": lambda p, j: (j <= p) & (among(j, (0, 2), (70, 70)) | among(p - j, (0, 9), (40, 40)))}


class Patterns(harness.Case):
    def test_results_equal_float64_under_the_explicit_mask_and_pass_verify(self):
        inputs = {}
        for packed in (False, True):
            inputs[packed] = oracle.make_input(self.path(f"{packed}.h5"), N, heads=HEADS, kv_heads=2, dim=24, value_dim=8,
                                               documents=DOCUMENTS if packed else None)
        cases = [(text, mask, packed, ranks) for text in {**PATTERNS, **ALONE} for mask in ("full", "causal")
                 for packed in (False, True) for ranks in (1, 2, 3, 5) if not packed or text in PATTERNS
                 if text not in SUMS or (packed == (mask == "causal") and ranks in (2, 5))]

        def name(case):
            return "-".join(map(str, case)).replace("/", "_") + ".h5"

        def attend(case):
            text, mask, packed, ranks = case
            self.succeed("attend", f"{packed}.h5", "-o", name(case), "--quiet", "--mask", mask, "--pattern", text,
                         ranks=ranks)
            return self.longspan("verify", f"{packed}.h5", name(case), "--rows", "131", ranks=2)

        verified = harness.in_parallel(attend, cases)
        for case, verify in zip(cases, verified):
            text, mask, packed, ranks = case
            with self.subTest(case=case):
                rule = {**PATTERNS, **ALONE}[text]
                documents = DOCUMENTS if packed else None
                seen = oracle.visible(N, N, rule, documents) * oracle.visible(N, N, mask == "causal", documents)
                result = oracle.attention(*inputs[packed], seen)
                oracle.check(self, self.path(name(case)), result, "float32", str(case))
                self.assertEqual(oracle.read_result(self.path(name(case)))[2]["pattern"], text)
                self.assertEqual(verify.status, 0, str(verify))

    def test_a_list_of_blocks_comes_with_the_file(self):
        size, blocks = 10, 14
        arrays = oracle.make_input(self.path("in.h5"), N, heads=2, dim=16)
        listed = numpy.random.default_rng(3).random((blocks, blocks)) < 0.3
        listed[4] = False
        with h5py.File(self.path("in.h5"), "a") as file:
            file["block_offsets"] = numpy.concatenate([[0], numpy.cumsum(listed.sum(1))]).astype("i8")
            file["block_keys"] = numpy.nonzero(listed)[1].astype("i4")
        for ranks in (1, 3, 5):
            self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--pattern", f"blocks:{size}", ranks=ranks)
            of = numpy.arange(N) // size
            oracle.check(self, self.path("out.h5"), oracle.attention(*arrays, listed[of][:, of]), "float32", str(ranks))
            self.succeed("verify", "in.h5", "out.h5", "--rows", "131", ranks=2)
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "blocks:20"), 2, "blocks:20",
                            "number of blocks")
        for options in ((), ("--pattern", "sinks:1,4")):
            self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", *options), 4, "/block_offsets",
                                "without --pattern blocks:SIZE")
        with h5py.File(self.path("in.h5"), "a") as file:
            file["block_keys"][0] = 99
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "blocks:10"), 2, "blocks:10",
                            "not there")
        with h5py.File(self.path("in.h5"), "a") as file:
            del file["block_offsets"]
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5"), 4, "/block_offsets and /block_keys")

    def test_a_list_of_blocks_for_each_head_comes_with_the_file(self):
        size, blocks = 10, 14
        arrays = oracle.make_input(self.path("in.h5"), N, heads=HEADS, kv_heads=4, dim=16)
        listed = numpy.random.default_rng(4).random((HEADS, blocks, blocks)) < 0.3
        listed[1, 4] = False
        listed[3] = listed[2]
        offsets = numpy.concatenate([[0], numpy.cumsum(listed.sum(2).ravel())])
        with h5py.File(self.path("in.h5"), "a") as file:
            file["block_offsets"] = offsets[numpy.arange(HEADS)[:, None] * blocks + numpy.arange(blocks + 1)]
            file["block_keys"] = numpy.nonzero(listed)[2].astype("i4")
        self.assertRegex(self.succeed("info", "in.h5", ranks=1).out, "lists of blocks for each head")
        of = numpy.arange(N) // size
        seen = listed[:, of][:, :, of]
        for ranks in (2, 5):
            self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--pattern", f"blocks:{size}", ranks=ranks)
            oracle.check(self, self.path("out.h5"), oracle.attention(*arrays, seen), "float32", str(ranks))
            self.succeed("verify", "in.h5", "out.h5", "--rows", "131", ranks=2)
        with h5py.File(self.path("in.h5"), "a") as file:
            last = file["block_offsets"][3]
            file["block_offsets"][3] = numpy.minimum(last, last[5])
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "blocks:10"), 4, "/block_offsets")
        with h5py.File(self.path("in.h5"), "a") as file:
            values = file["block_offsets"][:3]
            del file["block_offsets"]
            file["block_offsets"] = values
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "blocks:10"), 4, "/block_offsets",
                            "the heads of /q")

    def test_what_is_drawn_is_the_same_at_every_rank_count_and_passes_verify(self):
        oracle.make_input(self.path("in.h5"), N, heads=2, dim=16)
        for pattern in ("bigbird:8,2,7", "random:8,30,7"):
            results = []
            for ranks in (1, 2, 5):
                self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--pattern", pattern, ranks=ranks)
                self.succeed("verify", "in.h5", "out.h5", "--rows", "131", ranks=1)
                results.append(oracle.read_result(self.path("out.h5"))[0])
            for result in results[1:]:
                self.assertLess(numpy.abs(result - results[0]).max(), 1e-5)

    def test_verify_notices_another_pattern_than_was_computed(self):
        oracle.make_input(self.path("in.h5"), N)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--pattern", "sinks:2,20")
        for text in ("sinks:2,21", "sinks:3,20", "dilated:1,20"):
            shutil.copy(self.path("out.h5"), self.path("other.h5"))
            with h5py.File(self.path("other.h5"), "a") as file:
                file.attrs["pattern"] = text
            self.assertEqual(self.longspan("verify", "in.h5", "other.h5", "--rows", "131", ranks=1).status, 3, text)
        for text, other in (("longnet:16,131/1,2", "longnet:16,131/1,1"), ("longnet:16,16/1,1", "longnet:16/1"),
                            ("global-twice:9,9,5", "global:9,9,5")):
            self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--pattern", text)
            with h5py.File(self.path("out.h5"), "a") as file:
                file.attrs["pattern"] = other
            self.assertEqual(self.longspan("verify", "in.h5", "out.h5", "--rows", "131", ranks=1).status, 3, text)
        with h5py.File(self.path("other.h5"), "a") as file:
            file.attrs["pattern"] = "unheard:1"
        self.assert_refused(self.longspan("verify", "in.h5", "other.h5"), 4, "the attribute pattern is 'unheard:1'")

    def test_plan_says_which_keys_are_needed(self):
        shape = ("--tokens", "64k", "--heads", "8", "--kv-heads", "2", "--dim", "64", "--ranks", "16")
        result = self.succeed("plan", *shape, "--pattern", "sinks:4,1000", "--report", "r.json", ranks=1)
        self.assertRegex(result.out, r"strategy fetch \(auto\), layout contiguous \(auto\)")
        self.assertRegex(result.out, r"pattern  sinks:4,1000\n.*needs.*MiB.*saved")
        with open(self.path("r.json"), encoding="utf-8") as file:
            report = json.load(file)
        row = 2 * (64 + 64) * 4
        self.assertEqual(report["problem"]["pattern"], "sinks:4,1000")
        self.assertAlmostEqual(report["keys_elsewhere"]["bytes_of_all"], 65536 * row * 15 / 16)
        # Rank 1 has the sinks in rank 0's shard, whose end it needs too; rank 0 needs nothing.
        self.assertAlmostEqual(report["keys_elsewhere"]["bytes_needed"], (15 * 1000 + 15 * 4) * row / 16)

        # A global query of rank 0 goes to the keys of 15 ranks; their halos and the global key are fetched.
        self.succeed("plan", *shape, "--pattern", "global:1000,1000,100", "--report", "r.json", "--force", ranks=1)
        with open(self.path("r.json"), encoding="utf-8") as file:
            report = json.load(file)
        visit = 8 * (64 + 64 + 2) * 4
        self.assertAlmostEqual(report["keys_elsewhere"]["bytes_needed"], ((30 * 1000 + 15) * row + 15 * visit) / 16)

    def test_plan_takes_the_ring_where_what_all_need_does_not_fit(self):
        shape = ("--tokens", "64k", "--heads", "8", "--kv-heads", "2", "--dim", "64", "--ranks", "16", "--node-ranks", "1",
                 "--pattern", "strided:256")
        for memory, name in (("4G", "fetch"), ("60M", "fetch-ring")):
            result = self.succeed("plan", *shape, "--memory", memory, "--report", "r.json", "--force", ranks=1)
            self.assertRegex(result.out, rf"strategy {name} \(auto\)")
        with open(self.path("r.json"), encoding="utf-8") as file:
            by_name = {one["strategy"]: one for one in json.load(file)["ranking"]}
        self.assertEqual(by_name["fetch"]["bytes_sent"], by_name["fetch-ring"]["bytes_sent"])
        # The last rank holds the keys of 15 others, or of 2.
        self.assertEqual(by_name["fetch"]["memory_bytes"] - by_name["fetch-ring"]["memory_bytes"],
                         13 * 4096 * 2 * 2 * 64 * 4)

    def test_what_does_not_go_together_is_refused_naming_both(self):
        oracle.make_input(self.path("in.h5"), N, documents=DOCUMENTS)
        refusals = [(("--pattern", "sinks:1,4", "--strategy", "ring"), 2, ("strategy 'ring'", "pattern")),
                    (("--pattern", "sinks:1,4", "--layout", "zigzag"), 2, ("pattern", "contiguous")),
                    (("--strategy", "fetch"), 2, ("fetch", "pattern")),
                    (("--pattern", "bigbird:8,1"), 2, ("bigbird", "documents")),
                    (("--pattern", "blocks:8"), 2, ("blocks:8", "no list")),
                    (("--pattern", "sinks:1"), 2, ("--pattern", "sinks:COUNT,LEFT")),
                    (("--pattern", "longnet:8,16/1"), 2, ("--pattern", "as many steps as segments")),
                    (("--pattern", "longnet:8/1", "--strategy", "gather"), 2, ("strategy 'gather'", "pattern")),
                    (("--pattern", "unheard:1"), 2, ("--pattern", "unheard:1", "there are sinks"))]
        for options, status, texts in refusals:
            self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", *options), status, *texts)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--pattern", "sinks:1,4")
        self.succeed("map", "out.h5", "-o", "o.svg")


if __name__ == "__main__":
    harness.main()
