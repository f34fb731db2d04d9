"""sparsemax and entmax of longspan attend: against numpy in float64 and by longspan verify, which must notice what is wrong;
what plan says of them, and what is refused."""
import json
import shutil

import harness
import h5py
import numpy
import oracle

N = 131
DOCUMENTS = [0, 7, 7, 50, 51, N]
ALPHAS = {"sparsemax": 2.0, "entmax": 1.5, "entmax:1.25": 1.25}


def entmax(q, k, v, seen, alpha, slopes=None):
    """out [B, N, H, E] and threshold [B, N, H]: rows are sorted, and tau is bisected until sum (z - tau)_+^r is 1."""
    k, v = (numpy.repeat(x, q.shape[2] // k.shape[2], 2) for x in (k, v))
    scores = q.shape[3] ** -0.5 * numpy.einsum("bihd,bjhd->bhij", q, k)
    if slopes is not None:
        i, j = numpy.arange(q.shape[1])[:, None], numpy.arange(k.shape[1])[None, :]
        scores = scores - numpy.array(slopes, "f4").astype("f8")[:, None, None] * numpy.abs(i + k.shape[1] - q.shape[1] - j)
    z = numpy.where(seen, (alpha - 1) * scores, -numpy.inf)
    order = numpy.sort(z, 3)[..., ::-1]
    high = order[..., 0].copy()
    low = high - 1
    for _ in range(70):
        middle = (low + high) / 2
        with numpy.errstate(invalid="ignore"):
            sums = (numpy.maximum(order - middle[..., None], 0) ** (1 / (alpha - 1))).sum(3)
        low, high = numpy.where(sums >= 1, middle, low), numpy.where(sums >= 1, high, middle)
    empty = numpy.isneginf(order[..., 0])
    weights = numpy.maximum(z - numpy.where(empty, 0, low)[..., None], 0) ** (1 / (alpha - 1))
    return numpy.einsum("bhij,bjhe->bihe", weights, v), numpy.where(empty, -numpy.inf, low).transpose(0, 2, 1)


def check(case, path, reference, context):
    with h5py.File(path) as file:
        case.assertNotIn("lse", file, context)
        out, threshold = file["out"][...].astype("f8")[None], file["threshold"][...].astype("f8")[None]
    empty = numpy.isneginf(reference[1])
    case.assertTrue(numpy.array_equal(numpy.isneginf(threshold), empty), context)
    case.assertTrue((out[empty] == 0).all(), context)
    case.assertLess(numpy.abs(threshold[~empty] - reference[1][~empty]).max(), 1e-5, context)
    case.assertLess(oracle.relative_rms(out, reference[0]), 1e-6, context)


def attribute(path, name):
    with h5py.File(path) as file:
        return file.attrs[name]


class Entmax(harness.Case):
    def test_results_equal_float64_and_pass_verify(self):
        slopes = [0.5, 0.0, 0.03, 1.5]
        inputs = {packed: oracle.make_input(self.path(f"{packed}.h5"), N, heads=4, kv_heads=2, dim=24, value_dim=8,
                                            documents=DOCUMENTS if packed else None, slopes=slopes if packed else None,
                                            sharpness=2.0)
                  for packed in (False, True)}
        masks = ("full", "causal", "window:20,3")
        cases = [(name, mask, (n + m + ranks // 2) % 2 == 1, ranks) for n, name in enumerate(ALPHAS)
                 for m, mask in enumerate(masks) for ranks in (1, 3)]
        rules = {"full": False, "causal": True, "window:20,3": lambda p, j: (j >= p - 20) & (j <= p + 3)}

        def file_of(case):
            return "-".join(map(str, case)).replace(":", "_") + ".h5"

        def attend(case):
            name, mask, packed, ranks = case
            self.succeed("attend", f"{packed}.h5", "-o", file_of(case), "--quiet", "--mask", mask, "--attention", name,
                         *(("--support", "16") if ranks == 3 else ()), ranks=ranks)
            return self.longspan("verify", f"{packed}.h5", file_of(case), "--rows", "131", ranks=2)

        for case, verify in zip(cases, harness.in_parallel(attend, cases)):
            name, mask, packed, ranks = case
            with self.subTest(case=case):
                seen = oracle.visible(N, N, rules[mask], DOCUMENTS if packed else None)
                check(self, self.path(file_of(case)),
                      entmax(*inputs[packed], seen, ALPHAS[name], slopes if packed else None), str(case))
                self.assertEqual(verify.status, 0, str(verify))

    def test_verify_notices_what_is_wrong(self):
        oracle.make_input(self.path("in.h5"), N)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--attention", "entmax")
        self.assertEqual(attribute(self.path("out.h5"), "attention"), "entmax:1.5")

        def spoil(change):
            shutil.copy(self.path("out.h5"), self.path("other.h5"))
            with h5py.File(self.path("other.h5"), "a") as file:
                change(file)
            return self.longspan("verify", "in.h5", "other.h5", "--rows", "131", ranks=2)

        def add(file, name, at, amount):
            file[name][at] += amount

        for change in (lambda f: add(f, "out", (70, 1, 3), 1e-3), lambda f: add(f, "threshold", (3, 0), 1e-4),
                       lambda f: f.attrs.__setitem__("attention", "entmax:1.51"),
                       lambda f: f.attrs.__setitem__("attention", "sparsemax")):
            self.assertEqual(spoil(change).status, 3)
        self.assert_refused(spoil(lambda f: f.attrs.__setitem__("attention", "entmax:2.5")), 4, "attention is 'entmax:2.5'")
        self.assert_refused(spoil(lambda f: f.attrs.__setitem__("attention", "softmax")), 4, "/lse")

    def test_plan_and_bench_know_it(self):
        shape = ("--tokens", "16k", "--heads", "8", "--dim", "64", "--ranks", "4", "--report", "r.json", "--force")
        self.succeed("plan", *shape, "--attention", "softmax", ranks=1)
        with open(self.path("r.json"), encoding="utf-8") as file:
            softmax = json.load(file)
        result = self.succeed("plan", *shape, "--attention", "sparsemax", "--support", "256", ranks=1)
        with open(self.path("r.json"), encoding="utf-8") as file:
            report = json.load(file)
        self.assertRegex(result.out, "sparsemax .*lists of 256 keys")
        self.assertRegex(result.out, "queries .*refused: .*entmax")
        self.assertEqual(report["problem"]["alpha"], 2)
        # Scores alone are counted: D of the D + E.
        self.assertEqual(report["sum"]["flops"], softmax["sum"]["flops"] / 2)
        self.assertEqual(report["sum"]["scores"], softmax["sum"]["scores"])
        rows = 16384 // 4 * 8
        self.assertGreaterEqual(report["rank"]["memory_bytes"]["max"], rows * 8 * 256)
        result = self.succeed("bench", "attention", "--tokens", "200", "--heads", "2", "--dim", "16", "--repeat", "1",
                              "--attention", "entmax:1.75", ranks=2)
        self.assertRegex(result.out, "entmax:1.75, lists of 128 keys")

    def test_what_has_no_meaning_is_refused_naming_both(self):
        oracle.make_input(self.path("in.h5"), N)
        oracle.make_input(self.path("sinks.h5"), N, sinks=[1, 2])
        attend = ("attend", "in.h5", "-o", "o.h5")
        refusals = [((*attend, "--attention", "entmax:1"), "entmax:1'.*1.001 to 2"),
                    ((*attend, "--attention", "entmax:x"), "entmax:x"),
                    ((*attend, "--attention", "sparsemax", "--compute", "bf16"), "--compute bf16.*sparsemax"),
                    ((*attend, "--attention", "sparsemax", "--state"), "--state.*sparsemax"),
                    ((*attend, "--attention", "sparsemax", "--strategy", "chain"), "--strategy chain.*sparsemax"),
                    ((*attend, "--attention", "sparsemax", "--strategy", "queries"), "queries.*entmax"),
                    ((*attend, "--support", "64"), "--support.*softmax"),
                    ((*attend, "--attention", "retention", "--support", "64"), "--support.*retention"),
                    (("attend", "sinks.h5", "-o", "o.h5", "--attention", "entmax"), "sinks.*alpha 1.5"),
                    (("generate", "o.h5", "--tokens", "9", "--attention", "entmax"), "entmax"),
                    (("bench", "kernels", "--attention", "entmax"), "bench kernels.*entmax")]
        for arguments, text in refusals:
            self.assert_refused(self.longspan(*arguments, ranks=1 if arguments[0] == "bench" else 2), 2, text)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--attention", "sparsemax")
        self.assert_refused(self.longspan("map", "out.h5", "-o", "o.svg"), 2, "sparsemax", "map")


if __name__ == "__main__":
    harness.main()
