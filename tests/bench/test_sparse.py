"""bench/sparse on reports whose figures are known."""

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

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/sparse"
sys.path.insert(0, str(SCRIPT.parent))
loader = importlib.machinery.SourceFileLoader("sparse", str(SCRIPT))
sparse = importlib.util.module_from_spec(importlib.util.spec_from_loader("sparse", loader))
loader.exec_module(sparse)

# Stands for `LAUNCHER RANKS longspan bench attention ...`: 100 GFLOP/s of dense attention, {window} of windows, {blocks} of
# random blocks, 70 of chosen ones. A window of 16 keys sends 15 rows of 2 * 2 * 8 floats, random blocks {total} bytes in
# all.
FAKE = textwrap.dedent("""
    import json, sys
    arguments = sys.argv[1:]
    value = lambda name: arguments[arguments.index(name) + 1]
    ranks, tokens = int(arguments[0]), int(value("--tokens"))
    assert arguments[1:4] == ["longspan", "bench", "attention"], arguments
    assert value("--share") == "off"
    kind = value("--pattern").split(":")[0] if "--pattern" in arguments else "window" if "--mask" in arguments else "dense"
    assert kind != "window" or value("--mask") == "window:15"
    assert kind != "moba" or value("--mask") == "causal"
    wall = tokens * 1e-6 / ranks
    flops = wall * 1e9 * {{"window": {window}, "random": {blocks}, "moba": 70, "dense": 100}}[kind]
    sent = 0 if ranks == 1 else {{"window": 15 * 128, "random": {total} / ranks}}.get(kind, 0)
    with open(value("--report"), "w") as file:
        json.dump({{"plan": {{"ranks": ranks}}, "median_wall": wall, "machine": {{}}, "versions": {{}},
                   "repeat": [{{"flops": flops, "bytes_sent": {{"max": sent, "mean": sent}}}}]}}, file)
""")


class Sparse(unittest.TestCase):
    def run_script(self, *options, window=80, blocks=90, total=0):
        with tempfile.TemporaryDirectory() as folder:
            fake, output = pathlib.Path(folder) / "fake.py", pathlib.Path(folder) / "out"
            fake.write_text(FAKE.format(window=window, blocks=blocks, total=total), encoding="utf-8")
            done = subprocess.run([sys.executable, str(SCRIPT), "--launcher", f"{sys.executable} {fake} {{ranks}}",
                                   "--longspan", "longspan", "--rounds", "2", "--window", "16", "--least", "64", "--most",
                                   "128", "--blocks", "4", "--moba", "4x2", "--block-tokens", "8", "--percent", "100", "--dim",
                                   "8", "-o", str(output), *options], capture_output=True, text=True, check=False)  # fmt: skip
            rows, summary = [], None
            if output.exists():
                with open(output / "sparse.csv", newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file))
                summary = json.loads((output / "sparse.json").read_text(encoding="utf-8"))
            return done, {(row["attention"], int(row["ranks"]), int(row["tokens"])): row for row in rows}, summary

    def test_ratios_are_those_of_the_times(self):
        # Every block is seen: each of 2 ranks gets the other's 4 tokens of 128 bytes.
        done, rows, summary = self.run_script("--ranks", "2", total=2 * 4 * 128)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(summary["points"]), 5)
        self.assertAlmostEqual(float(rows["window:15", 2, 128]["doubled"]), 2)
        self.assertEqual(rows["window:15", 2, 64]["doubled"], "")
        self.assertAlmostEqual(float(rows["window:15", 2, 64]["dense"]), 0.8)
        self.assertAlmostEqual(float(rows["random:4,100", 2, 8]["dense"]), 0.9)
        self.assertEqual(float(rows["random:4,100", 2, 8]["total"]), 1024)
        self.assertAlmostEqual(float(rows["moba:4,2", 2, 8]["dense"]), 0.7)

    def test_missed_bars_are_named(self):
        done, _, _ = self.run_script(window=74, blocks=79)
        self.assertEqual(done.returncode, 1)
        self.assertIn("window:15 on 1 ranks, 64 tokens: 0.740 of the dense rate", done.stderr)
        self.assertIn("random:4,100 on 1 ranks, 8 tokens: 0.790 of the dense rate", done.stderr)

    def test_other_traffic_than_the_masks_is_an_error(self):
        done, rows, _ = self.run_script("--ranks", "2", total=1000)
        self.assertEqual(done.returncode, 1)
        self.assertIn("1000 bytes are sent in all, not 1024", done.stderr)
        self.assertEqual(rows, {})

    def test_a_union_counts_what_others_hold_once(self):
        self.assertEqual(sparse.union_of_blocks(4, 100, 2, 8), 8)
        self.assertEqual(sparse.union_of_blocks(4, 0, 2, 8), 0)
        self.assertEqual(sparse.union_of_blocks(3, 100, 2, 8), 8)


if __name__ == "__main__":
    unittest.main()
