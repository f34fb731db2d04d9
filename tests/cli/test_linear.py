"""The linear family on the command line: against numpy in float64, and what is refused."""
import json

import harness
import h5py
import linear_oracle
import numpy
import oracle

RANKS = (1, 2, 3)
DOCUMENTS = [0, 5, 5, 130, 131, 300]
USAGE, VERIFY, FILE = 2, 3, 4


def read(path, name="out"):
    with h5py.File(path) as file:
        values = file[name][...].astype("f8")
    return values


class Linear(harness.Case):
    def compare(self, name, exact, context="", kind="float32"):
        out = read(self.path(name))
        out = out if out.ndim == 4 else out[None]
        self.assertEqual(out.shape, exact.shape, context)
        over = numpy.maximum(numpy.abs(out - exact) - oracle.ROUNDOFF[kind] * numpy.abs(exact), 0)
        self.assertLess(oracle.relative_rms(exact + over, exact), 1e-5, context)

    def attend(self, variant, source, target, *options, ranks=2):
        self.succeed("attend", source, "-o", target, "--attention", variant, "--quiet", *options, ranks=ranks)

    def test_result_equals_float64_for_every_variant_and_rank_count(self):
        made = {variant: linear_oracle.make_input(self.path(f"{variant}.h5"), variant, 300)
                for variant in linear_oracle.VARIANTS}
        cases = [(variant, ranks) for variant in linear_oracle.VARIANTS for ranks in RANKS]
        harness.in_parallel(lambda case: self.attend(case[0], f"{case[0]}.h5", f"{case[0]}-{case[1]}-out.h5",
                                                     ranks=case[1]), cases)
        for variant in linear_oracle.VARIANTS:
            exact = linear_oracle.attention(variant, made[variant])
            for ranks in RANKS:
                with self.subTest(variant=variant, ranks=ranks):
                    self.compare(f"{variant}-{ranks}-out.h5", exact)
                    with h5py.File(self.path(f"{variant}-{ranks}-out.h5")) as file:
                        self.assertEqual((file.attrs["attention"], file.attrs["mask"]), (variant, "causal"))
                        self.assertNotIn("lse", file)

    def test_documents_batches_and_strategies(self):
        cases = [("gated-delta", "chain"), ("kda", "gather"), ("gla", "scan"), ("favor", "chain"), ("taylor", "gather"),
                 ("rwkv6", "scan")]

        def attend(case):
            variant, strategy = case
            made = linear_oracle.make_input(self.path(f"{variant}.h5"), variant, 300, heads=(1, 3, 3), batch=2,
                                            documents=DOCUMENTS)
            self.attend(variant, f"{variant}.h5", f"{variant}-out.h5", "--strategy", strategy, ranks=3)
            return made

        for (variant, strategy), made in zip(cases, harness.in_parallel(attend, cases)):
            with self.subTest(variant=variant, strategy=strategy):
                self.compare(f"{variant}-out.h5", linear_oracle.attention(variant, made, documents=DOCUMENTS))
                with h5py.File(self.path(f"{variant}-out.h5")) as file:
                    self.assertEqual((file.attrs["strategy"], file.attrs["mask"]), (strategy, "causal+documents"))

    def test_both_ways(self):
        cases = [(variant, packed) for variant in linear_oracle.TWO_SIDED for packed in (False, True)]

        def attend(case):
            variant, packed = case
            made = linear_oracle.make_input(self.path(f"{variant}-{packed}.h5"), variant, 300,
                                            documents=DOCUMENTS if packed else None)
            self.attend(variant, f"{variant}-{packed}.h5", f"{variant}-{packed}-out.h5", "--mask", "full", ranks=3)
            return made

        for (variant, packed), made in zip(cases, harness.in_parallel(attend, cases)):
            with self.subTest(variant=variant, packed=packed):
                exact = linear_oracle.attention(variant, made, False, DOCUMENTS if packed else None)
                self.compare(f"{variant}-{packed}-out.h5", exact)

    def test_a_stream_that_is_resumed_equals_one_run(self):
        cut = 137

        def attend(variant):
            whole, first, second = (self.path(f"{variant}-{part}.h5") for part in ("whole", "first", "second"))
            made = linear_oracle.make_input(whole, variant, 300)
            for path, rows in ((first, slice(0, cut)), (second, slice(cut, 300))):
                with h5py.File(whole) as source, h5py.File(path, "w") as target:
                    for name in source:
                        per_token = len(source[name]) == 300
                        target[name] = source[name][rows] if per_token else source[name][...]
            self.attend(variant, first, f"{variant}-1.h5", "--state", ranks=2)
            with h5py.File(self.path(f"{variant}-1.h5")) as done, h5py.File(second, "r+") as target:
                for name in ("state", "state_reference"):
                    if name in done:
                        target[name] = done[name][...]
            self.attend(variant, second, f"{variant}-2.h5", "--state", ranks=3)
            verified = self.succeed("verify", second, f"{variant}-2.h5", ranks=2)
            self.attend(variant, whole, f"{variant}-all.h5", "--state", ranks=1)
            return made, verified

        variants = ("elu", "favor", "efficient", "retention", "rwkv6", "kda")
        for variant, (made, verified) in zip(variants, harness.in_parallel(attend, variants)):
            with self.subTest(variant=variant):
                exact = linear_oracle.attention(variant, made)
                out = numpy.concatenate([read(self.path(f"{variant}-{i}.h5")) for i in (1, 2)])
                self.assertLess(oracle.relative_rms(out[None], exact), 1e-5)
                self.assertIn("PASSED", verified.out)
                with h5py.File(self.path(f"{variant}-2.h5")) as file:
                    self.assertEqual(file["state"].dtype, "f8")
                    self.assertEqual(file.attrs["initial_state"], 1)
                parts, whole = (read(self.path(f"{variant}-{i}.h5"), "state") for i in (2, "all"))
                if variant not in ("favor", "efficient"):  # whose states are counted from references of their own
                    self.assertLess(oracle.relative_rms(parts, whole), 1e-5)

    def test_types_scale_and_group_heads(self):
        cases = [("delta", "bfloat16", None, None), ("gla", "float16", "float32", 0.125), ("ssd", "float32", "bfloat16", 2),
                 ("elu", "float32", None, 2), ("efficient", "float32", None, 0.5), ("based", "float32", None, 0.2)]
        for variant, kind, out_kind, scale in cases:
            made = linear_oracle.make_input(self.path("in.h5"), variant, 90, heads=(2, 2, 6), kind=kind)
            options = ["--out-type", out_kind] if out_kind else []
            self.attend(variant, "in.h5", "out.h5", "--force", *options, *(["--scale", scale] if scale else []))
            exact = linear_oracle.attention(variant, made, scale=scale)
            self.compare("out.h5", exact, f"{variant} {kind}", out_kind or kind)
            self.assertIn("PASSED", self.succeed("verify", "in.h5", "out.h5").out)

    def test_generated_inputs_are_the_same_at_any_rank_count_and_verify(self):
        def run(variant):
            for ranks in (1, 3):
                self.succeed("generate", f"{variant}-{ranks}.h5", "--attention", variant, "--tokens", "200", "--heads", "4",
                             "--kv-heads", "2", "--value-heads", "4", "--dim", "8", "--quiet", ranks=ranks)
            self.attend(variant, f"{variant}-1.h5", f"{variant}-out.h5")
            return self.succeed("verify", f"{variant}-1.h5", f"{variant}-out.h5")

        variants = ("favor", "lightning", "ssd", "rwkv6", "gated-delta")
        for variant, verified in zip(variants, harness.in_parallel(run, variants)):
            with self.subTest(variant=variant):
                self.assertIn("PASSED", verified.out)
                with h5py.File(self.path(f"{variant}-1.h5")) as one, h5py.File(self.path(f"{variant}-3.h5")) as three:
                    self.assertEqual(set(one), set(three))
                    for name in one:
                        self.assertTrue(numpy.array_equal(one[name][...], three[name][...]), name)
                    if variant in linear_oracle.DELTA:
                        lengths = numpy.linalg.norm(one["k"][...], axis=-1)
                        self.assertLess(numpy.abs(lengths - 1).max(), 1e-6)
                        self.assertTrue(((one["beta"][...] > 0) & (one["beta"][...] < 1)).all())
                    if variant == "favor":
                        products = one["features"][...] @ one["features"][...].T
                        self.assertLess(numpy.abs(products - numpy.diag(numpy.diag(products))).max(), 1e-4)

    def test_verify_finds_one_wrong_value(self):
        self.succeed("generate", "in.h5", "--attention", "gated-delta", "--tokens", "3000", "--heads", "2", "--dim", "8",
                     "--value-dim", "2", "--quiet")
        self.attend("gated-delta", "in.h5", "out.h5")
        self.assertIn("PASSED", self.succeed("verify", "in.h5", "out.h5").out)
        with h5py.File(self.path("out.h5"), "r+") as file:
            file["out"][1234, 1, 0] += 0.02
        found = self.longspan("verify", "in.h5", "out.h5", ranks=2)
        self.assertEqual(found.status, VERIFY, str(found))
        self.assertRegex(found.out, r"FAILED(.|\n)*head 1(.|\n)*token 1234")
        with h5py.File(self.path("out.h5"), "r+") as file:
            file["out"][1234, 1, 0] = numpy.nan
        self.assertEqual(self.longspan("verify", "in.h5", "out.h5").status, VERIFY)

    def test_verify_allows_for_products_that_cancel(self):
        for variant in ("retention", "gla", "rwkv6", "delta"):
            made = linear_oracle.make_input(self.path("in.h5"), variant, 1, heads=(1, 1, 1), dim=256)
            q, k = made["q"][0, 0, 0], made["k"][0, 0, 0]
            if variant == "rwkv6":
                k = k * made["bonus"][0]
            with h5py.File(self.path("in.h5"), "r+") as file:
                file["q"][0, 0] = q - (q @ k / (k @ k)) * k
            self.attend(variant, "in.h5", "out.h5", "--force", ranks=1)
            with self.subTest(variant=variant):
                self.assertIn("PASSED", self.succeed("verify", "in.h5", "out.h5", ranks=1).out)

    def test_options_without_a_meaning_are_refused_by_both_names(self):
        linear_oracle.make_input(self.path("gla.h5"), "gla", 20)
        linear_oracle.make_input(self.path("elu.h5"), "elu", 20)
        cases = [("gla", ("--pattern", "sinks:1,2"), "--pattern .*gla"), ("gla", ("--softcap", "3"), "--softcap .*gla"),
                 ("gla", ("--rope", "100"), "--rope .*gla"),
                 ("gla", ("--mask", "window:4"), "window:4.*gla takes full or causal"),
                 ("gla", ("--mask", "full"), "--mask full.*gla is causal.*elu"),
                 ("gla", ("--strategy", "ring"), "--strategy ring .*gla.*chain"),
                 ("gla", ("--layout", "zigzag"), "--layout zigzag.*gla"),
                 ("gla", ("--compute", "bf16"), "--compute bf16.*gla"),
                 ("softmax", ("--state",), "--state .*softmax"),
                 ("softmax", ("--strategy", "chain"), "--strategy chain .*softmax"),
                 ("elu", ("--mask", "full", "--state"), "--state .*--mask full"),
                 ("elu", ("--mask", "full", "--strategy", "chain"), "chain.*elu"),
                 ("taylor", ("--scale", "2"), "scale 2.*taylor"),
                 ("transformer", (), "'transformer' is not available.*softmax, sparsemax, entmax.*elu.*kda")]
        results = harness.in_parallel(lambda case: self.longspan(
            "attend", f"{'gla' if case[0] == 'gla' else 'elu'}.h5", "-o", "out.h5", "--attention", case[0], *case[1]), cases)
        for case, result in zip(cases, results):
            with self.subTest(case=case):
                self.assert_refused(result, USAGE, case[2])

    def test_files_that_do_not_fit_are_refused_with_dataset_and_variant(self):
        def spoil(name, variant, dataset, values):
            linear_oracle.make_input(self.path(name), variant, 20)
            with h5py.File(self.path(name), "r+") as file:
                if dataset in file:
                    del file[dataset]
                if values is not None:
                    file[dataset] = values

        ones = lambda *shape, kind="f4": numpy.ones(shape, kind)  # noqa: E731
        cases = [("gla", "log_decay", None, r"no dataset /log_decay; --attention gla needs it: float32 \[20, 4, 8\]"),
                 ("gla", "log_decay", ones(20, 4), r"/log_decay is float32 \[20, 4\]; --attention gla needs float32 \[20, 4, 8\]"),
                 ("ssd", "log_decay", ones(20, 4, kind="f8"), r"/log_decay is float64 \[20, 4\].*ssd"),
                 ("delta", "beta", ones(20, 2), r"/beta is float32 \[20, 2\]; --attention delta needs float32 \[20, 4\]"),
                 ("rwkv6", "bonus", ones(8), r"/bonus is float32 \[8\].*rwkv6 needs float32 \[4, 8\]"),
                 ("favor", "features", ones(12, 7), r"/features .*favor"),
                 ("elu", "log_decay", ones(20, 4), r"/log_decay has no meaning for --attention elu, only for lightning"),
                 ("gla", "beta", ones(20, 4), r"/beta has no meaning for --attention gla, only for ssd, delta"),
                 ("gla", "sinks", ones(4), r"/sinks has no meaning for --attention gla"),
                 ("gla", "block_offsets", ones(2, kind="i4"), r"/block_offsets has no meaning for --attention gla"),
                 ("gla", "key_lengths", ones(1, kind="i4"), r"/key_lengths has no meaning for --attention gla"),
                 ("gla", "state", ones(4, 8, 4, kind="f8"), r"/state is float64 \[4, 8, 4\]; .*gla needs float64 \[4, 8, 5\]"),
                 ("softmax", "beta", ones(20, 4), r"/beta has no meaning for softmax attention"),
                 ("retention", "k", ones(20, 3, 8), r"4, 3 and 4 heads; each must divide")]
        for i, case in enumerate(cases):
            spoil(f"{i}.h5", "elu" if case[0] == "softmax" else case[0], case[1], case[2])
        results = harness.in_parallel(
            lambda i: self.longspan("attend", f"{i}.h5", "-o", "out.h5", "--attention", cases[i][0], ranks=2),
            range(len(cases)))
        for case, result in zip(cases, results):
            with self.subTest(case=case[0], dataset=case[1]):
                self.assert_refused(result, FILE, case[3])

    def test_plan_ranks_the_strategies_without_running(self):
        self.succeed("plan", "--tokens", "1M", "--heads", "32", "--dim", "128", "--attention", "gated-delta", "--ranks",
                     "16", "--report", "plan.json", ranks=1)
        with open(self.path("plan.json"), encoding="utf-8") as file:
            plan = json.load(file)
        self.assertEqual({way["strategy"] for way in plan["ranking"]}, {"chain", "gather", "scan", "allreduce"})
        ways = {way["strategy"]: way for way in plan["ranking"]}
        self.assertEqual(ways["chain"]["bytes_sent"], 32 * 128 * 128 * 8)  # one state, whatever N
        self.assertIn("refused", ways["allreduce"])
        self.assertEqual(plan["plan"]["strategy"], plan["ranking"][0]["strategy"])
        linear_oracle.make_input(self.path("in.h5"), "gla", 300)
        steps = self.succeed("plan", "in.h5", "--attention", "gla", "--strategy", "chain", "--ranks", "3", "--verbose",
                             ranks=1)
        self.assertRegex(steps.out, r"rank 2, 1 buffers?(.|\n)*receive units \[0, \d+\) from rank 1 into buffer 0")
        self.assertRegex(steps.out, r"causal gla attention: 300 tokens, 4 heads \(2 of keys, 4 of values\)")

    def test_report_info_and_benchmarks_know_the_variant(self):
        linear_oracle.make_input(self.path("in.h5"), "kda", 100)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--attention", "kda", "--report", "r.json", "--trace", "t.json")
        with open(self.path("r.json"), encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual((report["problem"]["attention"], report["problem"]["v_heads"]), ("kda", 4))
        self.assertGreater(report["repeat"][0]["flops"], 0)
        with open(self.path("t.json"), encoding="utf-8") as file:
            self.assertGreater(len(json.load(file)["traceEvents"]), 0)
        self.assertIn("attention = kda", self.succeed("info", "out.h5", ranks=1).out)
        self.assertRegex(self.succeed("info", "in.h5", ranks=1).out, r"linear attention input: .*--attention kda")
        bench = self.succeed("bench", "attention", "--tokens", "500", "--heads", "2", "--dim", "16", "--attention", "kda",
                             "--repeat", "1")
        self.assertRegex(bench.out, r"causal kda attention: 500 tokens(.|\n)*median")
        kernels = self.succeed("bench", "kernels", "--attention", "kda", "--tokens", "100", "--dim", "16", "--repeat", "1",
                               "--threads", "1", ranks=1)
        self.assertRegex(kernels.out, r"x the loop(.|\n)*portable +1 ")
        self.assert_refused(self.longspan("map", "out.h5", "-o", "map.svg"), USAGE, "--attention kda")


if __name__ == "__main__":
    harness.main()
