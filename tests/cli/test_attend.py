"""longspan attend against numpy in float64."""
import json
import os

import harness
import h5py
import numpy
import oracle

RANKS = (1, 2, 3, 5)
DOCUMENTS = [0, 7, 7, 50, 51, 131]
MASKS = {"full": (False, None), "causal": (True, None), "documents": (False, DOCUMENTS),
         "causal+documents": (True, DOCUMENTS)}


class Attend(harness.Case):
    def compare(self, name, arrays, seen, kind, scale=None, context=""):
        """The result `name` against the oracle; returns its relative RMS error."""
        return oracle.check(self, self.path(name), oracle.attention(*arrays, seen, scale), kind, context)

    def test_result_equals_float64_for_every_mask_type_and_rank_count(self):
        arrays = {}
        for kind in oracle.ROUNDOFF:
            for packed in (False, True):
                arrays[kind, packed] = oracle.make_input(self.path(f"{kind}-{packed}.h5"), 131, heads=4, kv_heads=2,
                                                         dim=24, value_dim=8, kind=kind,
                                                         documents=DOCUMENTS if packed else None)
        cases = [(kind, mask, ranks) for kind in oracle.ROUNDOFF for mask in MASKS for ranks in RANKS]

        def attend(case):
            kind, mask, ranks = case
            causal, documents = MASKS[mask]
            self.succeed("attend", f"{kind}-{documents is not None}.h5", "-o", f"{kind}-{mask}-{ranks}-out.h5",
                         "--quiet", "--mask", "causal" if causal else "full", ranks=ranks)

        harness.in_parallel(attend, cases)
        for kind, mask, ranks in cases:
            causal, documents = MASKS[mask]
            with self.subTest(kind=kind, mask=mask, ranks=ranks):
                name = f"{kind}-{mask}-{ranks}-out.h5"
                seen = oracle.visible(131, 131, causal, documents)
                self.compare(name, arrays[kind, documents is not None], seen, kind)
                self.assertEqual(oracle.read_result(self.path(name))[2]["mask"], mask)

    def test_queries_and_keys_of_different_length_align_at_the_bottom_right(self):
        cases = [(5, 40, 3), (40, 5, 3), (1, 64, 2), (33, 32, 2)]

        def attend(case):
            tokens, keys, ranks = case
            arrays = oracle.make_input(self.path(f"in-{tokens}-{keys}.h5"), tokens, keys)
            self.succeed("attend", f"in-{tokens}-{keys}.h5", "-o", f"out-{tokens}-{keys}.h5", "--mask", "causal",
                         "--quiet", ranks=ranks)
            return arrays

        for (tokens, keys, _), arrays in zip(cases, harness.in_parallel(attend, cases)):
            with self.subTest(tokens=tokens, keys=keys):
                self.compare(f"out-{tokens}-{keys}.h5", arrays, oracle.visible(tokens, keys, True), "float32")

    def test_rows_without_keys_are_zero_and_reported(self):
        arrays = oracle.make_input(self.path("in.h5"), 40, 5, heads=3)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--mask", "causal", "--report", "r.json", ranks=3)
        self.compare("out.h5", arrays, oracle.visible(40, 5, True), "float32")
        with open(self.path("r.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["checks"]["rows_without_keys"], 35 * 3)

    def test_fewer_tokens_than_ranks(self):
        for tokens in (1, 2, 4):
            arrays = oracle.make_input(self.path("in.h5"), tokens)
            self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--mask", "causal", ranks=5)
            self.compare("out.h5", arrays, oracle.visible(tokens, tokens, True), "float32", context=f"N={tokens}")

    def test_batch_items_do_not_mix(self):
        arrays = oracle.make_input(self.path("in.h5"), 45, heads=3, kv_heads=1, batch=3)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--mask", "causal", ranks=3)
        self.compare("out.h5", arrays, oracle.visible(45, 45, True), "float32")

    def test_a_batch_of_one_keeps_its_axis(self):
        oracle.make_input(self.path("in.h5"), 9, batch=1)
        self.succeed("attend", "in.h5", "-o", "out.h5")
        with h5py.File(self.path("out.h5")) as file:
            self.assertEqual((file["out"].shape, file["lse"].shape), ((1, 9, 2, 16), (1, 9, 2)))

    def test_out_type_is_the_inputs_unless_asked_otherwise(self):
        cases = [("float32", None), ("float16", None), ("float32", "float16"), ("bfloat16", "float32"),
                 ("float16", "bfloat16")]
        for kind, out_kind in cases:
            arrays = oracle.make_input(self.path("in.h5"), 40, kind=kind)
            options = [] if out_kind is None else ["--out-type", out_kind]
            self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--compute", "fp32", *options)
            expected = out_kind or kind
            self.compare("out.h5", arrays, oracle.visible(40, 40, False), expected, context=f"{kind} {out_kind}")
            with h5py.File(self.path("out.h5")) as file:
                self.assertEqual(file["out"].id.get_type().get_size(), 4 if expected == "float32" else 2)
                self.assertEqual(file["lse"].dtype, "f4")

    def test_scale_replaces_the_default(self):
        arrays = oracle.make_input(self.path("in.h5"), 40)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--scale", "0.125")
        self.compare("out.h5", arrays, oracle.visible(40, 40, False), "float32", scale=0.125)
        self.assertEqual(oracle.read_result(self.path("out.h5"))[2]["scale"], 0.125)

    def test_strategies_and_layouts_agree(self):
        arrays = oracle.make_input(self.path("in.h5"), 698)
        strategies = ("ring", "gather", "double-ring", "shared", "heads", "hybrid:2x2", "queries")
        cases = [(strategy, layout) for strategy in strategies for layout in ("contiguous", "zigzag", "striped:32")]

        def attend(case):
            self.succeed("attend", "in.h5", "-o", "-".join(case) + ".h5", "--mask", "causal", "--strategy", case[0],
                         "--layout", case[1], ranks=4)

        harness.in_parallel(attend, cases)
        reference = oracle.attention(*arrays, oracle.visible(698, 698, True))
        for strategy, layout in cases:
            name = self.path(f"{strategy}-{layout}.h5")
            with self.subTest(strategy=strategy, layout=layout):
                oracle.check(self, name, reference, "float32")
                attributes = oracle.read_result(name)[2]
                self.assertEqual((attributes["strategy"], attributes["layout"]), (strategy, layout))

    def test_error_does_not_grow_with_the_rank_count(self):
        arrays = oracle.make_input(self.path("in.h5"), 700, heads=2, dim=32, sharpness=3.0)
        seen, errors = oracle.visible(700, 700, True), {}
        for ranks in (1, 2, 4, 8):
            self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--mask", "causal", ranks=ranks)
            out = oracle.read_result(self.path("out.h5"))[0]
            errors[ranks] = oracle.relative_rms(out, oracle.attention(*arrays, seen)[0])
        for ranks, error in errors.items():
            self.assertLess(error, 1e-6)
            self.assertLess(error, 1.25 * errors[1] + 1e-8, f"{errors}")

    def test_nan_in_a_query_stays_in_its_row(self):
        arrays = oracle.make_input(self.path("in.h5"), 50)
        with h5py.File(self.path("in.h5"), "r+") as file:
            file["q"][17, 1, 3] = numpy.nan
        self.succeed("attend", "in.h5", "-o", "out.h5", "--report", "r.json", ranks=3)
        out, lse, _ = oracle.read_result(self.path("out.h5"))
        self.assertTrue(numpy.isnan(out[0, 17, 1]).all() and numpy.isnan(lse[0, 17, 1]))
        out[0, 17, 1] = oracle.attention(*arrays, oracle.visible(50, 50, False))[0][0, 17, 1]
        self.assertTrue(numpy.isfinite(out).all())
        with open(self.path("r.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["checks"]["rows_nan"], 1)

    def test_documents_need_as_many_keys_as_queries(self):
        oracle.make_input(self.path("in.h5"), 20, 30, documents=[0, 5, 20])
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "out.h5"), 2, "documents", "20", "30")
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.h5"])

    def test_attributes_say_how_it_was_computed(self):
        oracle.make_input(self.path("in.h5"), 20)
        os.mkdir(self.path("results"))
        self.succeed("attend", "in.h5", "-o", "results/out.h5", "--isa", "portable", "--threads", "2", ranks=3)
        attributes = oracle.read_result(self.path("results/out.h5"))[2]
        self.assertEqual(attributes["format_version"], 1)
        self.assertRegex(attributes["program"], r"^longspan \d+\.\d+\.\d+$")
        self.assertEqual(attributes["input"], "../in.h5")
        self.assertEqual(attributes["input_absolute"], os.path.realpath(self.path("in.h5")))
        self.assertEqual([attributes[name] for name in ("mask", "compute", "isa", "ranks", "threads")],
                         ["full", "fp32", "portable", 3, 2])
        self.assertAlmostEqual(attributes["scale"], 0.25)

    def test_report_keeps_its_contract(self):
        oracle.make_input(self.path("in.h5"), 300, heads=4, kv_heads=2)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--mask", "causal", "--strategy", "ring", "--layout", "zigzag",
                     "--report", "r.json", ranks=3)
        with open(self.path("r.json"), encoding="utf-8") as file:
            report = json.load(file)
        statistics = {"min", "mean", "max", "min_rank", "max_rank"}
        self.assertEqual(set(report), {"problem", "plan", "repeat", "median_wall", "gflops", "peak_gflops",
                                       "fraction_of_peak", "steps", "prediction", "memory_peak_bytes", "machine", "versions",
                                       "input", "output", "io", "checks"})
        self.assertEqual(report["problem"], {"batch": 1, "queries": 300, "keys": 300, "heads": 4, "kv_heads": 2,
                                             "dim": 16, "value_dim": 16, "type": "float32", "out_type": "float32",
                                             "mask": "causal", "documents": 0, "scale": 0.25, "softcap": 0.0, "rope": None,
                                             "alibi": False, "sinks": False,
                                             "relative": False})
        self.assertEqual(set(report["plan"]), {"strategy", "layout", "shares_memory", "compute", "isa", "ranks",
                                               "threads", "steps"})
        self.assertEqual((report["plan"]["strategy"], report["plan"]["layout"], report["plan"]["ranks"]),
                         ("ring", "zigzag", 3))
        self.assertEqual(len(report["repeat"]), 1)
        repeat = report["repeat"][0]
        self.assertEqual(set(repeat), {"wall", "phases", "flops", "bytes_sent", "overlap", "load_balance",
                                       "communication_efficiency", "parallel_efficiency"})
        for factor in ("overlap", "load_balance", "communication_efficiency", "parallel_efficiency"):
            self.assertTrue(0 <= repeat[factor] <= 1, factor)
        self.assertAlmostEqual(repeat["parallel_efficiency"],
                               repeat["load_balance"] * repeat["communication_efficiency"])
        self.assertEqual(len(report["steps"]), report["plan"]["steps"])
        for step in report["steps"]:
            self.assertEqual(set(step), {"compute", "wait", "waited_for", "transfer_max", "bytes_sent"})
            self.assertTrue(-1 <= step["waited_for"] < 3)
            self.assertTrue(0 <= step["wait"]["max_rank"] < 3)
        self.assertEqual(sum(step["bytes_sent"] for step in report["steps"]), 3 * repeat["bytes_sent"]["mean"])
        self.assertEqual(set(repeat["phases"]), {"compute", "wait", "finish", "transfer", "total"})
        for value in [repeat["bytes_sent"], report["memory_peak_bytes"], *repeat["phases"].values(),
                      *report["io"].values()]:
            self.assertEqual(set(value), statistics)
            self.assertLessEqual(value["min"], value["mean"] * (1 + 1e-12))
            self.assertLessEqual(value["mean"], value["max"] * (1 + 1e-12))
            self.assertTrue(0 <= value["min_rank"] < 3 and 0 <= value["max_rank"] < 3)
        self.assertEqual(repeat["flops"], 300 * 301 // 2 * 2 * 4 * 32)
        self.assertEqual(report["checks"]["pairs"], report["checks"]["pairs_expected"])
        self.assertAlmostEqual(report["gflops"], repeat["flops"] / report["median_wall"] * 1e-9)
        self.assertGreater(report["peak_gflops"], 0)
        self.assertAlmostEqual(report["fraction_of_peak"], report["gflops"] / report["peak_gflops"])
        self.assertEqual(set(report["machine"]), {"cpu", "cores", "features", "memory_bytes", "hostname"})
        self.assertEqual(set(report["versions"]), {"longspan", "mpi", "hdf5", "blas", "compiler"})
        self.assertEqual((report["input"], report["output"]), ("in.h5", "out.h5"))

    def test_summary_goes_to_stderr_and_quiet_silences_it(self):
        oracle.make_input(self.path("in.h5"), 20)
        loud = self.succeed("attend", "in.h5", "-o", "out.h5", "--strategy", "ring")
        for pattern in ("full attention: 20 tokens, 2 heads of 16, float32", r"compute +\d", r"read +\d", r"write +\d",
                        r"GFLOP/s", r"sent +\d.*overlap \d", r"memory +at most", r"output +out\.h5"):
            self.assertRegex(loud.err, pattern)
        self.assertEqual(loud.out, "")
        quiet = self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--quiet")
        self.assertEqual((quiet.out, quiet.err), ("", ""))

    def test_the_progress_bar_tells_rate_and_time_left_where_it_is_wanted(self):
        self.succeed("generate", "in.h5", "--tokens", "12k", "--heads", "4", "--dim", "64", ranks=1)
        bar = r"\r\[#*\.*\] +\d+ %  \d+\.\d \w?flop/s  0:00:\d\d left"
        shown = self.succeed("attend", "in.h5", "-o", "out.h5", "--isa", "portable", "--progress", "on")
        self.assertRegex(shown.err, bar)
        percents = [int(text) for text in harness.re.findall(r"\] +(\d+) %", shown.err)]
        self.assertEqual(percents, sorted(percents), shown.err)
        hidden = self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--mask", "causal")  # stderr is no terminal
        self.assertNotRegex(hidden.err, bar)

    def test_a_report_in_the_way_is_refused_before_computing(self):
        oracle.make_input(self.path("in.h5"), 20)
        with open(self.path("r.json"), "w", encoding="utf-8") as file:
            file.write("mine")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "out.h5", "--report", "r.json"), 4, "r.json")
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.h5", "r.json"])
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "x", "--report", "x"), 2, "same file")
        self.assert_refused(self.longspan("attend", "in.h5", "-o", "out.h5", "--report", "in.h5", "--force"), 2,
                            "in.h5", "same file")

    def test_the_trace_shows_folds_by_thread(self):
        oracle.make_input(self.path("in.h5"), 300, heads=2, dim=16)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--strategy", "ring", "--layout", "contiguous", "--threads", "3",
                     "--trace", "t.json", ranks=2)
        with open(self.path("t.json"), encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        names = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"}
        for rank in range(2):
            mine = [event for event in events if event["pid"] == rank and event["ph"] == "X"]
            tracks = {name: {event["name"] for event in mine if event["tid"] == tid}
                      for (pid, tid), name in names.items() if pid == rank}
            self.assertEqual(set(tracks), {"work", "transfers", "thread 0", "thread 1", "thread 2"})
            for thread in range(3):
                self.assertEqual(tracks[f"thread {thread}"], {"fold"})
            self.assertEqual(tracks["transfers"], {"transfers"})
            self.assertTrue({"plan", "read", "execute", "compute", "finish", "write"} <= tracks["work"], tracks["work"])
            self.assertEqual(sum(event["name"] == "fold" for event in mine), 2 * 3)


if __name__ == "__main__":
    harness.main()
