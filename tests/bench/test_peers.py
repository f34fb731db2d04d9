"""bench/peers/pytorch with a PyTorch and a longspan whose times are known. Neither is needed."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/peers/pytorch"

# Stands for `longspan bench kernels ...`: a fold of 2 s and a finish of 0.5 s on each thread count.
LONGSPAN = """\
    #!{python}
    import json, sys
    given = dict(zip(sys.argv[3::2], sys.argv[4::2]))
    assert sys.argv[1:3] == ["bench", "kernels"] and given["--repeat"] == "1", sys.argv
    open({log!r}, "a").write("ours\\n")
    dims = [int(given["--dim"]), 72][: 2 if given["--tokens"] == "2048" else 1]
    results = [{{"shape": {{"type": given["--type"], "heads": 4, "kv_heads": 4, "dim": dim, "value_dim": dim,
                            "tokens": int(given["--tokens"]), "keys": 8192, "mask": given["--mask"], "score_scale": 1}},
                 "isa": "test", "compute": "fp32", "threads": int(given["--threads"]),
                 "flops": 10e9,
                 "samples": [{{"wall": 2.0, "finish": 0.5, "cpu": 1.0, "finish_cpu": 0.25, "peak": 20e9,
                              "memory": 0.0}}]}} for dim in dims]
    with open(given["--report"], "w") as file:
        json.dump({{"results": results, "machine": {{"cpu": "test"}}, "versions": {{"longspan": "0"}}}}, file)
"""

# Stands for the Python of the virtual environment, whose worker answers 5 s, then 10 s, and so on.
PYTHON = """\
    #!{python}
    import json, sys
    if sys.argv[1] == "-c":
        sys.exit(0)
    assert sys.argv[1].endswith("pytorch_worker.py"), sys.argv
    print(json.dumps({{"pytorch": "0", "pytorch_cpu": "test"}}), flush=True)
    for count, line in enumerate(sys.stdin, 1):
        {end}
        json.loads(line)["threads"]
        open({log!r}, "a").write("theirs\\n")
        print(json.dumps({{"wall": 5.0 * count, "cpu": 3.0}}), flush=True)
"""


class Peers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.log = self.folder / "log"
        self.log.touch()

    def write(self, path, text, **values):
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).format(python=sys.executable, log=str(self.log), **values))
        path.chmod(0o755)
        return path

    def run_script(self, *options, end="pass"):
        longspan = self.write(self.folder / "longspan", LONGSPAN)
        self.write(self.folder / "bin/python", PYTHON, end=end)
        return subprocess.run(
            [sys.executable, SCRIPT, "--longspan", longspan, "--install", self.folder, "-o", self.folder, *options],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, timeout=50)

    def test_the_two_take_turns_and_ratios_are_of_neighbours(self):
        done = self.run_script("--type", "float32", "--dim", "64", "--mask", "causal", "--threads", "2",
                               "--repeat", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.log.read_text().split(), ["ours", "theirs", "theirs", "ours", "ours", "theirs"])
        with open(self.folder / "pytorch.csv", encoding="utf-8") as file:
            (line,) = csv.DictReader(file)
        expected = {"type": "float32", "dim": "64", "mask": "causal", "tokens": "8192", "heads": "4", "threads": "2",
                    "isa": "test", "compute": "fp32", "ours_gflops": "4", "ours_fraction_of_peak": "0.25",
                    "ours_cpu_share": "0.25",
                    "pytorch_gflops": "1", "pytorch_max": "2", "pytorch_cpu_share": "0.15",
                    "ratio": "4", "ratio_min": "2", "ratio_max": "6", "ratio_by_cpu": "2.4"}  # fmt: skip
        self.assertEqual({name: line[name] for name in expected}, expected)
        result = json.loads((self.folder / "pytorch.json").read_text())
        self.assertEqual([pair["pytorch"]["wall"] for pair in result["results"][0]["samples"]], [5, 10, 15])
        self.assertEqual(result["versions"], {"longspan": "0", "pytorch": "0", "pytorch_cpu": "test"})

    def test_every_shape_and_thread_count_is_a_line(self):
        done = self.run_script("--repeat", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.folder / "pytorch.csv", encoding="utf-8") as file:
            lines = [(line["type"], line["dim"], line["mask"], line["threads"]) for line in csv.DictReader(file)]
        self.assertEqual(len(set(lines)), 2 * 2 * 2 * 2)
        self.assertEqual(len(lines), 16)

    def assert_refused(self, done, pattern):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, rf"^bench/peers/pytorch: .*{pattern}.*\n$")

    def test_an_unclear_shape_is_refused(self):
        self.assert_refused(self.run_script("--tokens", "2048"), "2 shapes fit, not one")
        self.assert_refused(self.run_script("--tokens", "16"), "causal mask differently")

    def test_a_peer_that_ends_is_reported(self):
        self.assert_refused(self.run_script(end="sys.exit(5)"), "ended with status 5")

    def test_a_failed_benchmark_is_reported_with_what_it_said(self):
        self.write(self.folder / "longspan", "#!{python}\nimport sys\nsys.exit('no such kernel')")
        done = subprocess.run([sys.executable, SCRIPT, "--longspan", self.folder / "longspan", "--install",
                               self.write(self.folder / "bin/python", PYTHON, end="pass").parent.parent],
                              capture_output=True, text=True, check=False, cwd=self.folder, timeout=50)
        self.assert_refused(done, "no such kernel")


if __name__ == "__main__":
    unittest.main()
