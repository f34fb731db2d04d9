"""bench/overlap on reports whose figures are known."""

import importlib.machinery
import importlib.util
import pathlib
import sys
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/overlap"
sys.path.insert(0, str(SCRIPT.parent))
loader = importlib.machinery.SourceFileLoader("overlap", str(SCRIPT))
overlap = importlib.util.module_from_spec(importlib.util.spec_from_loader("overlap", loader))
loader.exec_module(overlap)


def sample(wall, compute, wait=0.1, overlapped=0.9):
    """On 4 ranks: 3 transfers of a second each on a link of 1 Gbit/s."""
    return {"wall": wall, "overlap": overlapped, "phases": {"compute": {"mean": 0.9 * compute, "max": compute}, "wait": {"mean": wait}},
            "bytes_sent": {"mean": 3 * 125e6 * overlap.PAYLOAD}}


class Overlap(unittest.TestCase):
    def test_a_step_that_computes_longer_than_it_transfers_is_bound_by_compute(self):
        judged = overlap.judge(sample(wall=6.6, compute=6.0), 4, 1)
        self.assertAlmostEqual(judged["ratio"], 1.5)
        self.assertAlmostEqual(judged["bound"], 6.0)
        self.assertAlmostEqual(judged["wall_over_bound"], 1.1)

    def test_a_step_that_transfers_longer_is_bound_by_its_link_but_the_last_has_none(self):
        judged = overlap.judge(sample(wall=7.0, compute=2.0), 4, 1)
        self.assertAlmostEqual(judged["ratio"], 0.5)
        self.assertAlmostEqual(judged["bound"], 3 * 1.0 + 0.5)

    def test_a_faster_link_shortens_the_transfer(self):
        self.assertAlmostEqual(overlap.judge(sample(7.0, 2.0), 4, 10)["transfer_alone"], 0.3)

    def test_a_point_is_the_median_of_its_executions(self):
        report = {"plan": {"ranks": 4}, "problem": {"queries": 77},
                  "repeat": [sample(9.0, 6.0, overlapped=0.1), sample(6.3, 6.0, overlapped=0.97), sample(6.6, 6.0, overlapped=0.98)]}
        point = overlap.summarise(report, 1)
        self.assertEqual((point["tokens"], point["ranks"], point["samples"]), (77, 4, 3))
        self.assertAlmostEqual(point["overlap"], 0.97)
        self.assertAlmostEqual(point["wall_over_bound"], 1.1)


if __name__ == "__main__":
    unittest.main()
