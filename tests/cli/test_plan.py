"""longspan plan: says beforehand what attend then reports, and what it assumed."""
import json
import re

import harness
import oracle

MACHINE = ("--rate", "100", "--bandwidth", "1", "--latency", "5")


class Plan(harness.Case):
    def plan(self, *options, ranks=1):
        """stdout and the report."""
        out = self.succeed("plan", *options, "--report", "plan.json", "--force", "--quiet", ranks=ranks).out
        return out, self.json("plan.json")

    def json(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return json.load(file)

    def test_plan_counts_what_attend_does(self):
        oracle.make_input(self.path("float32.h5"), 698, heads=4, kv_heads=2, dim=24, value_dim=8)
        oracle.make_input(self.path("float16.h5"), 50, 131, heads=4, kv_heads=2, dim=24, value_dim=8, batch=2,
                          kind="float16")
        shapes = {"float32": ("--tokens", "698"),
                  "float16": ("--tokens", "50", "--keys", "131", "--batch", "2", "--type", "float16")}
        cases = [(kind, mask, strategy, ranks) for kind in shapes for mask in ("full", "causal")
                 for strategy in ("auto", "ring", "gather") for ranks in (2, 3, 5)]

        def both(case):
            kind, mask, strategy, ranks = case
            choice = ("--mask", mask, "--strategy", strategy)
            name = "-".join(map(str, case))
            self.succeed("attend", f"{kind}.h5", "-o", f"{name}.h5", *choice, "--report", f"{name}.json", ranks=ranks)
            self.succeed("plan", *shapes[kind], "--heads", "4", "--kv-heads", "2", "--dim", "24", "--value-dim", "8",
                         *choice, "--ranks", ranks, *MACHINE, "--report", f"{name}-plan.json", ranks=1)
            return self.json(f"{name}.json"), self.json(f"{name}-plan.json")

        for case, (done, planned) in zip(cases, harness.in_parallel(both, cases)):
            with self.subTest(case=case):
                repeat = done["repeat"][0]
                self.assertEqual(planned["rank"]["bytes_sent"], repeat["bytes_sent"])
                self.assertEqual(planned["sum"]["flops"], repeat["flops"])
                self.assertEqual(planned["rank"]["steps"]["max"], done["plan"]["steps"])
                self.assertEqual(planned["problem"], done["problem"])
                for key in ("strategy", "layout", "ranks"):
                    self.assertEqual(planned["plan"][key], done["plan"][key])

    def test_report_keeps_its_keys(self):
        _, report = self.plan("--tokens", "1k", "--ranks", "4", *MACHINE)
        self.assertEqual(set(report),
                         {"problem", "plan", "machine_model", "rank", "sum", "predicted_seconds", "versions"})
        self.assertEqual(set(report["rank"]), {"steps", "messages", "bytes_sent", "bytes_received", "pairs", "flops",
                                               "memory_bytes", "predicted_seconds"})
        for value in report["rank"].values():
            self.assertEqual(set(value), {"min", "mean", "max", "min_rank", "max_rank"})
        self.assertEqual(report["sum"]["pairs"], 1024 * 1024)
        self.assertEqual(report["predicted_seconds"], report["rank"]["predicted_seconds"]["max"])
        self.assertEqual(report["machine_model"],
                         {"flops": 1e11, "rate_source": "as given", "bandwidth": 1e9, "latency": 5e-6})

    def test_one_rank_takes_flops_over_rate(self):
        _, report = self.plan("--tokens", "4k", "--heads", "2", "--dim", "32", "--ranks", "1", *MACHINE)
        self.assertAlmostEqual(report["predicted_seconds"], 4096**2 * 2 * 2 * 64 / 1e11)
        self.assertEqual(report["sum"]["bytes_sent"], 0)

    def test_the_slower_of_work_and_transfer_is_predicted(self):
        size = ("--tokens", "64k", "--heads", "1", "--dim", "64", "--ranks", "2", "--strategy", "gather")
        _, slow = self.plan(*size, "--rate", "1e9", "--bandwidth", "1", "--latency", "0")
        self.assertAlmostEqual(slow["predicted_seconds"], slow["rank"]["bytes_sent"]["max"] / 1e9, delta=1e-4)

    def test_what_was_assumed_is_said(self):
        out, report = self.plan("--tokens", "1k", "--ranks", "2")
        self.assertRegex(out, r"GFLOP/s a rank \(0\.6 of the peak of one thread here, measured now\), "
                              r"10 GB/s \(assumed\), 2 us a message \(assumed\)")
        self.assertIn("predicted", out)
        self.assertGreater(report["machine_model"]["flops"], 1e8)
        out, _ = self.plan("--tokens", "1k", "--ranks", "2", *MACHINE)
        self.assertRegex(out, r"100 GFLOP/s a rank \(as given\), 1 GB/s \(as given\), 5 us a message \(as given\)")

    def test_auto_names_its_choice_and_the_alternatives(self):
        out, _ = self.plan("--tokens", "1k", "--ranks", "4", "--mask", "causal", *MACHINE)
        self.assertRegex(out, r"strategy ring \(auto\), layout zigzag \(auto\)")
        self.assertRegex(out, r"instead +--strategy gather: at most \S+ MiB sent")
        out, _ = self.plan("--tokens", "1k", "--ranks", "4", "--strategy", "gather", *MACHINE)
        self.assertIn("strategy gather, layout contiguous (auto)", out)
        self.assertNotIn("instead", out)

    def test_verbose_shows_every_pair_and_both_ends_of_every_transfer(self):
        result = self.succeed("plan", "--tokens", "100", "--ranks", "3", "--mask", "causal", "--verbose", *MACHINE,
                              ranks=1)
        fold = r" +fold +queries \[(\d+), (\d+)\) x keys \[(\d+), (\d+)\) in .*?(, masked inside)?$"
        ends = {"send": [], "receive": []}
        pairs, rank = 0, None
        for line in result.out.splitlines():
            if found := re.match(r"rank (\d+)$", line):
                rank = int(found[1])
            elif found := re.match(r" +(send|receive) +keys (\S+ \S+) +(?:to|from) +rank (\d+)", line):
                peer = int(found[3])
                ends[found[1]].append((found[2], rank, peer) if found[1] == "send" else (found[2], peer, rank))
            elif found := re.match(fold, line):
                q0, q1, k0, k1 = map(int, found.groups()[:4])
                pairs += sum(1 for i in range(q0, q1) for j in range(k0, k1) if not found[5] or j <= i)
        self.assertEqual(pairs, 100 * 101 // 2)
        self.assertGreater(len(ends["send"]), 0)
        self.assertEqual(sorted(ends["send"]), sorted(ends["receive"]))

    def test_a_thousand_ranks_fit_on_a_laptop(self):
        out, report = self.plan("--tokens", "1M", "--ranks", "1000", "--mask", "causal", "--heads", "8", *MACHINE)
        self.assertEqual(report["sum"]["pairs"], 2**20 * (2**20 + 1) // 2)
        self.assertIn("on 1000 ranks", out)

    def test_any_number_of_processes_prints_once(self):
        self.assertEqual(self.plan("--tokens", "1k", "--ranks", "4", *MACHINE, ranks=3)[0],
                         self.plan("--tokens", "1k", "--ranks", "4", *MACHINE, ranks=1)[0])

    def test_what_is_missing_is_named(self):
        self.assert_refused(self.longspan("plan", "--ranks", "4", ranks=1), 2, "--tokens is missing")
        self.assert_refused(self.longspan("plan", "--tokens", "4", ranks=1), 2, "--ranks is missing")
        heads = ("--heads", "3", "--kv-heads", "2")
        self.assert_refused(self.longspan("plan", "--tokens", "9", "--ranks", "2", *heads), 2, "heads 3", "kv_heads 2")


if __name__ == "__main__":
    harness.main()
