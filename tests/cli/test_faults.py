"""Faults while an output is written, and at agreement points, on any rank: an agreed exit status, one line, nothing
half-written, no hang.

LONGSPAN_FAILWRITE is the library of tests/io/failwrite.c. Every call on the output file that it can let fail is made to
fail, one run each, until a run is left alone. Faults at agreement points need a build with LONGSPAN_FAULT_INJECTION.
"""
import errno
import os
import shutil

import harness
import h5py
import numpy

FAILWRITE = os.environ.get("LONGSPAN_FAILWRITE", "")
MOST_CALLS = 60
N, H, D = 200, 4, 8
COMMANDS = {
    "attend": ["attend", "in.h5", "-o", "out.h5", "--quiet"],
    "striped": ["attend", "in.h5", "-o", "out.h5", "--quiet", "--layout", "striped:8"],  # rows pass from rank to rank
    "generate": ["generate", "out.h5", "--tokens", "1000", "--heads", "2", "--dim", "8", "--quiet"],
    "embed": ["embed", "text", "book.txt", "-o", "out.h5", "--dim", "8", "--quiet"],
    "map": ["map", "result.h5", "-o", "out.svg", "--blocks", "4", "--quiet"],
    "verify": ["verify", "in.h5", "result.h5", "--quiet"],
    "linear": ["attend", "linear.h5", "-o", "out.h5", "--attention", "gated-delta", "--state", "--quiet"],
    "linear-verify": ["verify", "linear.h5", "linear-result.h5", "--quiet"],
}
INPUTS = ["book.txt", "in.h5", "linear-result.h5", "linear.h5", "result.h5"]
OUTPUTS = {"attend": ["out.h5"], "striped": ["out.h5"], "generate": ["out.h5"], "embed": ["out.h5"], "map": ["out.svg"],
           "verify": [], "linear": ["out.h5"], "linear-verify": []}

# Chance that a rank fails at an agreement point: a command has few or many of them, and both ends are to be seen.
FAULT_RATES = {"attend": 0.01, "striped": 0.01, "generate": 0.04, "embed": 0.04, "map": 0.02, "verify": 0.03,
               "linear": 0.01, "linear-verify": 0.03}


# Ranks, the one that fails, and how.
EVERYWHERE = ((1, 0, errno.EIO), (2, 0, errno.ENOSPC), (2, 1, errno.EIO), (4, 0, errno.EIO), (4, 1, errno.ENOSPC),
              (4, 3, errno.EIO))

SEEDS = range(1000, 7000, 1000)  # the draws of seed s at point p are those of s + 1 at p - 1: neighbours are no test


