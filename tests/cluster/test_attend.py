"""Attention over several hosts: the hosts of tests/cluster/hosts, two ranks on each, TCP between them.

By hand: LONGSPAN_COMMAND=build/dev/longspan PYTHONPATH=tests/cli tests/cluster/hosts 4 python3 tests/cluster/test_attend.py
"""
import json
import subprocess

import harness

TOKENS = 1009  # divides by nothing
RANKS = 8
PLACES = ("node1", "node1", "node2", "node2", "node3", "node3", "node4", "node4")


class Attend(harness.Case):
    def setUp(self):
        super().setUp()
        self.succeed("generate", "in.h5", "--tokens", TOKENS, "--heads", 6, "--kv-heads", 2, "--dim", 24, "--value-dim", 20,
                     ranks=RANKS)

    def attend(self, *options):
        """Runs attend and verify; returns the report."""
        self.succeed("attend", "in.h5", "-o", "out.h5", "--force", "--report", "report.json", *options, ranks=RANKS)
        verified = self.succeed("verify", "in.h5", "out.h5", ranks=RANKS)
        self.assertIn("PASSED", verified.out, str(verified))
        with open(self.path("report.json"), encoding="utf-8") as file:
            return json.load(file)

    def test_ranks_are_spread_over_the_hosts(self):
        done = subprocess.run([harness.MPIEXEC, "-np", str(RANKS), "hostname"], env={**harness.ENVIRONMENT, **harness.os.environ},
                              capture_output=True, text=True, timeout=harness.TIMEOUT, check=True)
        self.assertEqual(tuple(sorted(done.stdout.split())), PLACES)

    def check(self, strategy, *masks):
        for mask in masks:
            with self.subTest(strategy=strategy, mask=mask):
                report = self.attend("--strategy", strategy, "--mask", mask)
                self.assertEqual(report["plan"]["ranks"], RANKS)
                self.assertEqual(report["plan"]["strategy"], strategy)
                self.assertGreater(report["repeat"][0]["bytes_sent"]["min"], 0, "nothing was sent over the links")

    def test_strategies_that_know_nothing_of_hosts_give_the_result(self):
        for strategy in ("ring", "gather", "heads", "queries", "decode"):
            self.check(strategy, "causal")
        self.check("ring", "full", "window:100,20")

    def test_strategies_that_know_hosts_give_the_result(self):
        for strategy in ("double-ring", "shared", "hybrid:4x2"):
            self.check(strategy, "full", "causal")

    def test_keys_that_hosts_share_are_sent_once_to_a_host(self):
        sent = {strategy: self.attend("--strategy", strategy)["repeat"][0]["bytes_sent"]["mean"] for strategy in ("ring", "shared")}
        # 7 of 8 shards reach a rank over the ring; 6 of 8 reach a host, for its two ranks together.
        self.assertAlmostEqual(sent["shared"] / sent["ring"], 3 / 7, delta=0.02)

    def test_the_strategy_chosen_by_itself_gives_the_result(self):
        self.attend("--mask", "causal")


if __name__ == "__main__":
    harness.main()
