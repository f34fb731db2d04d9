"""bench/linear on reports whose figures are known."""

import csv
import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/linear"
sys.path.insert(0, str(SCRIPT.parent))
loader = importlib.machinery.SourceFileLoader("linear", str(SCRIPT))
linear = importlib.util.module_from_spec(importlib.util.spec_from_loader("linear", loader))
loader.exec_module(linear)

# Stands for `LAUNCHER RANKS longspan bench attention ...`: a token takes 1 us on one rank, and beyond 4,096 tokens twice that;
# softmax attention 1 ns a pair. Two ranks take a second more than half. A chain sends a state.
FAKE = textwrap.dedent("""
    import json, sys
    arguments = sys.argv[1:]
    value = lambda name: arguments[arguments.index(name) + 1]
    ranks, tokens, heads, dim = int(arguments[0]), int(value("--tokens")), int(value("--heads")), int(value("--dim"))
    assert arguments[1:4] == ["longspan", "bench", "attention"], arguments
    softmax = value("--attention") == "softmax"
    assert softmax or value("--strategy") == "chain"
    wall = tokens ** 2 * 1e-9 if softmax else tokens * 1e-6 * (2 if tokens > 4096 else 1)
    wall = wall / ranks + (ranks > 1)
    sent = 8 * heads * dim * dim + {wrong} if ranks > 1 and not softmax else 0
    plan = {{"strategy": "ring" if softmax else "chain", "ranks": ranks, "state_features": dim, "state_width": dim}}
    problem = {{"batch": 1, "heads": heads, "k_heads": heads, "v_heads": heads}}
    with open(value("--report"), "w") as file:
        json.dump({{"plan": plan, "problem": problem, "median_wall": wall, "machine": {{}}, "versions": {{}},
                   "repeat": [{{"flops": 1e9, "bytes_sent": {{"max": sent}}}}]}}, file)
""")


class Linear(unittest.TestCase):
    def run_script(self, *options, wrong=0):
        with tempfile.TemporaryDirectory() as folder:
            fake, output = pathlib.Path(folder) / "fake.py", pathlib.Path(folder) / "out"
            fake.write_text(FAKE.format(wrong=wrong), encoding="utf-8")
            done = subprocess.run([sys.executable, str(SCRIPT), "--launcher", f"{sys.executable} {fake} {{ranks}}",
                                   "--longspan", "longspan", "--rounds", "2", "-o", str(output), *options],
                                  capture_output=True, text=True, check=False)
            rows, summary = [], None
            if output.exists():
                with open(output / "linear.csv", newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file))
                summary = json.loads((output / "linear.json").read_text(encoding="utf-8"))
            return done, {(row["attention"], int(row["ranks"]), int(row["tokens"])): row for row in rows}, summary

    def test_ratios_are_those_of_the_times(self):
        done, rows, summary = self.run_script("--attention", "ssd", "--least", "1k", "--most", "4k", "--softmax-most", "2k",
                                              "--ranks", "1,2")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(rows), 3 * 2 + 2 * 2)
        self.assertEqual(len(summary["points"]), len(rows))
        self.assertAlmostEqual(float(rows["ssd", 1, 2048]["doubled"]), 2)
        self.assertEqual(rows["ssd", 1, 1024]["doubled"], "")
        self.assertAlmostEqual(float(rows["ssd", 2, 4096]["speedup"]), 4096e-6 / (1 + 2048e-6))
        self.assertAlmostEqual(float(rows["ssd", 1, 2048]["softmax"]), 2048e-9 * 2048 / 2048e-6)
        self.assertEqual(rows["ssd", 1, 4096]["softmax"], "")
        self.assertEqual(float(rows["ssd", 2, 4096]["sent"]), 8 * 2 * 128 * 128)

    def test_a_missed_bar_is_named(self):
        done, rows, _ = self.run_script("--attention", "ssd", "--least", "4k", "--most", "8k", "--softmax-most", "1k")
        self.assertEqual(done.returncode, 1)
        self.assertIn("bars missed: ssd on 1 ranks, 8192 tokens: 4.000 times the time of half", done.stderr)
        self.assertAlmostEqual(float(rows["ssd", 1, 8192]["doubled"]), 4)

    def test_other_traffic_than_the_closed_form_is_an_error(self):
        done, rows, _ = self.run_script("--attention", "ssd", "--least", "1k", "--most", "1k", "--ranks", "1,2", wrong=8)
        self.assertEqual(done.returncode, 1)
        self.assertIn("262152 bytes are sent, not 262144", done.stderr)
        self.assertEqual(rows, {})


if __name__ == "__main__":
    unittest.main()
