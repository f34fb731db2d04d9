"""Masks and scores of longspan attend, against numpy in float64 and by longspan verify, at ranks and layouts that make
shards begin and end anywhere."""
import json
import shutil

import harness
import h5py
import numpy
import oracle

N = 131
DOCUMENTS = [0, 7, 7, 50, 51, N]
MASKS = {  # what --mask takes: what the attribute says, and the rule for positions p of the query and j of the key
    "causal": ("causal", lambda p, j: j <= p),
    "window:20": ("window:20", lambda p, j: (j <= p) & (j >= p - 20)),
    "causal+window:0": ("window:0", lambda p, j: j == p),
    "window:20,7": ("window:20,7", lambda p, j: (j <= p + 7) & (j >= p - 20)),
    "window:all,3": ("window:all,3", lambda p, j: j <= p + 3),
    "window:5,all+causal": ("window:5", lambda p, j: (j <= p) & (j >= p - 5)),
    "prefix:30": ("prefix:30", lambda p, j: (j <= p) | (j < 30)),
    "prefix:30+window:25,40": ("prefix:30+window:25,40",
                               lambda p, j: ((j <= p) | (j < 30)) & (j >= p - 25) & (j <= p + 40)),
    "causal+chunk:16": ("causal+chunk:16", lambda p, j: (j <= p) & (j // 16 == p // 16)),
    "chunk:16,1": ("chunk:16,1", lambda p, j: (j // 16 <= p // 16) & (j // 16 >= p // 16 - 1)),
    "chunk:10,all,2": ("chunk:10,all,2", lambda p, j: j // 10 <= p // 10 + 2),
}
SLOPES, SINKS = [0.5, 0.03, 0.25, -0.01], [0.7, -2.0, 3.0, -numpy.inf]
PLACES = (("contiguous", 2), ("zigzag", 3), ("striped:8", 3), ("striped", 5))
SCORES = {  # options: what oracle.attention takes
    "softcap": (["--softcap", "1.5"], {"softcap": 1.5}),
    "rope": (["--rope", "1e4"], {"rope": (1e4, 24, False)}),
    "rope of a part": (["--rope", "500,10"], {"rope": (500.0, 10, False)}),
    "rope interleaved": (["--rope", "1e4,16", "--rope-style", "interleaved"], {"rope": (1e4, 16, True)}),
    "alibi": ([], {"slopes": SLOPES}),
    "sinks": ([], {"sinks": SINKS}),
    "everything": (["--softcap", "2", "--rope", "1e4", "--scale", "0.4"],
                   {"softcap": 2.0, "rope": (1e4, 24, False), "scale": 0.4, "slopes": SLOPES, "sinks": SINKS}),
}


class Masks(harness.Case):
    def attend(self, name, *options, ranks, place="auto", source=None):
        """NAME-out.h5 from SOURCE.h5 (NAME.h5), and all its rows through verify."""
        source = f"{source or name}.h5"
        self.succeed("attend", source, "-o", f"{name}-out.h5", "--quiet", "--layout", place, *options, ranks=ranks)
        verified = self.succeed("verify", source, f"{name}-out.h5", "--rows", "1M", ranks=2)
        self.assertIn(f"{name}-out.h5: PASSED", verified.out)

    def test_every_mask_equals_float64_with_and_without_documents(self):
        inputs = {False: "plain", True: "packed"}
        arrays = {documents: oracle.make_input(self.path(f"{name}.h5"), N, heads=4, kv_heads=2, dim=24, value_dim=8,
                                               documents=DOCUMENTS if documents else None)
                  for documents, name in inputs.items()}
        cases = [(number, mask, documents) + PLACES[(number + documents) % len(PLACES)]
                 for number, mask in enumerate(MASKS) for documents in (False, True)]

        def attend(case):
            number, mask, documents, place, ranks = case
            self.attend(f"{number}-{documents}", "--mask", mask, ranks=ranks, place=place,
                        source=inputs[documents])

        harness.in_parallel(attend, cases)
        for number, mask, documents, place, ranks in cases:
            with self.subTest(mask=mask, documents=documents, place=place, ranks=ranks):
                name, rule = MASKS[mask]
                seen = oracle.visible(N, N, rule, DOCUMENTS if documents else None)
                path = self.path(f"{number}-{documents}-out.h5")
                oracle.check(self, path, oracle.attention(*arrays[documents], seen), "float32")
                self.assertEqual(oracle.read_result(path)[2]["mask"], name + ("+documents" if documents else ""))

    def test_masks_align_at_the_bottom_right_where_lengths_differ(self):
        shapes = ((40, 131), (131, 40))
        arrays = {tokens: oracle.make_input(self.path(f"{tokens}.h5"), tokens, keys) for tokens, keys in shapes}
        cases = [(number, mask, tokens, keys) for number, mask in enumerate(MASKS) for tokens, keys in shapes
                 if mask not in ("causal", "causal+window:0")]
        harness.in_parallel(lambda case: self.attend(f"{case[0]}-{case[2]}", "--mask", case[1], ranks=3,
                                                     source=case[2]), cases)
        for number, mask, tokens, keys in cases:
            with self.subTest(mask=mask, tokens=tokens, keys=keys):
                seen = oracle.visible(tokens, keys, MASKS[mask][1])
                oracle.check(self, self.path(f"{number}-{tokens}-out.h5"), oracle.attention(*arrays[tokens], seen),
                             "float32")

    def test_every_score_equals_float64_in_every_layout(self):
        cases = [(name, kind, mask) + PLACES[(number + len(kind)) % len(PLACES)]
                 for number, name in enumerate(SCORES) for kind in oracle.ROUNDOFF for mask in ("full", "window:20")
                 if kind == "float32" or (name == "everything" and mask == "full")]

        def attend(case):
            name, kind, mask, place, ranks = case
            options, scores = SCORES[name]
            file = f"{name}-{kind}-{mask}".replace(" ", "-")
            arrays = oracle.make_input(self.path(f"{file}.h5"), N, heads=4, kv_heads=2, dim=24, value_dim=8, kind=kind,
                                       slopes=scores.get("slopes"), sinks=scores.get("sinks"))
            self.attend(file, "--mask", mask, "--compute", "fp32", *options, ranks=ranks, place=place)
            return file, arrays

        for (name, kind, mask, place, ranks), (file, arrays) in zip(cases, harness.in_parallel(attend, cases)):
            with self.subTest(scores=name, kind=kind, mask=mask, place=place, ranks=ranks):
                seen = oracle.visible(N, N, MASKS[mask][1] if mask in MASKS else False)
                oracle.check(self, self.path(f"{file}-out.h5"), oracle.attention(*arrays, seen, **SCORES[name][1]), kind)

    def test_positions_count_from_the_last_key_where_lengths_differ(self):
        scores = {"rope": (1e4, 16, False), "slopes": [0.1, 0.4]}
        for tokens, keys in ((20, 90), (90, 20)):
            arrays = oracle.make_input(self.path("in.h5"), tokens, keys, slopes=scores["slopes"])
            self.attend("in", "--rope", "1e4", "--force", ranks=3, place="zigzag")
            seen = oracle.visible(tokens, keys, False)
            oracle.check(self, self.path("in-out.h5"), oracle.attention(*arrays, seen, **scores), "float32")

    def test_keys_beyond_their_lengths_do_not_exist(self):
        lengths = [61, 0, 17, 90]
        documents = [0, 30, 70, 90]
        cases = [("full", "contiguous", None, None), ("causal", "zigzag", None, None),
                 ("window:20", "striped:8", None, None), ("full", "auto", [1.0, -1.0], None),
                 ("causal", "striped:4", None, documents)]
        for number, (mask, place, sinks, packed) in enumerate(cases):
            with self.subTest(mask=mask, place=place, sinks=sinks, documents=packed):
                arrays = oracle.make_input(self.path(f"{number}.h5"), 90, batch=4, key_lengths=lengths, sinks=sinks,
                                           documents=packed)
                self.attend(str(number), "--mask", mask, "--report", f"{number}.json", ranks=3, place=place)
                seen = oracle.visible(90, 90, MASKS[mask][1] if mask in MASKS else False, packed)
                reference = oracle.attention(*arrays, seen, key_lengths=lengths, sinks=sinks)
                oracle.check(self, self.path(f"{number}-out.h5"), reference, "float32")
                self.assertIn("key_lengths", oracle.read_result(self.path(f"{number}-out.h5"))[2]["mask"])
                with open(self.path(f"{number}.json"), encoding="utf-8") as file:
                    report = json.load(file)
                counted = numpy.mean([seen[:, :length].sum() for length in lengths])
                self.assertAlmostEqual(report["checks"]["pairs"], counted, places=6)
                self.assertEqual(report["checks"]["pairs"], report["checks"]["pairs_expected"])

    def test_report_and_attributes_name_masks_and_scores(self):
        oracle.make_input(self.path("in.h5"), 50, slopes=[0.5, 0.25], sinks=[0, 1])
        result = self.succeed("attend", "in.h5", "-o", "out.h5", "--mask", "window:1k+prefix:5", "--softcap", "30", "--rope",
                              "5e5,8", "--rope-style", "interleaved", "--report", "r.json", "--trace", "t.json")
        self.assertIn("prefix:5+window:1024 attention", result.err)
        self.assertIn("softcap 30, RoPE of 8 elements, base 500000, interleaved, ALiBi, a sink a head", result.err)
        with open(self.path("r.json"), encoding="utf-8") as file:
            problem = json.load(file)["problem"]
        self.assertEqual((problem["mask"], problem["softcap"], problem["alibi"], problem["sinks"]),
                         ("prefix:5+window:1024", 30, True, True))
        self.assertEqual(problem["rope"], {"dim": 8, "base": 5e5, "style": "interleaved"})
        attributes = oracle.read_result(self.path("out.h5"))[2]
        self.assertEqual([attributes[name] for name in ("mask", "softcap", "rope_dim", "rope_base", "rope_style", "alibi",
                                                        "sinks")],
                         ["prefix:5+window:1024", 30, 8, 5e5, "interleaved", 1, 1])
        with open(self.path("t.json"), encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        self.assertEqual({event["pid"] for event in events}, {0, 1})
        names = {event["name"] for event in events if event["ph"] == "X"}
        self.assertTrue({"plan", "read", "write", "compute", "fold", "finish"} <= names, names)

    def test_info_shows_what_goes_with_the_tensors(self):
        oracle.make_input(self.path("in.h5"), 50, batch=2, documents=[0, 50], key_lengths=[3, 50], slopes=[1, 2],
                          sinks=[0, 1])
        out = self.succeed("info", "in.h5", ranks=1).out
        self.assertIn("1 documents, key lengths, ALiBi slopes, sinks", out)

    def test_the_map_draws_masks_and_scores(self):
        # map refuses where the shares of a block of queries do not sum to what they should.
        scores = ["--softcap", "2", "--rope", "1e4", "--mask", "window:50"]
        oracle.make_input(self.path("in.h5"), 400, heads=4, kv_heads=2, batch=2, sharpness=2.0, slopes=SLOPES,
                          sinks=[0.7, -2.0, 3.0, 1.0], key_lengths=[400, 300])
        self.succeed("attend", "in.h5", "-o", "out.h5", *scores, ranks=3)
        self.succeed("map", "out.h5", "-o", "map.svg", "--blocks", "20", ranks=2)

        def change(name, value):
            def apply(file):
                file.attrs[name] = value
            return apply
        for number, damage in enumerate((change("softcap", 0.01), change("rope_base", 2.0), change("mask", "window:10+key_lengths"))):
            shutil.copy(self.path("out.h5"), self.path(f"{number}.h5"))
            with h5py.File(self.path(f"{number}.h5"), "r+") as file:
                damage(file)
            self.assert_refused(self.longspan("map", f"{number}.h5", "-o", "bad.svg"), 3, rf"{number}\.h5", "sum to")

    def test_verify_notices_a_result_of_another_mask_or_score(self):
        oracle.make_input(self.path("in.h5"), N, heads=4, slopes=SLOPES, sinks=SINKS)
        options = ["--mask", "prefix:9+window:40,8", "--softcap", "3", "--rope", "1e4,8"]
        self.succeed("attend", "in.h5", "-o", "out.h5", *options)
        self.succeed("verify", "in.h5", "out.h5", "--rows", "1M")
        wrong = {"mask": "prefix:9+window:39,8", "softcap": 3.001, "rope_base": 1.01e4, "rope_dim": 6, "scale": 0.2501,
                 "rope_style": "interleaved"}

        def verify(name):
            shutil.copy(self.path("out.h5"), self.path(f"{name}.h5"))
            with h5py.File(self.path(f"{name}.h5"), "r+") as file:
                file.attrs[name] = wrong[name]
            return self.longspan("verify", "in.h5", f"{name}.h5", "--rows", "1M")

        for name, result in zip(wrong, harness.in_parallel(verify, wrong)):
            with self.subTest(name):
                self.assertEqual(result.status, 3, str(result))
        for number, (dataset, value) in enumerate((("sinks", 1e-3), ("alibi_slopes", 1e-4))):
            shutil.copy(self.path("in.h5"), self.path("changed.h5"))
            with h5py.File(self.path("changed.h5"), "r+") as file:
                file[dataset][2] += value
            self.assertEqual(self.longspan("verify", "changed.h5", "out.h5", "--rows", "1M").status, 3, dataset)

    def test_a_result_and_an_input_that_do_not_agree_are_refused(self):
        oracle.make_input(self.path("in.h5"), 20, batch=2, key_lengths=[20, 3], slopes=[1, 2], sinks=[0, 1])
        self.succeed("attend", "in.h5", "-o", "out.h5")
        for dataset, said in (("key_lengths", "key lengths"), ("alibi_slopes", "ALiBi slopes"), ("sinks", "sinks")):
            shutil.copy(self.path("in.h5"), self.path("less.h5"))
            with h5py.File(self.path("less.h5"), "r+") as file:
                del file[dataset]
            self.assert_refused(self.longspan("verify", "less.h5", "out.h5"), 4, rf"out\.h5 was computed with {said}",
                                r"less\.h5 has none")
        for name, value in (("mask", "spiral:7"), ("compute", "fp8"), ("softcap", -1.0), ("softcap", numpy.nan),
                            ("rope_dim", 3), ("rope_dim", 18)):
            shutil.copy(self.path("out.h5"), self.path("bad.h5"))
            with h5py.File(self.path("bad.h5"), "r+") as file:
                file.attrs[name] = value
            self.assert_refused(self.longspan("verify", "in.h5", "bad.h5"), 4, r"bad\.h5", name)


if __name__ == "__main__":
    harness.main()