class Faults(harness.Case):
    def setUp(self):
        super().setUp()
        random = numpy.random.default_rng(1)
        with h5py.File(self.path("in.h5"), "w") as file:
            for name in "qkv":
                file[name] = random.standard_normal((N, H, D)).astype("f4")
        with open(self.path("book.txt"), "w") as file:
            file.write("Alice was beginning to get very tired of sitting by her sister on the bank. " * 8)
        self.succeed(*COMMANDS["attend"])
        os.rename(self.path("out.h5"), self.path("result.h5"))
        self.succeed("generate", "linear.h5", "--tokens", N, "--heads", H, "--dim", D, "--attention", "gated-delta",
                     "--quiet")
        self.succeed(*COMMANDS["linear"])
        os.rename(self.path("out.h5"), self.path("linear-result.h5"))
        self.expected = {}
        for name in ("attend", "striped", "generate", "embed", "linear"):
            self.succeed(*COMMANDS[name])
            self.expected[name] = self.contents(self.path("out.h5"))
            os.remove(self.path("out.h5"))

    def contents(self, path):
        with h5py.File(path) as file:
            return {name: file[name][...] for name in file}

    def attempt(self, command, ranks, env):
        """Runs in a folder of its own; returns the result, the files that it left, and its contents if it is complete."""
        folder = os.path.join(self.folder, f"{abs(hash((tuple(command), ranks, tuple(env.items()))))}")
        os.mkdir(folder)
        for name in INPUTS:
            os.link(self.path(name), os.path.join(folder, name))
        result = harness.run(*command, ranks=ranks, env=env, folder=folder)
        left = sorted(set(os.listdir(folder)) - set(INPUTS))
        contents = self.contents(os.path.join(folder, "out.h5")) if left == ["out.h5"] else None
        shutil.rmtree(folder)
        return result, left, contents

    def assert_complete(self, name, result, left, contents):
        self.assertEqual(left, OUTPUTS[name], str(result))
        for dataset, values in self.expected.get(name, {}).items():
            numpy.testing.assert_allclose(contents[dataset], values, rtol=1e-4, atol=1e-5, err_msg=str(result))

    def fail_every_write(self, name, ranks, rank, number):
        """The number of calls that could fail."""
        def attempt(nth):
            return nth, self.attempt(COMMANDS[name], ranks, {
                "LD_PRELOAD": harness.preload(FAILWRITE), "FAILWRITE_PATH": OUTPUTS[name][0], "FAILWRITE_NTH": nth,
                "FAILWRITE_RANK": rank, "FAILWRITE_ERRNO": number})

        for first in range(1, MOST_CALLS, harness.JOBS):
            for nth, (result, left, contents) in harness.in_parallel(attempt, range(first, first + harness.JOBS)):
                if result.status == 0:
                    self.assert_complete(name, result, left, contents)
                    return nth - 1
                self.assert_refused(result, 4, OUTPUTS[name][0], os.strerror(number))
                self.assertEqual(left, [], str(result))
        return self.fail(f"{name}: more than {MOST_CALLS} calls on the output failed")

    def check_writes(self, name, cases=EVERYWHERE):
        if not FAILWRITE:
            self.skipTest("LONGSPAN_FAILWRITE is not set")
        for ranks, rank, number in cases:
            with self.subTest(command=name, ranks=ranks, failing=rank, errno=errno.errorcode[number]):
                # A rank writes each dataset and flushes, rank 0 the header too.
                self.assertGreaterEqual(self.fail_every_write(name, ranks, rank, number), 2)

    def test_attend_survives_any_failing_write(self):
        self.check_writes("attend")

    def test_linear_attend_survives_any_failing_write(self):
        self.check_writes("linear", ((1, 0, errno.EIO), (3, 2, errno.ENOSPC)))

    def test_generate_survives_any_failing_write(self):
        self.check_writes("generate", ((1, 0, errno.EIO), (4, 3, errno.ENOSPC)))

    def test_embed_survives_any_failing_write(self):
        self.check_writes("embed", ((1, 0, errno.ENOSPC), (4, 3, errno.EIO)))

    def test_map_survives_any_failing_write(self):
        self.check_writes("map", ((1, 0, errno.EIO), (3, 0, errno.ENOSPC)))

    def test_failure_on_another_rank_is_told_by_rank_0_with_its_number(self):
        if not FAILWRITE:
            self.skipTest("LONGSPAN_FAILWRITE is not set")
        result, left, _ = self.attempt(COMMANDS["generate"], 4, {
            "LD_PRELOAD": harness.preload(FAILWRITE), "FAILWRITE_PATH": "out.h5", "FAILWRITE_RANK": 2,
            "FAILWRITE_CALL": "fsync"})
        self.assert_refused(result, 4, r"out\.h5.*\[rank 2\]$")
        self.assertEqual(left, [])

    def test_faults_at_agreement_points_are_agreed_on(self):
        if not harness.has_fault_injection():
            self.skipTest("built without LONGSPAN_FAULT_INJECTION")

        def attempt(case):
            name, ranks, seed = case
            return case, self.attempt(COMMANDS[name], ranks, {"LONGSPAN_FAULT": f"{seed}:{FAULT_RATES[name]}"})

        cases = [(name, ranks, seed) for name in COMMANDS for ranks in (2, 3) for seed in SEEDS]
        failed = {name: 0 for name in COMMANDS}
        for (name, ranks, seed), (result, left, contents) in harness.in_parallel(attempt, cases):
            with self.subTest(command=name, ranks=ranks, seed=seed):
                if result.status == 0:
                    self.assert_complete(name, result, left, contents)
                    continue
                failed[name] += 1
                result.out = ""  # verify may have printed its table before it failed
                self.assert_refused(result, 1, "injected fault")
                self.assertEqual(left, [], str(result))
        for name, count in failed.items():
            self.assertGreater(count, 0, f"no seed made {name} fail: the test has become blind")
            self.assertLess(count, 12, f"every seed made {name} fail")


if __name__ == "__main__":
    harness.main()
