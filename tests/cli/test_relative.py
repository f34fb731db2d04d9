"""Relative keys of windows in longspan attend, against numpy in float64 and by longspan verify; what generate, bench, plan
and info make of them; and what does not go with them."""
import json
import shutil

import harness
import h5py
import numpy
import oracle

N, H, D = 131, 4, 24
DOCUMENTS = [0, 7, 7, 50, 51, N]


def relative(left, right, biases=True, seed=5):
    random = numpy.random.default_rng(seed)
    arrays = [random.standard_normal((left + right + 1, H, D)), random.standard_normal((H, D)),
              random.standard_normal((H, D))]
    return (left, *(array.astype("f4").astype("f8") for array in arrays[: 3 if biases else 1]))


def in_window(left, right):
    return lambda p, j: (j >= p - left) & (j <= p + right)


def with_globals(left, right, at):
    return lambda p, j: in_window(left, right)(p, j) | numpy.isin(p, at) | numpy.isin(j, at)


CASES = {  # options, LEFT, RIGHT, rule, what else there is, biases, place, ranks
    "window": (["--mask", "window:20,7"], 20, 7, in_window(20, 7), {}, True, "contiguous", 3),
    "one-key": (["--mask", "window:0,0"], 0, 0, in_window(0, 0), {}, True, "auto", 2),
    "wider": (["--mask", "window:200,150"], 200, 150, in_window(200, 150), {}, True, "zigzag", 3),
    "causal": (["--mask", "window:30"], 30, 0, in_window(30, 0), {"kind": "bfloat16"}, True, "striped:8", 5),
    "chunks": (["--mask", "window:30,30+chunk:16"], 30, 30,
               lambda p, j: in_window(30, 30)(p, j) & (p // 16 == j // 16), {}, False, "auto", 2),
    "documents": (["--mask", "window:9,60"], 9, 60, in_window(9, 60), {"documents": DOCUMENTS}, True, "striped", 3),
    "lengths": (["--mask", "window:9,9"], 9, 9, in_window(9, 9), {"batch": 2, "key_lengths": [N, 40]}, True, "auto", 2),
    "global": (["--pattern", "global:20,7,0,64-66"], 20, 7, with_globals(20, 7, [0, 64, 65, 66]), {}, True, "auto", 1),
    "global-documents": (["--pattern", "global:5,5,0"], 5, 5, with_globals(5, 5, [0]),
                         {"documents": DOCUMENTS, "kind": "float16"}, True, "auto", 5),
    "sinks": (["--mask", "window:8,8", "--softcap", "2"], 8, 8, in_window(8, 8), {"sinks": [0.7, -2, 3, 1]}, True, "auto", 2),
}


class Relative(harness.Case):
    def test_every_case_equals_float64(self):
        def attend(name):
            options, left, right, _, extra, biases, place, ranks = CASES[name]
            arrays = oracle.make_input(self.path(f"{name}.h5"), N, heads=H, kv_heads=2, dim=D, value_dim=8,
                                       relative=relative(left, right, biases), **extra)
            self.succeed("attend", f"{name}.h5", "-o", f"{name}-out.h5", "--quiet", "--layout", place, *options, ranks=ranks)
            verified = self.succeed("verify", f"{name}.h5", f"{name}-out.h5", "--rows", "1M", ranks=2)
            self.assertIn(f"{name}-out.h5: PASSED", verified.out)
            return arrays

        for name, arrays in zip(CASES, harness.in_parallel(attend, CASES)):
            options, left, right, rule, extra, biases, _, _ = CASES[name]
            with self.subTest(name):
                reference = oracle.attention(*arrays, oracle.visible(N, N, rule, extra.get("documents")),
                                             softcap=2 if "--softcap" in options else None, sinks=extra.get("sinks"),
                                             key_lengths=extra.get("key_lengths"),
                                             relative=relative(left, right, biases))
                oracle.check(self, self.path(f"{name}-out.h5"), reference, extra.get("kind", "float32"))

    def test_verify_notices_other_keys_biases_and_sides(self):
        oracle.make_input(self.path("in.h5"), N, heads=H, dim=D, relative=relative(9, 3))
        self.succeed("attend", "in.h5", "-o", "out.h5", "--mask", "window:9,3")
        for dataset, place in (("relative_keys", (2, 1, 5)), ("relative_bias_u", (0, 0)), ("relative_bias_w", (3, 2))):
            shutil.copy(self.path("in.h5"), self.path("changed.h5"))
            with h5py.File(self.path("changed.h5"), "r+") as file:
                file[dataset][place] += 1e-2
            self.assertEqual(self.longspan("verify", "changed.h5", "out.h5", "--rows", "1M").status, 3, dataset)
        shutil.copy(self.path("out.h5"), self.path("other.h5"))
        with h5py.File(self.path("other.h5"), "r+") as file:
            self.assertEqual(file.attrs["relative"], 1)
            file.attrs["mask"] = "window:8,4"
        self.assertEqual(self.longspan("verify", "in.h5", "other.h5", "--rows", "1M").status, 3)
        with h5py.File(self.path("other.h5"), "r+") as file:
            file.attrs["mask"] = "window:9,4"
        self.assert_refused(self.longspan("verify", "in.h5", "other.h5"), 4, r"other\.h5", "13 rows", "needs 14")
        with h5py.File(self.path("in.h5"), "r+") as file:
            del file["relative_keys"], file["relative_bias_u"], file["relative_bias_w"]
        self.assert_refused(self.longspan("verify", "in.h5", "out.h5"), 4, "with relative keys", r"in\.h5 has none")

    def test_what_does_not_go_together_is_refused_naming_both(self):
        oracle.make_input(self.path("in.h5"), 40, heads=H, dim=D, relative=relative(9, 3))
        oracle.make_input(self.path("slopes.h5"), 40, heads=H, dim=D, relative=relative(9, 3), slopes=[1, 1, 1, 1])
        window = ["--mask", "window:9,3"]
        for source, options, said in (
                ("in", [], ["relative_keys", "window"]), ("in", ["--mask", "causal"], ["relative_keys", "window"]),
                ("in", ["--mask", "window:9"], ["13 rows", "needs 10"]),
                ("in", ["--mask", "window:9,3+prefix:4", "--rope", "1e4"], ["relative_keys", "RoPE"]),
                ("in", ["--pattern", "global:9,3,0", *window], ["relative_keys", "window", "global:9,3,0"]),
                ("in", ["--pattern", "dilated:2,9,3"], ["relative_keys", "dilated:2,9,3"]),
                ("slopes", window, ["relative_keys", "alibi_slopes"])):
            result = self.longspan("attend", f"{source}.h5", "-o", "out.h5", *options)
            self.assert_refused(result, 2, *said)
        refused = self.longspan("attend", "in.h5", "-o", "out.h5", "--attention", "elu")
        self.assert_refused(refused, 4, "/relative_keys has no meaning for --attention elu")
        self.assert_refused(self.longspan("generate", "x.h5", "--tokens", "9", "--attention", "elu", "--relative", "1,1"), 2,
                            "--relative has no meaning with --attention elu")
        self.assert_refused(self.longspan("generate", "x.h5", "--tokens", "9", "--relative", "5"), 2, "LEFT,RIGHT")
        self.succeed("attend", "in.h5", "-o", "out.h5", *window)
        self.succeed("map", "out.h5", "-o", "map.svg")

    def test_generate_bench_plan_and_info_know_them(self):
        shape = ["--tokens", "300", "--heads", "2", "--dim", "16", "--relative", "12,5"]
        found = []
        for ranks in (1, 3):
            self.succeed("generate", "in.h5", *shape, "--force", ranks=ranks)
            with h5py.File(self.path("in.h5")) as file:
                found.append([file[name][...] for name in ("relative_keys", "relative_bias_u", "relative_bias_w")])
        self.assertEqual([array.shape for array in found[0]], [(18, 2, 16), (2, 16), (2, 16)])
        for one, other in zip(*found):
            numpy.testing.assert_array_equal(one, other)
            self.assertLess(abs(one.mean()), 0.5)
            self.assertLess(abs(one.std() - 1), 0.3)
        self.assertIn("relative keys of 18 offsets with biases", self.succeed("info", "in.h5", ranks=1).out)
        self.succeed("bench", "attention", *shape, "--mask", "window:12,5", "--repeat", "1", "--report", "bench.json")
        self.succeed("plan", *shape, "--mask", "window:12,5", "--ranks", "2", "--report", "plan.json", ranks=1)
        self.succeed("plan", "in.h5", "--mask", "window:12,5", "--ranks", "2", "--report", "file.json", ranks=1)
        self.succeed("plan", *shape[:-2], "--mask", "window:12,5", "--ranks", "2", "--report", "without.json", ranks=1)
        reports = []
        for name in ("bench", "plan", "file", "without"):
            with open(self.path(f"{name}.json"), encoding="utf-8") as file:
                reports.append(json.load(file))
        self.assertEqual([report["problem"]["relative"] for report in reports], [True, True, True, False])
        self.assertEqual(reports[1]["sum"]["flops"], reports[2]["sum"]["flops"])
        self.assertEqual(reports[1]["sum"]["flops"], 1.5 * reports[3]["sum"]["flops"])
        self.assertEqual(reports[0]["repeat"][0]["flops"], reports[1]["sum"]["flops"])
        self.assert_refused(self.longspan("plan", *shape, "--mask", "window:12,6", "--ranks", "2", ranks=1), 2, "18 rows",
                            "needs 19")
        self.assert_refused(self.longspan("plan", *shape, "--mask", "window:12,5", "--compute", "bf16", "--ranks", "2",
                                          ranks=1), 2, "relative_keys", "bf16")


if __name__ == "__main__":
    harness.main()
