"""bench/scaling on reports whose figures are known."""

import csv
import importlib.machinery
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/scaling"
sys.path.insert(0, str(SCRIPT.parent))
loader = importlib.machinery.SourceFileLoader("scaling", str(SCRIPT))
scaling = importlib.util.module_from_spec(importlib.util.spec_from_loader("scaling", loader))
loader.exec_module(scaling)


def statistics_of(mean, largest):
    return {"min": mean, "mean": mean, "max": largest, "min_rank": 0, "max_rank": 0}


def sample(wall, compute_mean, compute_max, flops=8e9, wait=0.1, finish=0.05):
    phases = {"compute": statistics_of(compute_mean, compute_max), "wait": statistics_of(wait, wait),
              "finish": statistics_of(finish, finish), "transfer": statistics_of(0.2, 0.2),
              "total": statistics_of(wall, wall)}
    return {"wall": wall, "phases": phases, "flops": flops, "bytes_sent": statistics_of(900, 1000), "overlap": 0.5}


def report(ranks, samples, tokens=4096, cpu="Test CPU (R) 9000 @ 3.00GHz", cores=2):
    return {"problem": {"queries": tokens}, "plan": {"ranks": ranks, "threads": 1}, "repeat": samples,
            "median_wall": samples[0]["wall"], "gflops": 1.0, "peak_gflops": 10.0, "fraction_of_peak": 0.5,
            "memory_peak_bytes": statistics_of(1 << 20, 2 << 20), "machine": {"cpu": cpu, "cores": cores},
            "versions": {"longspan": "0.1.0"}}


# Stands for `LAUNCHER RANKS longspan bench attention ...`: a perfect machine of 1 GFLOP/s a rank.
FAKE = textwrap.dedent("""
    import json, sys
    sys.path.insert(0, {tests!r})
    import test_scaling as t
    arguments = sys.argv[1:]
    ranks, tokens = int(arguments[0]), int(arguments[arguments.index("--tokens") + 1])
    assert arguments[1:4] == ["longspan", "bench", "attention"], arguments
    flops = float(tokens) ** 2
    wall = flops / ranks * 1e-9
    samples = [t.sample(wall, 0.8 * wall, 0.9 * wall, flops, 0.1 * wall, 0.0)] * int(arguments[arguments.index("--repeat") + 1])
    with open(arguments[arguments.index("--report") + 1], "w") as file:
        json.dump(t.report({ranks}, samples, tokens), file)
""")


class Analysis(unittest.TestCase):
    def test_a_point_has_median_spread_and_pop_factors_of_all_its_samples(self):
        launches = [report(2, [sample(2.0, 1.2, 1.5), sample(1.0, 0.6, 0.75)]), report(2, [sample(4.0, 2.4, 3.0)])]
        [point] = scaling.analyse({("strong", 2): launches})
        self.assertEqual(point["samples"], 3)
        self.assertEqual([point[f"wall_{what}"] for what in ("min", "q1", "median", "q3", "max")], [1, 1.5, 2, 3, 4])
        self.assertAlmostEqual(point["gflops"], 4.0)
        self.assertAlmostEqual(point["load_balance"], 0.8)
        self.assertAlmostEqual(point["communication_efficiency"], 0.75)
        self.assertAlmostEqual(point["parallel_efficiency"], 0.6)

    def test_phases_are_those_of_the_median_sample_and_add_up_to_its_wall_time(self):
        [point] = scaling.analyse({("strong", 1): [report(1, [sample(2.0, 1.2, 1.5), sample(1.0, 0.6, 0.75),
                                                              sample(4.0, 2.4, 3.0)])]})
        self.assertAlmostEqual(point["compute"], 1.2)
        self.assertAlmostEqual(sum(point[name] for name in ("compute", "wait", "finish", "other")), 2.0)

    def test_strong_scaling_compares_times_with_the_smallest_rank_count(self):
        reports = {("strong", ranks): [report(ranks, [sample(wall, 1.0, 1.0)])] for ranks, wall in ((8, 2.0), (2, 6.0))}
        two, eight = scaling.analyse(reports)
        self.assertEqual((two["speedup"], two["efficiency"]), (2.0, 1.0))
        self.assertAlmostEqual(eight["speedup"], 6.0)
        self.assertAlmostEqual(eight["efficiency"], 0.75)

    def test_weak_scaling_compares_rates_since_work_a_rank_grows(self):
        reports = {("weak", 1): [report(1, [sample(1.0, 1.0, 1.0, flops=1e9)])],
                   ("weak", 2): [report(2, [sample(2.5, 1.0, 1.0, flops=4e9)])]}
        self.assertAlmostEqual(scaling.analyse(reports)[1]["efficiency"], 0.8)

    def test_more_threads_than_cores_are_marked(self):
        reports = {("strong", ranks): [report(ranks, [sample(1.0, 1.0, 1.0)], cores=2)] for ranks in (1, 2, 4)}
        self.assertEqual([point["oversubscribed"] for point in scaling.analyse(reports)], [0, 0, 1])
        self.assertEqual([point["oversubscribed"] for point in scaling.analyse(reports, cores=4)], [0, 0, 0])

    def test_reports_of_different_machines_are_refused(self):
        reports = {("strong", 1): [report(1, [sample(1, 1, 1)])], ("strong", 2): [report(2, [sample(1, 1, 1)], cpu="other")]}
        with self.assertRaisesRegex(scaling.Failure, "differ in cpu"):
            scaling.analyse(reports)

    def test_the_folder_is_named_after_the_cpu(self):
        self.assertRegex(scaling.default_folder(report(1, [sample(1, 1, 1)])).name, r"^\d{4}-\d\d-\d\d-test-cpu-9000$")


