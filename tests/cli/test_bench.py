"""longspan bench: its report, not its speed."""
import json
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
                               "--repeat", "4", ranks=3)
        self.assertEqual(set(report), {"problem", "plan", "repeat", "median_wall", "gflops", "peak_gflops",
                                       "fraction_of_peak", "memory_peak_bytes", "machine", "versions"})
        self.assertEqual(report["problem"],
                         {"batch": 1, "queries": 300, "keys": 300, "heads": 4, "kv_heads": 2, "dim": 16,
                          "value_dim": 16, "type": "float32", "out_type": "float32", "mask": "causal", "scale": 0.25,
                          "documents": 0})
        self.assertEqual({key: report["plan"][key] for key in ("strategy", "layout", "compute", "ranks", "threads")},
                         {"strategy": "ring", "layout": "zigzag", "compute": "fp32", "ranks": 3, "threads": 1})
        self.assertEqual(len(report["repeat"]), 4)
        for repeat in report["repeat"]:
            self.assertEqual(set(repeat), {"wall", "phases", "flops", "bytes_sent", "overlap"})
            self.assertEqual(set(repeat["phases"]), {"compute", "wait", "finish", "transfer", "total"})
            self.assertEqual(repeat["flops"], 300 * 301 // 2 * 2 * 4 * 32)
            self.assertLessEqual(repeat["phases"]["total"]["max"], repeat["wall"] * (1 + 1e-9))
            self.assertEqual(repeat["bytes_sent"], report["repeat"][0]["bytes_sent"])
        self.assertAlmostEqual(report["median_wall"], statistics.median(r["wall"] for r in report["repeat"]))
        self.assertAlmostEqual(report["gflops"], report["repeat"][0]["flops"] / report["median_wall"] * 1e-9)
        self.assertAlmostEqual(report["fraction_of_peak"], report["gflops"] / report["peak_gflops"])

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
                          "type": "bfloat16", "out_type": "float32", "mask": "full", "scale": 0.5, "documents": 0})
        self.assertEqual((report["plan"]["strategy"], report["plan"]["layout"]), ("gather", "zigzag"))

    def test_the_result_goes_to_stdout_even_when_quiet(self):
        result, _ = self.bench("--tokens", "64", "--heads", "1", "--quiet")
        for pattern in (r"compute +\d", r"rate +\d", r"median +\d.* of 5"):
            self.assertRegex(result.out, pattern)
        self.assertEqual(result.err, "")

    def test_no_word_or_another_lists_what_exists(self):
        self.assert_refused(self.longspan("bench"), 2, "attention")
        self.assert_refused(self.longspan("bench", "kernels"), 2, "kernels", "attention")
        self.assert_refused(self.longspan("bench", "attention"), 2, "--tokens is missing")

    def test_an_existing_report_is_kept_without_force(self):
        with h5py.File(self.path("mine.h5"), "w"):
            pass
        refused = self.longspan("bench", "attention", "--tokens", "64", "--report", "mine.h5")
        self.assert_refused(refused, 4, r"mine\.h5")


if __name__ == "__main__":
    harness.main()
