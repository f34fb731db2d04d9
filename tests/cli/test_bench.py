"""longspan bench: its report, not its speed."""
import json
import os
import statistics

import harness
import h5py


class Bench(harness.Case):
    def bench(self, *options, ranks=2):
        result = self.succeed("bench", "attention", *options, "--report", "bench.json", "--force", ranks=ranks)
        with open(self.path("bench.json"), encoding="utf-8") as file:
            return result, json.load(file)

    def test_report_keeps_its_contract(self):
        _, report = self.bench("--tokens", "300", "--heads", "4", "--kv-heads", "2", "--dim", "16", "--mask", "causal",
                               "--repeat", "4", "--strategy", "ring", "--layout", "zigzag", ranks=3)
        self.assertEqual(set(report), {"problem", "plan", "repeat", "median_wall", "gflops", "peak_gflops",
                                       "fraction_of_peak", "steps", "prediction", "memory_peak_bytes", "machine",
                                       "versions"})
        self.assertEqual(report["problem"],
                         {"batch": 1, "queries": 300, "keys": 300, "heads": 4, "kv_heads": 2, "dim": 16,
                          "value_dim": 16, "type": "float32", "out_type": "float32", "mask": "causal", "documents": 0,
                          "scale": 0.25, "softcap": 0.0, "rope": None, "alibi": False, "sinks": False,
                          "relative": False})
        self.assertEqual({key: report["plan"][key] for key in ("strategy", "layout", "compute", "ranks", "threads")},
                         {"strategy": "ring", "layout": "zigzag", "compute": "fp32", "ranks": 3, "threads": 1})
        self.assertEqual(len(report["repeat"]), 4)
        for repeat in report["repeat"]:
            self.assertEqual(set(repeat), {"wall", "phases", "flops", "bytes_sent", "overlap", "load_balance",
                                           "communication_efficiency", "parallel_efficiency"})
            self.assertEqual(set(repeat["phases"]), {"compute", "wait", "finish", "transfer", "total"})
            self.assertEqual(repeat["flops"], 300 * 301 // 2 * 2 * 4 * 32)
            self.assertLessEqual(repeat["phases"]["total"]["max"], repeat["wall"] * (1 + 1e-9))
            self.assertEqual(repeat["bytes_sent"], report["repeat"][0]["bytes_sent"])
        self.assertAlmostEqual(report["median_wall"], statistics.median(r["wall"] for r in report["repeat"]))
        self.assertAlmostEqual(report["gflops"], report["repeat"][0]["flops"] / report["median_wall"] * 1e-9)
        self.assertAlmostEqual(report["fraction_of_peak"], report["gflops"] / report["peak_gflops"])

    def test_masks_scores_and_choices_are_those_asked_for(self):
        _, report = self.bench("--tokens", "200", "--heads", "2", "--mask", "window:9+prefix:3", "--softcap", "5", "--rope",
                               "1e4,32", "--alibi", "--sinks", "--compute", "fp32", "--share", "off", "--layout",
                               "striped:16", "--repeat", "1", ranks=3)
        problem, plan = report["problem"], report["plan"]
        self.assertEqual([problem[name] for name in ("mask", "softcap", "alibi", "sinks")],
                         ["prefix:3+window:9", 5, True, True])
        self.assertEqual(problem["rope"], {"dim": 32, "base": 1e4, "style": "half"})
        self.assertEqual((plan["layout"], plan["compute"], plan["shares_memory"]), ("striped:16", "fp32", False))
        pairs = sum(1 for i in range(200) for j in range(200) if (j <= i or j < 3) and j >= i - 9)
        self.assertEqual(report["repeat"][0]["flops"], pairs * 2 * 2 * 128)

    def test_five_repetitions_unless_asked_otherwise(self):
        _, report = self.bench("--tokens", "64", "--heads", "1")
        self.assertEqual(len(report["repeat"]), 5)
        _, report = self.bench("--tokens", "64", "--heads", "1", "--repeat", "1", "--warmup", "0")
        self.assertEqual(len(report["repeat"]), 1)

    def test_one_rank_sends_nothing_and_all_of_it_overlaps(self):
        _, report = self.bench("--tokens", "64", "--heads", "1", ranks=1)
        self.assertEqual((report["repeat"][0]["bytes_sent"]["max"], report["repeat"][0]["overlap"]), (0, 1))

    def test_shapes_and_types(self):
        _, report = self.bench("--tokens", "40", "--keys", "90", "--heads", "6", "--kv-heads", "3", "--dim", "24",
                               "--value-dim", "8", "--batch", "2", "--type", "bfloat16", "--out-type", "float32",
                               "--strategy", "gather", "--layout", "zigzag", "--scale", "0.5", ranks=3)
        self.assertEqual(report["problem"],
                         {"batch": 2, "queries": 40, "keys": 90, "heads": 6, "kv_heads": 3, "dim": 24, "value_dim": 8,
                          "type": "bfloat16", "out_type": "float32", "mask": "full", "documents": 0,
                          "scale": 0.5, "softcap": 0.0, "rope": None, "alibi": False, "sinks": False,
                          "relative": False})
        self.assertEqual((report["plan"]["strategy"], report["plan"]["layout"]), ("gather", "zigzag"))

    def test_the_result_goes_to_stdout_even_when_quiet(self):
        result, _ = self.bench("--tokens", "64", "--heads", "1", "--quiet")
        for pattern in (r"compute +\d", r"rate +\d", r"median +\d.* of 5"):
            self.assertRegex(result.out, pattern)
        self.assertEqual(result.err, "")

    def test_no_word_or_another_lists_what_exists(self):
        self.assert_refused(self.longspan("bench"), 2, "attention, exchange, kernels")
        self.assert_refused(self.longspan("bench", "io"), 2, "'io'", "attention, exchange, kernels")
        self.assert_refused(self.longspan("bench", "attention"), 2, "--tokens is missing")

    def test_an_existing_report_is_kept_without_force(self):
        with h5py.File(self.path("mine.h5"), "w"):
            pass
        refused = self.longspan("bench", "attention", "--tokens", "64", "--report", "mine.h5")
        self.assert_refused(refused, 4, r"mine\.h5")

    def test_attention_takes_no_option_of_the_kernels(self):
        refused = self.longspan("bench", "attention", "--tokens", "64", "--score-scale", "40")
        self.assert_refused(refused, 2, "bench attention does not take --score-scale")


def is_statistic(value):
    return set(value) == {"median", "min", "max"} and value["min"] <= value["median"] <= value["max"]


class Kernels(harness.Case):
    """One query against many keys, or short prompts: the cheapest lines of the list."""

    SHAPE = {"type": "float32", "heads": 4, "kv_heads": 4, "dim": 64, "value_dim": 64, "tokens": 2048, "keys": 2048,
             "mask": "full", "score_scale": 1}
    CHEAP = ("--type", "float32", "--tokens", "2k", "--dim", "64", "--isa", "auto", "--warmup", "0")
    ALWAYS = {"wall", "finish", "cpu", "cpu_share", "gflops", "peak_gflops", "fraction_of_peak",
              "fraction_of_peak_by_cpu", "ns_per_score"}
    BF16 = {"bf16_peak_gflops", "fraction_of_bf16_peak"}
    BF16_ISAS = {"avx512_bf16", "amx"}
    DECODING = {"key_gbytes", "memory_gbytes", "fraction_of_memory"}

    def bench(self, *options, **how):
        result = self.succeed("bench", "kernels", *options, "--report", "kernels.json", "--force",
                              **{"ranks": 1, **how})
        with open(self.path("kernels.json"), encoding="utf-8") as file:
            return result, json.load(file)

    def check_result(self, result, quantities, repeat):
        if result["isa"] in self.BF16_ISAS:
            quantities = quantities | self.BF16
        rest = {"shape", "isa", "compute", "threads", "flops", "scores", "key_bytes", "samples"}
        self.assertEqual(set(result), rest | quantities)
        for quantity in quantities:
            self.assertTrue(is_statistic(result[quantity]), f"{quantity}: {result[quantity]}")
        self.assertEqual(len(result["samples"]), repeat)
        rates = []
        for sample in result["samples"]:
            self.assertEqual(set(sample), {"wall", "finish", "cpu", "finish_cpu", "peak", "bf16_peak", "memory"})
            self.assertGreater(sample["wall"], 0)
            self.assertGreater(sample["peak"], 0)
            rates.append(result["flops"] / sample["wall"])
        walls = [sample["wall"] for sample in result["samples"]]
        self.assertAlmostEqual(result["wall"]["median"], statistics.median(walls))
        self.assertAlmostEqual(result["gflops"]["median"] / (statistics.median(rates) * 1e-9), 1)
        fractions = [rate / sample["peak"] for rate, sample in zip(rates, result["samples"])]
        self.assertAlmostEqual(result["fraction_of_peak"]["median"], statistics.median(fractions))
        self.assertAlmostEqual(result["ns_per_score"]["median"] * result["scores"] * 1e-9, result["wall"]["median"])

    def test_report_keeps_its_contract(self):
        printed, report = self.bench(*self.CHEAP, "--threads", "1", "--repeat", "4")
        self.assertEqual(set(report), {"repeat", "warmup", "results", "machine", "versions"})
        self.assertEqual((report["repeat"], report["warmup"]), (4, 0))
        result = report["results"][0]
        computes = ["fp32", "bf16x6", "bf16x3"] if result["isa"] == "amx" else ["fp32"]
        self.assertEqual([line["compute"] for line in report["results"]], computes)
        self.check_result(result, self.ALWAYS, 4)
        self.assertEqual(result["shape"], self.SHAPE)
        self.assertEqual(result["threads"], 1)
        self.assertEqual(result["scores"], 4 * 2048**2)
        self.assertEqual(result["flops"], result["scores"] * 2 * (64 + 64))
        self.assertEqual(result["key_bytes"], 2048 * 4 * (64 + 64) * 4)
        self.assertRegex(printed.out, rf"float32, full, 4 heads of 64, 2048 tokens\n{result['isa']} +fp32 +1 +\d")

    def test_every_kernel_of_this_cpu_is_measured_on_one_and_two_threads(self):
        _, report = self.bench("--type", "bfloat16", "--tokens", "2k", "--dim", "72", "--repeat", "1", "--warmup", "0")
        (line,) = [text for text in self.succeed("info", ranks=1).out.splitlines() if text.startswith("kernels")]
        names = line.removeprefix("kernels").replace(" (chosen)", "").split(",")
        usable = [name.strip() for name in names if "not on this CPU" not in name]
        threads = [1, 2] if len(os.sched_getaffinity(0)) > 1 else [1]
        measured = [(result["isa"], result["compute"], result["threads"]) for result in report["results"]]
        self.assertEqual(measured, [(name, compute, count) for name in usable
                                    for compute in (["fp32", "bf16"] if name in self.BF16_ISAS else ["fp32"])
                                    for count in threads])
        for result in report["results"]:
            paired = {"speedup"} if result["threads"] == 2 else set()
            self.check_result(result, self.ALWAYS | paired, 1)

    def test_options_choose_from_the_list(self):
        _, report = self.bench("--mask", "causal", "--type", "bfloat16", "--tokens", "4", "--isa", "portable",
                               "--threads", "3", "--repeat", "1", "--warmup", "0")
        (result,) = report["results"]
        self.check_result(result, self.ALWAYS | self.DECODING, 1)
        self.assertEqual((result["isa"], result["threads"]), ("portable", 3))
        self.assertEqual((result["shape"]["type"], result["shape"]["mask"]), ("bfloat16", "causal"))
        keys = result["shape"]["keys"]
        self.assertEqual(result["scores"], result["shape"]["heads"] * (4 * keys - 6))

    def test_a_choice_that_leaves_nothing_lists_what_there_is(self):
        for choice in (["--dim", "100"], ["--tokens", "8k", "--dim", "72"], ["--score-scale", "3"]):
            refused = self.longspan("bench", "kernels", *choice, ranks=1)
            self.assert_refused(refused, 2, r"--dim 64, 72, 80", r"--tokens 1, 4, 16, 2048", r"--score-scale 1, 40")

    def test_options_of_the_other_benchmark_are_refused(self):
        for option in ("--keys", "--heads", "--kv-heads", "--value-dim", "--batch", "--scale", "--seed"):
            refused = self.longspan("bench", "kernels", option, "2", ranks=1)
            self.assert_refused(refused, 2, f"bench kernels does not take {option};")
        self.assert_refused(self.longspan("bench", "kernels", "--strategy", "ring", ranks=1), 2, "--strategy")

    def test_one_process_alone_is_measured(self):
        self.assert_refused(self.longspan("bench", "kernels", ranks=2), 2, "one process", "2 ranks")

    def test_an_existing_report_is_kept_without_force(self):
        with h5py.File(self.path("mine.h5"), "w"):
            pass
        refused = self.longspan("bench", "kernels", *self.CHEAP, "--report", "mine.h5", ranks=1)
        self.assert_refused(refused, 4, r"mine\.h5")


class Exchange(harness.Case):
    def check_file(self, name, nodes_linked):
        with open(self.path(name), encoding="utf-8") as file:
            numbers = json.load(file)
        self.assertEqual((numbers["format"], numbers["version"], numbers["nodes"]), ("longspan machine", 1, 1))
        for value in numbers["arithmetic"]["fp32"].values():
            self.assertGreater(value, 0)
        self.assertEqual({kind: len(row) for kind, row in numbers["few_seconds"].items()},
                         {"float32": 3, "float16": 3, "bfloat16": 3})
        self.assertEqual("node" in numbers, nodes_linked)
        if nodes_linked:
            sizes = [point["bytes"] for point in numbers["node_exchanges"]]
            self.assertEqual((sizes, sizes[0], sizes[-1]), (sorted(sizes), 8, 16 << 20))
            self.assertTrue(all(point["seconds"] > 0 for point in numbers["node_exchanges"]))
            self.assertTrue(0 <= numbers["node"]["busy"] <= 1)
        self.assertNotIn("network", numbers)

    def test_what_is_measured_is_kept_and_heeded(self):
        env = {"XDG_CACHE_HOME": self.path("cache")}
        for ranks in (1, 2):
            printed = self.succeed("bench", "exchange", env=env, ranks=ranks, timeout=600)
            self.check_file("cache/longspan/machine.json", ranks > 1)
            self.assertRegex(printed.out, r"fp32 +\d")
            self.assertIn("kept in", printed.err)
            planned = self.succeed("plan", "--tokens", "1k", "--ranks", "2", env=env, ranks=1).out
            self.assertIn(f"measured ({self.path('cache/longspan/machine.json')})", planned)

    def test_a_named_file_is_kept_without_force(self):
        with h5py.File(self.path("mine.h5"), "w"):
            pass
        self.assert_refused(self.longspan("bench", "exchange", "-o", "mine.h5"), 4, r"mine\.h5")
        self.assert_refused(self.longspan("bench", "exchange", "--tokens", "5"), 2, "does not take --tokens")


if __name__ == "__main__":
    harness.main()
