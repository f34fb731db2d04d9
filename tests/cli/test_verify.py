"""longspan verify: passes what is right, fails what is wrong."""
import re
import shutil

import harness
import h5py
import numpy
import oracle

ALL = ("--rows", "1M")


class Verify(harness.Case):
    def attend(self, tokens, *options, ranks=2, name="in", **shape):
        """NAME.h5 and NAME-out.h5."""
        arrays = oracle.make_input(self.path(f"{name}.h5"), tokens, **shape)
        self.succeed("attend", f"{name}.h5", "-o", f"{name}-out.h5", "--quiet", *options, ranks=ranks)
        return arrays

    def verify(self, *options, status=0, ranks=2, name="in", bad=None):
        """Of NAME-out.h5, or of the damaged copy."""
        out = bad or f"{name}-out.h5"
        result = self.longspan("verify", f"{name}.h5", out, *options, ranks=ranks)
        self.assertEqual(result.status, status, str(result))
        self.assertRegex(result.out, rf"^{re.escape(out)}: {'PASSED' if status == 0 else 'FAILED'}\n", str(result))
        return result

    def fraction(self, result, name="out"):
        return float(re.search(rf"{name} +largest error (\S+) of its bound", result.out).group(1))

    def test_right_results_pass_well_inside_the_bound(self):
        cases = [(kind, mask, documents) for kind in oracle.ROUNDOFF
                 for mask, documents in (("full", None), ("causal", None), ("causal", [0, 7, 7, 50, 51, 200]))]

        def check(case):
            kind, mask, documents = case
            name = f"{kind}-{mask}-{documents is not None}"
            self.attend(200, "--mask", mask, name=name, heads=4, kv_heads=2, dim=24, value_dim=40, kind=kind,
                        documents=documents)
            return self.verify(*ALL, name=name)

        for (kind, _, _), result in zip(cases, harness.in_parallel(check, cases)):
            # Rounding to a 16-bit type takes up to all of its own part of the bound.
            self.assertLess(self.fraction(result), 0.2 if kind == "float32" else 1.0, str(result))
            self.assertLess(self.fraction(result, "lse"), 0.2, str(result))

    def test_large_scores_pass_well_inside_the_bound(self):
        arrays = self.attend(300, "--mask", "causal", dim=512, heads=1, sharpness=40.0)
        scores = numpy.einsum("bihd,bjhd->bhij", arrays[0], arrays[1]) * 512**-0.5
        self.assertGreater(numpy.abs(scores).max(), 100)
        self.assertLess(self.fraction(self.verify(*ALL)), 0.2)

    def test_the_verdict_does_not_depend_on_the_rank_count(self):
        self.attend(3000, "--mask", "causal", heads=2)
        texts = set(harness.in_parallel(lambda ranks: self.verify("--rows", "80", "--seed", "9", ranks=ranks).out,
                                        (1, 2, 3, 5)))
        self.assertEqual(len(texts), 1, texts)
        self.assertIn("80 of 3000 rows x 2 heads", texts.pop())

    def test_64_rows_unless_asked_otherwise_and_all_where_there_are_fewer(self):
        self.attend(100)
        self.assertIn("64 of 100 rows", self.verify().out)
        self.attend(30, name="few", batch=2)
        self.assertIn("60 of 60 rows", self.verify(name="few").out)

    def test_the_seed_chooses_the_rows(self):
        self.attend(2000)
        self.assertEqual(self.verify("--seed", "5").out, self.verify("--seed", "5").out)
        five, six = (self.verify("--seed", seed).out.replace(f"seed {seed}", "") for seed in ("5", "6"))
        self.assertNotEqual(five, six)

    def damage(self, change, name="in", bad="bad.h5"):
        shutil.copy(self.path(f"{name}-out.h5"), self.path(bad))
        with h5py.File(self.path(bad), "r+") as file:
            change(file)
        return bad

    def test_damage_to_a_single_value_fails(self):
        self.attend(200, "--mask", "causal", heads=3)

        def set_value(name, where, value):
            def change(file):
                file[name][where] = value(file[name][where])
            return change

        damages = {
            "a slightly wrong value": set_value("out", (150, 2, 7), lambda x: x + 1e-4),
            "a flipped sign": set_value("out", (20, 0, 0), lambda x: -x),
            "NaN": set_value("out", (33, 1, 1), lambda x: numpy.nan),
            "Inf": set_value("out", (33, 1, 1), lambda x: numpy.inf),
            "a wrong lse": set_value("lse", (199, 0), lambda x: x + 1e-4),
            "lse NaN": set_value("lse", (3, 2), lambda x: numpy.nan),
            "lse -inf": set_value("lse", (3, 2), lambda x: -numpy.inf),
        }
        cases = [(what, self.damage(change, bad=f"{what}.h5".replace(" ", "-"))) for what, change in damages.items()]
        results = harness.in_parallel(lambda case: self.verify(*ALL, status=3, bad=case[1]), cases)
        for (what, _), result in zip(cases, results):
            self.assertRegex(result.out, "\n  1 of ", what)

    def test_the_place_of_the_damage_is_named(self):
        self.attend(200, heads=3, batch=2)

        def change(file):
            file["out"][1, 150, 2, 7] += 0.5
        out = self.verify(*ALL, status=3, bad=self.damage(change)).out
        self.assertRegex(out, r"out .*\|error\| 0\.5, .*batch 1, token 150, head 2")

    def replace(self, arrays, seen, scale=None, rows=slice(None), name="in"):
        """A copy as `attend` would have written it had it looked at `seen` with `scale`."""
        out, lse = oracle.attention(*arrays, seen, scale)

        def change(file):
            # HDF5 1.10 narrows 0.9999 to the float16 0.5, so it is handed what the type holds.
            half = "float16" if file["out"].dtype == "f2" else "bfloat16"
            kind = "float32" if file["out"].id.get_type().get_size() == 4 else half
            file["out"][rows] = oracle.rounded(out[0][rows], kind).astype("f4")
            file["lse"][rows] = lse[0][rows]
        return self.damage(change, name, f"{name}-bad.h5")

    def test_the_reference_itself_passes(self):
        def check(kind):
            arrays = self.attend(300, "--mask", "causal", name=kind, dim=64, kind=kind)
            self.verify(*ALL, name=kind, bad=self.replace(arrays, oracle.visible(300, 300, True), name=kind))
        harness.in_parallel(check, oracle.ROUNDOFF)

    def test_one_dropped_key_fails(self):
        def check(kind):
            # A narrower arithmetic has bounds in which one key of a thousand is lost.
            arrays = self.attend(1000, "--compute", "fp32", name=kind, dim=64, kind=kind, heads=1)
            seen = oracle.visible(1000, 1000, False)
            seen[500, 123] = False
            self.verify(*ALL, status=3, name=kind, bad=self.replace(arrays, seen, rows=500, name=kind))
        harness.in_parallel(check, oracle.ROUNDOFF)

    def test_one_key_seen_twice_fails(self):
        q, k, v = self.attend(1000, heads=1)
        bad = self.replace((q, numpy.concatenate([k, k[:, 5:6]], 1), numpy.concatenate([v, v[:, 5:6]], 1)),
                     oracle.visible(1000, 1001, False))
        self.verify(status=3, bad=bad)

    def test_a_wrong_scale_fails(self):
        arrays = self.attend(300)
        bad = self.replace(arrays, oracle.visible(300, 300, False), scale=0.25 * 1.001)
        self.verify(*ALL, status=3, bad=bad)

    def test_rows_shifted_by_one_fail(self):
        self.attend(300, "--mask", "causal")

        def change(file):
            file["out"][10:20], file["lse"][10:20] = file["out"][11:21], file["lse"][11:21]
        self.verify(*ALL, status=3, bad=self.damage(change))

    def test_a_query_that_sees_its_successor_fails(self):
        arrays = self.attend(500, "--mask", "causal")
        seen = oracle.visible(500, 500, True)
        seen[400, 401] = True
        bad = self.replace(arrays, seen, rows=400)
        self.verify(*ALL, status=3, bad=bad)

    def test_a_leak_across_documents_fails(self):
        documents = [0, 100, 260, 300]
        arrays = self.attend(300, documents=documents)
        seen = oracle.visible(300, 300, False, documents)
        seen[259, 260] = True
        bad = self.replace(arrays, seen, rows=259)
        self.verify(*ALL, status=3, bad=bad)

    def test_a_wrong_key_head_fails(self):
        q, k, v = self.attend(200, heads=4, kv_heads=2)
        bad = self.replace((q, k[:, :, ::-1], v[:, :, ::-1]), oracle.visible(200, 200, False))
        self.verify(status=3, bad=bad)

    def test_nan_and_inf_in_the_input_are_expected_in_the_result(self):
        def check(case):
            dataset, value = case
            name = f"{dataset}-{value}"
            oracle.make_input(self.path(f"{name}.h5"), 80)
            with h5py.File(self.path(f"{name}.h5"), "r+") as file:
                file[dataset][40, 1, 3] = value
            self.succeed("attend", f"{name}.h5", "-o", f"{name}-out.h5", "--mask", "causal", ranks=2)
            self.verify(*ALL, name=name)

            def hide(file):
                file["out"][...] = numpy.nan_to_num(file["out"][...], posinf=0, neginf=0)
            self.verify(*ALL, status=3, name=name, bad=self.damage(hide, name, f"{name}-bad.h5"))
        nan, inf = numpy.nan, numpy.inf
        harness.in_parallel(check, [("q", nan), ("k", nan), ("v", nan), ("v", inf), ("k", inf)])

    def test_rows_that_see_nothing_are_checked_too(self):
        self.attend(30, "--mask", "causal", keys=10)
        self.verify()

        def change(file):
            file["lse"][3, 0] = 0.0
        self.verify(status=3, bad=self.damage(change))

    def test_a_result_of_another_input_is_refused(self):
        self.attend(50)
        oracle.make_input(self.path("in.h5"), 51)
        self.assert_refused(self.longspan("verify", "in.h5", "in-out.h5"), 4, "in-out.h5", "50", "51", "in.h5")
        oracle.make_input(self.path("in.h5"), 50, documents=[0, 20, 50])
        self.assert_refused(self.longspan("verify", "in.h5", "in-out.h5"), 4, "documents")

    def test_a_mask_of_a_later_version_is_refused(self):
        self.attend(20)

        def change(file):
            file.attrs["mask"] = "spiral:7"
        self.assert_refused(self.longspan("verify", "in.h5", self.damage(change)), 4, "bad.h5", "mask", "spiral:7")


if __name__ == "__main__":
    harness.main()
