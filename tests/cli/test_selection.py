"""Blocks of keys that each query selects, in longspan attend: against numpy in float64 under an explicit mask of every head,
by longspan verify, and what is refused."""
import json
import shutil

import harness
import h5py
import numpy
import oracle

N, HEADS, KV_HEADS = 131, 4, 2


def draw_lists(lists, blocks, most, seed=3):
    """[N, lists, most]: ascending blocks and -1; some queries have none."""
    random = numpy.random.default_rng(seed)
    result = numpy.full((N, lists, most), -1)
    for row in result.reshape(-1, most):
        count = random.integers(0, min(most, blocks) + 1)
        row[:count] = numpy.sort(random.choice(blocks, count, replace=False))
    return result


def seen_of(selected, size, heads=HEADS, tokens=N):
    """[H, N, M]: does a head of a query see a key?"""
    blocks = numpy.arange(tokens) // size
    seen = (selected[:, :, :, None] == blocks).any(2).transpose(1, 0, 2)
    return numpy.repeat(seen, heads // seen.shape[0], 0)


class Selected(harness.Case):
    def test_results_equal_float64_under_the_explicit_mask_and_pass_verify(self):
        arrays, wanted = {}, {}
        for lists, size in ((1, 10), (KV_HEADS, 1), (HEADS, 32)):
            name = f"{lists}-{size}.h5"
            arrays[name] = oracle.make_input(self.path(name), N, heads=HEADS, kv_heads=KV_HEADS, dim=24, value_dim=8)
            selected = draw_lists(lists, -(-N // size), 5)
            wanted[name] = seen_of(selected, size)
            with h5py.File(self.path(name), "a") as file:
                file["selected_blocks"] = selected.astype("i4" if size == 32 else "i8")
        cases = [(name, mask, ranks) for name in arrays for mask, ranks in (("causal", 3), ("full", 5))]

        def attend(case):
            name, mask, ranks = case
            out, size = f"{mask}-{ranks}-{name}", name[2:-3]
            self.succeed("attend", name, "-o", out, "--quiet", "--mask", mask, "--pattern", f"selected:{size}", ranks=ranks)
            return self.longspan("verify", name, out, "--rows", "131", ranks=2)

        for case, verify in zip(cases, harness.in_parallel(attend, cases)):
            name, mask, ranks = case
            with self.subTest(case=case):
                seen = wanted[name] & oracle.visible(N, N, mask == "causal")
                result = oracle.attention(*arrays[name], seen)
                oracle.check(self, self.path(f"{mask}-{ranks}-{name}"), result, "float32", str(case))
                self.assertEqual(verify.status, 0, str(verify))

        with h5py.File(self.path("causal-3-4-32.h5"), "a") as file:
            file["out"][130, 3] += 0.01
        self.assertEqual(self.longspan("verify", "4-32.h5", "causal-3-4-32.h5", "--rows", "131").status, 3)

    def test_moba_chooses_the_blocks_of_the_best_mean_keys(self):
        size, most = 16, 3
        q, k, v = oracle.make_input(self.path("in.h5"), N, heads=HEADS, kv_heads=KV_HEADS, dim=24)
        means = numpy.stack([k[0, b * size:(b + 1) * size].mean(0) for b in range(-(-N // size))])
        scores = numpy.einsum("ihd,bhd->ihb", q[0], numpy.repeat(means, HEADS // KV_HEADS, 1))
        own = numpy.arange(N)[:, None, None] // size
        blocks = numpy.arange(scores.shape[2])
        scores = numpy.where(blocks < own, scores, numpy.where(blocks == own, numpy.inf, -numpy.inf))
        best = numpy.argsort(-scores, 2, kind="stable")[:, :, :most]
        chosen = numpy.where(numpy.isneginf(numpy.take_along_axis(scores, best, 2)), 99, best)
        chosen = numpy.sort(chosen, 2)
        chosen[chosen == 99] = -1
        seen = seen_of(chosen, size) & oracle.visible(N, N, True)

        def attend(ranks):
            out = f"{ranks}.h5" if ranks > 1 else "out.h5"
            run = self.succeed("attend", "in.h5", "-o", out, "--mask", "causal", "--pattern", f"moba:{size},{most}",
                               ranks=ranks)
            self.assertIn("select", run.err)
            oracle.check(self, self.path(out), oracle.attention(q, k, v, seen), "float32", str(ranks))
            with h5py.File(self.path(out)) as file:
                self.assertTrue(numpy.array_equal(file["selected_blocks"][...], chosen))
            self.succeed("verify", "in.h5", out, "--rows", "131", ranks=2)

        harness.in_parallel(attend, (1, 5))
        for row, message in (((0, 1, -1), "1 of 524"), ((1, 2, 8), "1 of 524"), ((0, 1, 7), "1 of 524")):
            with h5py.File(self.path("out.h5"), "a") as file:
                if tuple(file["selected_blocks"][130, 2]) == row:
                    continue
                file["selected_blocks"][130, 2] = row
            result = self.longspan("verify", "in.h5", "out.h5", "--rows", "131")
            self.assertEqual(result.status, 3, str(result))
            self.assertIn(message + " lists of blocks are not those of the best scores", result.out)
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "moba:16,3"), 2, "'moba'", "causal")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "moba:16,3", "--mask",
                                          "causal+window:40"), 2, "'moba'", "window")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "moba:16,3", "--mask", "causal",
                                          "--rope", "10000"), 2, "'moba'", "RoPE")

    def test_nsa_adds_pooled_keys_selected_blocks_and_a_window(self):
        length, stride, block, top, window = 8, 4, 16, 4, 20
        q, k, v = oracle.make_input(self.path("in.h5"), N, heads=HEADS, kv_heads=KV_HEADS, dim=24, value_dim=8)
        gates = numpy.random.default_rng(5).random((N, HEADS, 3)).astype("f4")
        pattern = ("--pattern", f"nsa:{length},{stride},{block},{top},{window}", "--mask", "causal")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", *pattern), 4, "no dataset /gates")
        with h5py.File(self.path("in.h5"), "a") as file:
            file["gates"] = gates
        p = numpy.arange(N)
        starts = numpy.arange(0, N - length + 1, stride)
        pooled_k, pooled_v = (numpy.stack([x[0, c:c + length].mean(0) for c in starts])[None] for x in (k, v))
        complete = starts + length - 1 <= p[:, None]
        # Aligned at the right: numpy's query positions do not matter, `complete` says what is seen.
        first = oracle.attention(q, pooled_k, pooled_v, complete)[0]
        scores = numpy.einsum("ihd,chd->ihc", q[0], numpy.repeat(pooled_k[0], HEADS // KV_HEADS, 1)) * 24**-0.5
        scores = numpy.where(complete[:, None], scores, -numpy.inf)
        with numpy.errstate(invalid="ignore"):
            weights = numpy.exp(scores - scores.max(2, keepdims=True))
            weights = numpy.nan_to_num(weights / weights.sum(2, keepdims=True))
        blocks = numpy.arange(-(-N // block))
        begin, end = numpy.maximum(starts[:, None], blocks * block), numpy.minimum(starts[:, None] + length, (blocks + 1) * block)
        shared = numpy.maximum(end - begin, 0) // stride
        weight = (weights @ shared).reshape(N, KV_HEADS, HEADS // KV_HEADS, -1).sum(2)
        own = (p // block)[:, None, None]
        weight = numpy.where((blocks == 0) | (blocks == own) | (blocks == own - 1), numpy.inf, weight)
        weight = numpy.where(blocks <= own, weight, -numpy.inf)
        best = numpy.argsort(-weight, 2, kind="stable")[:, :, :top]
        chosen = numpy.sort(numpy.where(numpy.isneginf(numpy.take_along_axis(weight, best, 2)), 99, best), 2)
        chosen[chosen == 99] = -1
        causal = oracle.visible(N, N, True)
        second = oracle.attention(q, k, v, seen_of(chosen, block) & causal)[0]
        third = oracle.attention(q, k, v, causal & (p[None, :] > p[:, None] - window))[0]
        exact = sum(gates[None, :, :, i, None].astype("f8") * x for i, x in enumerate((first, second, third)))

        def attend(ranks):
            out = f"{ranks}.h5" if ranks > 1 else "out.h5"
            run = self.succeed("attend", "in.h5", "-o", out, *pattern, "--report", f"{ranks}.json", ranks=ranks)
            self.assertIn("select", run.err)
            with h5py.File(self.path(out)) as file:
                self.assertTrue(numpy.array_equal(file["selected_blocks"][...], chosen))
                self.assertNotIn("lse", file)
                self.assertLess(oracle.relative_rms(file["out"][...][None], exact), 1e-6)
            self.assertIn("PASSED", self.succeed("verify", "in.h5", out, "--rows", "131", ranks=2).out)
            with open(self.path(f"{ranks}.json")) as file:
                self.assertGreater(json.load(file)["select"]["max"], 0)

        harness.in_parallel(attend, (1, 3))
        self.assert_refused(self.longspan("map", "out.h5", "-o", "map.svg"), 2, "nsa", "softmax|lse")
        for name, at in (("out", (100, 1, 2)), ("selected_blocks", (130, 1, 1))):
            shutil.copy(self.path("out.h5"), self.path("bad.h5"))
            with h5py.File(self.path("bad.h5"), "a") as file:
                left = [b for b in range(1, 7) if b not in chosen[130, 1]]
                file[name][at] = file[name][at] + 1e-3 if name == "out" else sorted(left)[0]
                if name == "selected_blocks":
                    row = file[name][130, 1]
                    file[name][130, 1] = numpy.sort(row)
            self.assertEqual(self.longspan("verify", "in.h5", "bad.h5", "--rows", "131", ranks=3).status, 3)
        for options in (("--mask", "causal"), ("--mask", "causal", "--pattern", "moba:16,2")):
            self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", *options), 4, "/gates", "--pattern nsa")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", *pattern[:2]), 2, "'nsa'", "causal")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", *pattern, "--softcap", "3"), 2, "'nsa'", "softcap")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", "--pattern", "nsa:8,3,16,4,9"), 2, "nsa:8,3",
                            "STRIDE")
        with h5py.File(self.path("in.h5"), "a") as file:
            del file["gates"]
            file["gates"] = gates[:, :, :2]
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "o.h5", *pattern), 4, "/gates needs 131 x 4 x 3")

    def test_what_does_not_go_together_is_refused(self):
        oracle.make_input(self.path("in.h5"), N, heads=HEADS, kv_heads=KV_HEADS)
        oracle.make_input(self.path("batch.h5"), N, heads=HEADS, kv_heads=KV_HEADS, batch=2)
        good = draw_lists(HEADS, 14, 5)

        def attend_with(lists, *options, path="in.h5"):
            with h5py.File(self.path(path), "a") as file:
                if "selected_blocks" in file:
                    del file["selected_blocks"]
                if lists is not None:
                    file["selected_blocks"] = lists
            return self.longspan("attend", path, "-o", "o.h5", *(options or ("--pattern", "selected:10")), ranks=2)

        def with_last(*values):
            lists = good.copy()
            lists[-1, -1] = values
            return lists

        refused = self.assert_refused
        refused(attend_with(None), 4, "no dataset /selected_blocks")
        refused(attend_with(good[:-1]), 4, "/selected_blocks is .130, 4, 5.", "131")
        refused(attend_with(good[:, 0]), 4, "/selected_blocks is .131, 5.")
        refused(attend_with(good.astype("f4")), 4, "/selected_blocks", "integer")
        refused(attend_with(good[:, :3]), 2, "3 lists", "heads 4")
        refused(attend_with(with_last(0, 3, 3, -1, -1)), 2, "block 3 of query 130", "ascend")
        refused(attend_with(with_last(0, 14, -1, -1, -1)), 2, "block 14 of query 130", "no such block")
        refused(attend_with(with_last(0, 1 << 40, -1, -1, -1)), 2, "query 130", "no such block")
        refused(attend_with(with_last(-1, 1, -1, -1, -1)), 2, "query 130", "-1 stands before it")
        refused(attend_with(good, "--mask", "full"), 4, "/selected_blocks", "without --pattern selected:SIZE")
        refused(attend_with(good, "--pattern", "selected:10", "--strategy", "ring"), 2, "'ring'", "'selected'")
        refused(attend_with(good, "--pattern", "selected:10", "--layout", "zigzag"), 2, "'zigzag'", "'selected'")
        refused(attend_with(good, "--pattern", "selected:0"), 2, "selected:0")
        refused(attend_with(good, path="batch.h5"), 2, "'selected'", "batch 2")
        refused(self.longspan("plan", "--tokens", "1k", "--ranks", "2", "--pattern", "selected:64", ranks=1), 2,
                "selected:64", "selection")

    def test_bench_times_the_blocks_that_moba_chooses(self):
        tokens, block, top, heads, dim = 1000, 64, 3, 4, 32
        self.succeed("bench", "attention", "--tokens", str(tokens), "--heads", str(heads), "--kv-heads", "2", "--dim", str(dim),
                     "--mask", "causal", "--pattern", f"moba:{block},{top}", "--repeat", "1", "--report", "r.json", ranks=3)
        with open(self.path("r.json"), encoding="utf-8") as file:
            report = json.load(file)
        pairs = sum(token % block + 1 + block * min(top - 1, token // block) for token in range(tokens))
        self.assertEqual((report["problem"]["pattern"], report["plan"]["strategy"]), (f"moba:{block},{top}", "fetch"))
        self.assertAlmostEqual(report["gflops"] * report["median_wall"] / (pairs * heads * 4 * dim * 1e-9), 1, 6)
        for pattern in ("selected:64", "nsa:32,16,64,4,128"):
            refused = self.longspan("bench", "attention", "--tokens", "1k", "--mask", "causal", "--pattern", pattern, ranks=2)
            self.assert_refused(refused, 2, pattern, "selection")


if __name__ == "__main__":
    harness.main()