class Arguments(unittest.TestCase):
    def test_sizes_take_suffixes(self):
        self.assertEqual([scaling.size(text) for text in ("7", "64k", "1M")], [7, 65536, 1048576])

    def test_wrong_arguments_are_usage_errors(self):
        for wrong in (["--ranks", "0"], ["--ranks", "1,x"], ["--tokens", "1T"], ["--tokens", "0"], ["--repeat", "-1"]):
            done = subprocess.run([sys.executable, "-B", SCRIPT, *wrong], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, wrong)


class Runs(unittest.TestCase):
    def run_script(self, folder, ranks_reported, *arguments):
        fake = folder / "fake.py"
        tests = str(pathlib.Path(__file__).parent)
        fake.write_text(FAKE.replace("{tests!r}", repr(tests)).replace("{ranks}", ranks_reported))
        return subprocess.run(
            [sys.executable, "-B", SCRIPT, "--launcher", f"{sys.executable} -B {fake} {{ranks}}", "--longspan", "longspan",
             "--ranks", "4,1,2", "--tokens", "4k", "--tokens-per-rank", "1k", "--launches", "2", "--repeat", "2",
             "-o", str(folder / "results"), *arguments], capture_output=True, text=True)

    def test_tables_reports_and_plots_are_written(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            done = self.run_script(folder, "ranks")
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(folder / "results/scaling.csv", newline="") as file:
                rows = list(csv.DictReader(file))
            self.assertEqual([(row["study"], int(row["ranks"])) for row in rows],
                             [("strong", 1), ("strong", 2), ("strong", 4), ("weak", 1), ("weak", 2), ("weak", 4)])
            self.assertEqual([int(row["tokens"]) for row in rows], [4096] * 3 + [1024, 2048, 4096])
            self.assertEqual([float(row["efficiency"]) for row in rows], [1.0] * 6)
            self.assertEqual({row["samples"] for row in rows}, {"4"})
            result = json.loads((folder / "results/scaling.json").read_text())
            self.assertEqual(len(result["points"]), 6)
            self.assertEqual(result["machine"]["cores"], 2)
            self.assertEqual(len(list((folder / "results/reports").iterdir())), 12)
            if shutil.which("gnuplot"):
                for study in ("strong", "weak"):
                    for plot in ("speedup", "efficiency", "phases"):
                        text = (folder / f"results/{study}-{plot}.svg").read_text()
                        self.assertTrue(text.rstrip().endswith("</svg>"), plot)
                self.assertNotIn("warning", done.stderr.lower())

            again = self.run_script(folder, "ranks")
            self.assertEqual(again.returncode, 1)
            self.assertIn("is not empty", again.stderr)
            self.assertEqual(self.run_script(folder, "ranks", "--force").returncode, 0)

    def test_ranks_that_came_up_alone_are_an_error(self):
        with tempfile.TemporaryDirectory() as name:
            done = self.run_script(pathlib.Path(name), "1")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, "ran on 1 ranks, not 2")

    def test_a_failed_launch_is_reported_with_what_it_said(self):
        with tempfile.TemporaryDirectory() as name:
            done = self.run_script(pathlib.Path(name), "sys.exit('no such kernel')")
            self.assertEqual(done.returncode, 1)
            self.assertIn("no such kernel", done.stderr)


if __name__ == "__main__":
    unittest.main()
