"""longspan plan: says beforehand what attend then reports, and what it assumed."""
import json
import os
import re

import harness
import oracle

MACHINE = ("--rate", "100", "--bandwidth", "1", "--latency", "5", "--node-ranks", "1")

FEW = [4e-10, 5e-10, 9e-10]
NUMBERS = {"format": "longspan machine", "version": 1, "machine": {"cpu": "another"}, "kernel": "another",
           "arithmetic": {"fp32": {"score_seconds": 1e-9, "product_seconds": 4e-11}},
           "few_seconds": {"float32": FEW, "float16": FEW, "bfloat16": FEW},
           "memory_bandwidth": 8e9, "barrier_seconds": 2e-6,
           "node": {"latency": 2e-6, "bandwidth": 4e9, "busy": 0.5}}


class Plan(harness.Case):
    def plan(self, *options, ranks=1):
        """stdout and the report."""
        out = self.succeed("plan", *options, "--report", "plan.json", "--force", "--quiet", ranks=ranks).out
        return out, self.json("plan.json")

    def json(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return json.load(file)

    def machine_file(self, name="machine.json", **changes):
        with open(self.path(name), "w", encoding="utf-8") as file:
            json.dump({**NUMBERS, **changes}, file)
        return {"LONGSPAN_MACHINE": self.path(name)}

    def kernel(self):
        return re.search(r"^kernels.*?(\w+) \(chosen\)", self.succeed("info", ranks=1).out, re.M)[1]

    def test_plan_counts_what_attend_does(self):
        oracle.make_input(self.path("float32.h5"), 698, heads=4, kv_heads=2, dim=24, value_dim=8)
        oracle.make_input(self.path("float16.h5"), 50, 131, heads=4, kv_heads=2, dim=24, value_dim=8, batch=2,
                          kind="float16")
        shapes = {"float32": ("--tokens", "698"),
                  "float16": ("--tokens", "50", "--keys", "131", "--batch", "2", "--type", "float16")}
        cases = [(kind, mask, strategy, ranks) for kind in shapes for mask in ("full", "causal")
                 for strategy, counts in (("auto", (2,)), ("ring", (2, 5)), ("gather", (3,)), ("heads", (3,)),
                                          ("shared", (2,)), ("queries", (3,)), ("decode", (5,)))
                 for ranks in counts]
        env = self.machine_file(kernel=self.kernel())

        def both(case):
            kind, mask, strategy, ranks = case
            # more ranks than CPUs compute slower than planned: what is left open may be chosen otherwise
            layout = "auto" if strategy == "auto" else "zigzag"
            choice = ("--mask", mask, "--strategy", strategy, "--layout", layout)
            name = "-".join(map(str, case))
            self.succeed("attend", f"{kind}.h5", "-o", f"{name}.h5", *choice, "--report", f"{name}.json", ranks=ranks,
                         env=env)
            where = ("--ranks", ranks, "--node-ranks", ranks, "--threads", "1", "--report")
            self.succeed("plan", *shapes[kind], "--heads", "4", "--kv-heads", "2", "--dim", "24", "--value-dim", "8",
                         *choice, *where, f"{name}-plan.json", ranks=1, env=env)
            self.succeed("plan", f"{kind}.h5", *choice, *where, f"{name}-file.json", ranks=1, env=env)
            return [self.json(f"{name}{suffix}.json") for suffix in ("", "-plan", "-file")]

        for case, (done, planned, of_file) in zip(cases, harness.in_parallel(both, cases)):
            with self.subTest(case=case):
                repeat = done["repeat"][0]
                self.assertEqual(planned, of_file)
                self.assertEqual(planned["rank"]["bytes_sent"], repeat["bytes_sent"])
                self.assertEqual(planned["sum"]["flops"], repeat["flops"])
                self.assertEqual(planned["rank"]["steps"]["max"], done["plan"]["steps"])
                self.assertEqual(planned["problem"], done["problem"])
                for key in ("strategy", "layout", "ranks"):
                    self.assertEqual(planned["plan"][key], done["plan"][key])

    def test_report_keeps_its_keys(self):
        _, report = self.plan("--tokens", "1k", "--heads", "2", "--ranks", "4", *MACHINE)
        self.assertEqual(set(report), {"problem", "plan", "ranking", "machine_model", "rank", "sum",
                                       "predicted_seconds", "versions"})
        self.assertEqual(set(report["rank"]), {"steps", "messages", "bytes_sent", "bytes_received", "scores", "flops",
                                               "memory_bytes"})
        for value in report["rank"].values():
            self.assertEqual(set(value), {"min", "mean", "max", "min_rank", "max_rank"})
        self.assertEqual(report["sum"]["scores"], 2 * 1024 * 1024)
        self.assertEqual(report["predicted_seconds"], report["ranking"][0]["predicted_seconds"])
        self.assertAlmostEqual(report["machine_model"]["flops"], 1e11, delta=1)
        for link in ("node", "network"):
            self.assertEqual(report["machine_model"][link], {"latency": 5e-6, "bandwidth": 1e9, "busy": 0})

    def test_the_ranking_holds_every_strategy(self):
        _, report = self.plan("--tokens", "4k", "--ranks", "4", "--mask", "causal", *MACHINE)
        names = {choice["strategy"].split(":")[0] for choice in report["ranking"]}
        self.assertTrue({"ring", "gather", "heads", "hybrid", "double-ring", "shared", "queries", "decode"} <= names)
        self.assertEqual({choice["layout"].split(":")[0] for choice in report["ranking"]},
                         {"contiguous", "zigzag", "striped"})
        ranked = [choice for choice in report["ranking"] if "refused" not in choice]
        seconds = [choice["predicted_seconds"] for choice in ranked[1:]]
        self.assertEqual(seconds, sorted(seconds))
        self.assertLessEqual(ranked[0]["predicted_seconds"], 1.01 * seconds[0])
        self.assertEqual({key: ranked[0][key] for key in ("strategy", "layout")},
                         {key: report["plan"][key] for key in ("strategy", "layout")})
        for choice in ranked:
            parts = choice["compute"] + choice["memory"] + choice["waiting"]
            self.assertAlmostEqual(parts, choice["predicted_seconds"])
            self.assertIn(choice["bound"], ("compute", "memory", "transfer"))
        refused = [choice for choice in report["ranking"] if "refused" in choice]
        self.assertIn("shared", [choice["strategy"] for choice in refused])  # no node has two ranks

    def test_many_rows_on_one_rank_take_flops_over_rate(self):
        _, report = self.plan("--tokens", "16k", "--heads", "2", "--dim", "64", "--ranks", "1", *MACHINE)
        self.assertAlmostEqual(report["predicted_seconds"] / (16384**2 * 2 * 2 * 128 / 1e11), 1, delta=0.02)
        self.assertEqual(report["sum"]["bytes_sent"], 0)

    def test_the_slower_of_work_and_transfer_is_predicted(self):
        size = ("--tokens", "64k", "--heads", "1", "--dim", "64", "--ranks", "2", "--strategy", "gather")
        _, slow = self.plan(*size, "--rate", "1e9", "--bandwidth", "0.01", "--latency", "0")
        self.assertAlmostEqual(slow["predicted_seconds"] / (slow["rank"]["bytes_sent"]["max"] / 1e7), 1, delta=0.03)
        self.assertEqual(slow["ranking"][0]["bound"], "transfer")

    def test_what_was_assumed_is_said(self):
        out, report = self.plan("--tokens", "1k", "--ranks", "2")
        self.assertRegex(out, r"machine +built in, with the kernel's peak as measured now")
        self.assertRegex(out, r"strategy .* predicted s +bound by")
        self.assertGreater(report["machine_model"]["flops"], 1e8)
        out, _ = self.plan("--tokens", "1k", "--ranks", "2", *MACHINE)
        self.assertRegex(out, r"100 GFLOP/s a rank \(as given\); in a node 1 GB/s and 5 us a message, between nodes 1 "
                              r"GB/s and 5 us \(as given\)")

    def test_auto_names_its_choice(self):
        out, report = self.plan("--tokens", "1k", "--ranks", "4", "--mask", "causal", *MACHINE)
        strategy, layout = report["plan"]["strategy"], report["plan"]["layout"]
        self.assertIn(f"strategy {strategy} (auto), layout {layout} (auto)", out)
        out, _ = self.plan("--tokens", "1k", "--ranks", "4", "--strategy", "gather", *MACHINE)
        self.assertRegex(out, r"strategy gather, layout \S+ \(auto\)")
        out, _ = self.plan("--tokens", "1k", "--ranks", "4", "--strategy", "gather", "--layout", "zigzag", *MACHINE)
        self.assertIn("strategy gather, layout zigzag\n", out)
        self.assertNotIn("bound by", out)

    def test_a_machine_file_is_heeded_and_its_numbers_count(self):
        size = ("--tokens", "16k", "--heads", "1", "--ranks", "1", "--threads", "1", "--quiet")
        seconds = {}
        for times in (1, 10):
            folds = {"fp32": {"score_seconds": 1e-9 * times, "product_seconds": 4e-11 * times}}
            env = self.machine_file(kernel=self.kernel(), arithmetic=folds)
            out = self.succeed("plan", *size, "--report", "plan.json", "--force", env=env, ranks=2).out
            self.assertIn(f"measured ({self.path('machine.json')})", out)
            seconds[times] = self.json("plan.json")["predicted_seconds"]
        self.assertAlmostEqual(seconds[1] / (16384**2 * (1e-9 + 128 * 4e-11)), 1, delta=0.03)
        self.assertAlmostEqual(seconds[10] / seconds[1], 10, delta=0.3)

    def test_the_folds_of_another_kernel_are_not_believed(self):
        out = self.succeed("plan", "--tokens", "1k", "--ranks", "2", env=self.machine_file(), ranks=1).out
        self.assertRegex(out, r"measured \(.*\), but the kernel's rates")

    def test_a_file_of_another_cpu_in_the_usual_place_is_not_heeded(self):
        os.makedirs(self.path("cache/longspan"))
        self.machine_file("cache/longspan/machine.json")
        out = self.succeed("plan", "--tokens", "1k", "--ranks", "2", ranks=1,
                           env={"XDG_CACHE_HOME": self.path("cache")}).out
        self.assertRegex(out, r"machine +built in")

    def test_bad_machine_files_are_refused(self):
        with open(self.path("broken.json"), "w", encoding="utf-8") as file:
            file.write("{")
        kernel = self.kernel()
        cases = [("missing.json", None, "No such file"), ("broken.json", None, "not JSON"),
                 ("format.json", {"format": "x"}, "version 1"), ("version.json", {"version": 2}, "version 1"),
                 ("memory.json", {"memory_bandwidth": -1}, "memory_bandwidth is not a number above 0"),
                 ("text.json", {"memory_bandwidth": "8e9"}, "memory_bandwidth is not a number above 0"),
                 ("busy.json", {"node": {"latency": 1e-6, "bandwidth": 1e9, "busy": 2}}, "node.busy is 2"),
                 ("link.json", {"node": {"latency": 1e-6, "busy": 0}}, "bandwidth is missing"),
                 ("fold.json", {"kernel": kernel, "arithmetic": {}}, "fp32 is missing"),
                 ("few.json", {"kernel": kernel, "few_seconds": {"float32": [1e-9]}}, "few_seconds")]
        for name, changes, pattern in cases:
            with self.subTest(name=name):
                env = {"LONGSPAN_MACHINE": self.path(name)} if changes is None else self.machine_file(name, **changes)
                for command in (("plan", "--ranks", "2"), ("bench", "attention")):
                    refused = self.longspan(*command, "--tokens", "64", env=env, ranks=2)
                    self.assert_refused(refused, 4, re.escape(name), pattern)

    def test_verbose_shows_every_pair_and_both_ends_of_every_transfer(self):
        result = self.succeed("plan", "--tokens", "100", "--ranks", "3", "--mask", "causal", "--strategy", "ring",
                              "--layout", "zigzag", "--verbose", *MACHINE, ranks=1)
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
        self.assertLess(report["plan"]["ranks_counted"], 1000)
        self.assertEqual(report["sum"], {})
        self.assertIn("on 1000 ranks", out)
        _, report = self.plan("--tokens", "64k", "--ranks", "500", "--mask", "causal", "--heads", "8", *MACHINE)
        self.assertEqual(report["sum"]["scores"], 8 * (2**16 * (2**16 + 1) // 2))

    def test_any_number_of_processes_prints_once(self):
        self.assertEqual(self.plan("--tokens", "1k", "--ranks", "4", *MACHINE, ranks=3)[0],
                         self.plan("--tokens", "1k", "--ranks", "4", *MACHINE, ranks=1)[0])

    def test_what_does_not_fit_into_memory_is_ranked_after_and_said(self):
        size = ("--tokens", "64k", "--heads", "8", "--ranks", "8", "--mask", "causal", *MACHINE)
        _, report = self.plan(*size)
        self.assertTrue(all(choice["fits"] for choice in report["ranking"] if "refused" not in choice))
        ranked = sorted(choice["memory_bytes"] for choice in report["ranking"] if "refused" not in choice)
        limit = (ranked[0] + ranked[-1]) // 2  # some fit
        out, report = self.plan(*size, "--memory", str(int(limit / 0.9)))
        self.assertAlmostEqual(report["machine_model"]["memory_bytes"], limit, delta=2)
        fits = [choice["fits"] for choice in report["ranking"] if "refused" not in choice]
        self.assertEqual(fits, sorted(fits, reverse=True))
        self.assertEqual(set(fits), {True, False})
        self.assertEqual([choice["memory_bytes"] <= limit for choice in report["ranking"] if "refused" not in choice],
                         fits)
        self.assertEqual(out.count("does not fit into memory"), fits.count(False))
        half = (*size[:-1], "2")  # ranks of a node share its memory
        _, report = self.plan(*half, "--memory", "2G")
        self.assertEqual(report["machine_model"]["memory_bytes"], int(0.9 * 2**30))

    def test_one_line_says_that_nothing_fits(self):
        warning = r"warning: nothing that the options leave open fits into memory: strategy \S+, layout \S+ needs"
        for choice in ((), ("--strategy", "gather", "--layout", "zigzag")):
            result = self.succeed("plan", "--tokens", "64k", "--ranks", "8", "--memory", "1M", *choice, *MACHINE, ranks=2)
            self.assertEqual(len(result.lines), 1, str(result))
            self.assertRegex(result.lines[0], warning)
        self.assertEqual(self.succeed("plan", "--tokens", "64k", "--ranks", "8", *MACHINE, ranks=1).err, "")
        oracle.make_input(self.path("in.h5"), 100)
        env = self.machine_file(memory_bytes=1000)
        result = self.succeed("attend", "in.h5", "-o", "out.h5", env=env)
        self.assertEqual(len(re.findall(warning, result.err)), 1, str(result))
        result = self.succeed("attend", "in.h5", "-o", "out.h5", "--force", env=self.machine_file(memory_bytes=1e9))
        self.assertNotRegex(result.err, warning)

    def test_threads_are_those_of_attend(self):
        env = self.machine_file(kernel=self.kernel())
        size = ("plan", "--tokens", "16k", "--heads", "1", "--ranks", "1", "--report", "plan.json", "--force")

        def seconds(*options, threads):
            self.succeed(*size, *options, env={**env, "OMP_NUM_THREADS": threads}, ranks=1)
            return self.json("plan.json")["predicted_seconds"]

        self.assertAlmostEqual(seconds(threads="1") / seconds(threads="4"), 4, delta=0.1)
        self.assertEqual(seconds("--threads", "4", threads="1"), seconds(threads="4"))

    def test_a_strategy_that_refuses_and_a_size_over_the_limits_are_one_line(self):
        size = ("--tokens", "1k", "--ranks")
        cases = [((*size, "3", "--node-ranks", "1", "--strategy", "shared"), "'shared'", "on every node"),
                 ((*size, "3", "--node-ranks", "1", "--strategy", "double-ring"), "'double-ring'", "on every node"),
                 ((*size, "3", "--node-ranks", "1", "--strategy", "hybrid"), "'hybrid'", "hybrid:RxC"),
                 ((*size, "3", "--strategy", "hybrid:2x2"), "'hybrid:2x2'", "4 ranks", "there are 3"),
                 ((*size, "4", "--node-ranks", "4", "--strategy", "shared", "--share", "off"), "'shared'", "--share off"),
                 (("--tokens", "4G", "--ranks", "2"), "queries is 4294967296", "2\\^31"),
                 (("--tokens", "64", "--batch", "4G", "--ranks", "2"), "batch is 4294967296")]
        for options, *patterns in cases:
            with self.subTest(options=options):
                self.assert_refused(self.longspan("plan", *options, ranks=1), 2, *patterns)

    def test_what_is_missing_is_named(self):
        self.assert_refused(self.longspan("plan", "--ranks", "4", ranks=1), 2, "--tokens is missing")
        self.assert_refused(self.longspan("plan", "--tokens", "4", ranks=1), 2, "--ranks is missing")
        self.assert_refused(self.longspan("plan", "--tokens", "64", "--ranks", "6", "--node-ranks", "4", ranks=1), 2,
                            "--node-ranks 4", "--ranks 6")
        oracle.make_input(self.path("in.h5"), 10)
        self.assert_refused(self.longspan("plan", "in.h5", "--ranks", "2", "--tokens", "5", ranks=1), 2, "--tokens")
        heads = ("--heads", "3", "--kv-heads", "2")
        self.assert_refused(self.longspan("plan", "--tokens", "9", "--ranks", "2", *heads), 2, "heads 3", "kv_heads 2")


if __name__ == "__main__":
    harness.main()
