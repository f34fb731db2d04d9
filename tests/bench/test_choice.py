"""bench/choice on times that are known."""

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

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/choice"
sys.path.insert(0, str(SCRIPT.parent))
loader = importlib.machinery.SourceFileLoader("choice", str(SCRIPT))
choice = importlib.util.module_from_spec(importlib.util.spec_from_loader("choice", loader))
loader.exec_module(choice)


def planned(strategy, seconds, layout="zigzag", fits=True):
    return {"strategy": strategy, "layout": layout, "predicted_seconds": seconds, "fits": fits}


# Stands for longspan, started through LAUNCHER, which stands for mpirun: every strategy takes twice its predicted time, but for
# the ring, which takes 1.2 s; a line of each run goes to `log`.
FAKE = textwrap.dedent("""
    import json, os, sys
    arguments = sys.argv[1:]
    ranking = [{"strategy": "heads", "layout": "zigzag", "predicted_seconds": 1.0, "fits": True},
               {"strategy": "ring", "layout": "striped:64", "predicted_seconds": 1.1, "fits": True},
               {"strategy": "gather", "layout": "zigzag", "predicted_seconds": 9.0, "fits": True},
               {"strategy": "shared", "layout": "zigzag", "refused": "no"}]
    launched = "CHOICE_RANKS" in os.environ
    assert arguments[-1] == "--force", arguments
    value = lambda name: arguments[arguments.index(name) + 1]
    with open(os.environ["CHOICE_LOG"], "a") as log:
        log.write(" ".join([os.environ["LONGSPAN_MACHINE"]] + arguments) + "\\n")
    if arguments[0] == "plan":
        assert not launched and value("--ranks") == "2"
        result = {"ranking": ranking}
    else:
        assert launched and arguments[:2] == ["bench", "attention"], arguments
        [one] = [x for x in ranking if (x["strategy"], x["layout"]) == (value("--strategy"), value("--layout"))]
        result = {"median_wall": 1.2 if one["strategy"] == "ring" else 2 * one["predicted_seconds"]}
    with open(value("--report"), "w") as file:
        json.dump(result, file)
""")


LAUNCHER = textwrap.dedent("""
    import os, sys
    os.environ["CHOICE_RANKS"] = sys.argv[1]
    os.execv(sys.argv[2], sys.argv[2:])
""")


class Choice(unittest.TestCase):
    def test_what_is_refused_or_hopeless_or_too_large_is_left_out(self):
        ranking = [planned("ring", 1.0), planned("heads", 2.9), planned("gather", 3.1), planned("queries", 1, fits=False),
                   {"strategy": "shared", "layout": "zigzag", "refused": "no"}]
        self.assertEqual([one["strategy"] for one in choice.candidates_of(ranking, 3)], ["ring", "heads"])

    def test_what_auto_picked_is_run_however_bad(self):
        ranking = [planned("ring", 5.0), planned("heads", 1.0)]
        self.assertEqual([one["strategy"] for one in choice.candidates_of(ranking, 3)], ["ring", "heads"])

    def test_nothing_that_fits_is_an_error(self):
        with self.assertRaises(choice.Failure):
            choice.candidates_of([planned("ring", 1.0, fits=False)], 3)

    def test_the_verdict_is_of_the_first_candidate(self):
        for measured, best, met, near in ((1.0, 0.96, True, True), (1.0, 0.9, False, True), (1.2, 1.2, True, False),
                                          (0.84, 0.84, True, False)):
            with self.subTest(measured=measured, best=best):
                candidates = [{**planned("ring", 1.0), "measured_seconds": measured},
                              {**planned("heads", 1.0), "measured_seconds": best}]
                verdict = choice.judge("a problem", candidates)
                self.assertAlmostEqual(verdict["auto_over_best"], measured / best)
                self.assertAlmostEqual(verdict["measured_over_predicted"], measured)
                self.assertEqual((verdict["best_is_met"], verdict["prediction_is_met"]), (met, near))

    def test_every_problem_has_a_small_one_of_its_kind(self):
        self.assertEqual(len(choice.PROBLEMS), 8)
        for large, small in choice.PROBLEMS.values():
            names = [[word for word in text.split() if word.startswith("--")] for text in (large, small)]
            self.assertEqual(*names)

    def test_candidates_run_in_turn_and_every_other_round_in_reverse(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            (folder / "fake.py").write_text(FAKE, encoding="utf-8")
            (folder / "launcher.py").write_text(LAUNCHER, encoding="utf-8")
            (folder / "machine.json").write_text('{"kernel": "k"}', encoding="utf-8")
            command = f"{sys.executable} {folder / 'fake.py'}"
            done = subprocess.run(
                [sys.executable, "-B", SCRIPT, "--longspan", command, "--launcher",
                 f"{sys.executable} {folder / 'launcher.py'}", "--rounds", "2", "--machine", folder / "machine.json",
                 "--problem", "decode", "--output", folder / "out"],
                env={"CHOICE_LOG": str(folder / "log")}, capture_output=True, text=True, check=False)  # fmt: skip
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertRegex(done.stderr, r"^choice: bars missed: decode: auto / best 1\.667 above 1\.05; "
                                          r"decode: measured / predicted \S+ not within 0\.15 of 1\n$")
            lines = (folder / "log").read_text(encoding="utf-8").splitlines()
            with open(folder / "out/choice.csv", newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            summary = json.loads((folder / "out/choice.json").read_text(encoding="utf-8"))
        self.assertTrue(all(line.startswith(f"{folder}/machine.json ") for line in lines))
        ran = [line.split("--strategy ")[1].split()[0] for line in lines if " bench " in line]
        self.assertEqual(ran, ["heads", "ring", "ring", "heads"])  # gather is predicted to be hopeless
        self.assertEqual([(row["strategy"], row["auto"], row["measured"]) for row in rows],
                         [("heads", "1", "2.0"), ("ring", "0", "1.2")])
        [verdict] = summary["problems"]
        self.assertEqual((verdict["auto"], verdict["best"]), ("heads zigzag", "ring striped:64"))
        self.assertEqual((verdict["best_is_met"], verdict["prediction_is_met"]), (False, False))
        self.assertIn("0 of 1 problems meet both bars", done.stdout)


if __name__ == "__main__":
    unittest.main()
