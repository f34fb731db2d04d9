"""bench/simulate/simulate: its figures on known results, and, where SimGrid is installed, small simulated clusters against
closed forms. LONGSPAN_COMMAND is the command whose planner stands beside."""

import csv
import importlib.machinery
import importlib.util
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/simulate/simulate"
loader = importlib.machinery.SourceFileLoader("simulate", str(SCRIPT))
simulate = importlib.util.module_from_spec(importlib.util.spec_from_loader("simulate", loader))
loader.exec_module(simulate)

COMMAND = os.environ.get("LONGSPAN_COMMAND", "build/longspan")
RATE, BANDWIDTH = 1000, 2.0  # GFLOP/s, GB/s
SKIPPED = 77
TOKENS, HEADS, DIM = 4096, 4, 64


def result(wall):
    return {"wall": {"max": wall}, "compute": {"mean": 1.0, "max": 1.1}, "wait": {"mean": wall - 1},
            "bytes_sent": {"min": 900.0, "mean": 1000.0, "max": 1100.0}}


def plan(least=900.0, most=1100.0):
    return {"rank": {"bytes_sent": {"min": least, "max": most}}, "plan": {"strategy": "ring", "layout": "zigzag"},
            "predicted_seconds": 1.1}


class Figures(unittest.TestCase):
    options = simulate.parse_arguments(["--rate", str(RATE)])

    def test_efficiency_is_the_work_of_a_rank_over_the_wall_time(self):
        point = simulate.make_point(self.options, "fat-tree", 8, 64, plan(), {"none": result(2.0), "full": result(1.25)})
        self.assertAlmostEqual(point["predicted_efficiency_none"], 0.5)
        self.assertAlmostEqual(point["predicted_efficiency_full"], 0.8)
        self.assertEqual(set(point), set(simulate.COLUMNS))

    def test_simulator_and_planner_that_count_other_bytes_are_an_error(self):
        for wrong in (plan(least=899.0), plan(most=1101.0)):
            with self.assertRaisesRegex(simulate.Failure, "ranks sent 900 to 1100 bytes, but the planner counts"):
                simulate.make_point(self.options, "fat-tree", 8, 64, wrong, {"none": result(2.0), "full": result(1.25)})

    def test_a_platform_with_too_few_nodes_is_refused(self):
        with self.assertRaises(SystemExit):
            simulate.parse_arguments(["--ranks", "2048"])
        self.assertEqual(simulate.parse_arguments(["--ranks", "2048", "--node-ranks", "2"]).node_ranks, 2)

    def test_nodes_that_do_not_come_out_even_are_refused(self):
        with self.assertRaises(SystemExit):
            simulate.parse_arguments(["--ranks", "6", "--node-ranks", "4"])


@unittest.skipUnless(shutil.which("smpicc") and shutil.which("smpirun"), "SimGrid is not installed")
class Simulated(unittest.TestCase):
    def points(self, ranks, *more):
        with tempfile.TemporaryDirectory(prefix="longspan-test-") as folder:
            simulate.main(["--ranks", ranks, "--tokens", str(TOKENS), "--heads", str(HEADS), "--dim", str(DIM), "--type", "float32",
                           "--mask", "full", "--rate", str(RATE), "--bandwidth", str(BANDWIDTH), "--longspan", COMMAND, "-o", folder,
                           *more])
            with open(pathlib.Path(folder, "simulate.csv"), encoding="utf-8") as file:
                return list(csv.DictReader(file))

    def test_a_ring_of_a_full_mask_takes_as_long_as_its_closed_form(self):
        for point in self.points("4,8", "--strategy", "ring"):
            ranks = int(point["ranks"])
            with self.subTest(platform=point["platform"], ranks=ranks):
                compute = 4 * TOKENS**2 * HEADS * DIM / ranks / (RATE * 1e9)
                sent = (ranks - 1) / ranks * TOKENS * HEADS * 2 * DIM * 4
                transfer = sent / (0.95 * BANDWIDTH * 1e9)  # what the model leaves to payloads
                self.assertAlmostEqual(float(point["predicted_compute"]) / compute, 1, delta=0.01)
                self.assertAlmostEqual(float(point["bytes_sent_mean"]) / sent, 1, delta=0.01)
                # Acknowledgements take 5 % of the way back; latencies are small.
                self.assertAlmostEqual(float(point["predicted_wall_none"]) / (compute + transfer), 1, delta=0.06)
                step = max(compute / ranks, transfer / (ranks - 1))
                self.assertAlmostEqual(float(point["predicted_wall_full"]) / ((ranks - 1) * step + compute / ranks), 1, delta=0.06)

    def test_ranks_of_a_node_share_its_host(self):
        # A ring of 2 nodes of 2 ranks: the messages between nodes are those of 2 ranks, others stay in memory.
        for strategy in ("shared", "double-ring"):
            with self.subTest(strategy=strategy):
                [point] = self.points("4", "--strategy", strategy, "--node-ranks", "2", "--platforms", "fat-tree")
                shards = {"shared": 1, "double-ring": 3}[strategy]
                sent = shards * TOKENS / 4 * HEADS * 2 * DIM * 4
                self.assertAlmostEqual(float(point["bytes_sent_mean"]) / sent, 1, delta=0.01)
                self.assertEqual(point["node_ranks"], "2")

    def test_other_strategies_agree_with_the_planner_where_shards_differ_in_size(self):
        for ranks, strategy in (("5", "gather"), ("6", "hybrid:3x2")):
            with self.subTest(strategy=strategy):
                [point] = self.points(ranks, "--strategy", strategy, "--platforms", "fat-tree")
                self.assertEqual(point["strategy"], strategy)
                self.assertLessEqual(float(point["predicted_wall_full"]), float(point["predicted_wall_none"]) * 1.000001)


def main():
    outcome = unittest.main(exit=False).result
    if not outcome.wasSuccessful():
        sys.exit(1)
    if outcome.testsRun == 0 or len(outcome.skipped) == outcome.testsRun:
        sys.exit(SKIPPED)


if __name__ == "__main__":
    main()
