"""longspan map: a well-formed picture of the right cells, made from what the result names."""
import os
import re
import shutil
import xml.etree.ElementTree

import harness
import h5py
import numpy
import oracle

SVG = "{http://www.w3.org/2000/svg}"


def colours_of(path):
    """{(row, column): colour} of the cells drawn.

    They are strokes one cell high: "M column row h cells", then "m skip 0 h cells".
    """
    cells = {}
    root = xml.etree.ElementTree.parse(path).getroot()
    group = next(element for element in root.iter(SVG + "g") if element.get("id") == "cells")
    for drawn in group.iter(SVG + "path"):
        column = row = 0
        for letter, x, y, count in re.findall(r"([Mm])(-?\d+) (-?\d+)h(\d+)", drawn.get("d")):
            column, row = (int(x), int(y)) if letter == "M" else (column + int(x), row + int(y))
            for _ in range(int(count)):
                cells[row, column] = drawn.get("stroke")
                column += 1
    return cells


class Map(harness.Case):
    def attend(self, tokens, *options, folder=".", **shape):
        oracle.make_input(self.path(os.path.join(folder, "in.h5")), tokens, **shape)
        self.succeed("attend", os.path.join(folder, "in.h5"), "-o", os.path.join(folder, "out.h5"), "--quiet", *options)

    def picture(self, name="map.svg"):
        """The text elements and the whole of a picture that must be well-formed."""
        with open(self.path(name), encoding="utf-8") as file:
            whole = file.read()
        root = xml.etree.ElementTree.fromstring(whole)
        self.assertEqual(root.tag, SVG + "svg")
        return ["".join(element.itertext()) for element in root.iter(SVG + "text")], whole

    def test_picture_has_title_axes_and_legend(self):
        self.attend(500, "--mask", "causal", heads=3, kv_heads=1)
        result = self.succeed("map", "out.h5", "-o", "map.svg", "--blocks", "20", "--rows", "4")
        texts, _ = self.picture()
        for wanted in ("out.h5: 500 tokens, 3 heads of 16", "query token", "key token", "share of attention"):
            self.assertTrue(any(wanted in text for text in texts), f"{wanted} is not in {texts}")
        self.assertIn("20 x 20 cells of 25 queries by 25 keys, 4 rows a block: map.svg", result.err)

    def test_the_picture_does_not_depend_on_the_rank_count(self):
        self.attend(9000, "--mask", "causal", heads=2)  # more than two pieces of keys
        names = [f"map-{ranks}.svg" for ranks in (1, 2, 3, 5)]
        harness.in_parallel(lambda name: self.succeed("map", "out.h5", "-o", name, "--blocks", "32",
                                                      ranks=int(name[4:-4])), names)
        self.assertEqual(len({self.picture(name)[1] for name in names}), 1)

    def test_shapes_of_all_kinds(self):
        shapes = [(1, {}), (7, {}), (300, {"batch": 2}), (300, {"kind": "bfloat16"}), (40, {"keys": 10}),
                  (100, {"keys": 313}), (131, {"documents": [0, 7, 7, 50, 51, 131]})]

        def check(number):
            folder = f"shape-{number}"
            os.mkdir(self.path(folder))
            tokens, shape = shapes[number]
            self.attend(tokens, "--mask", "causal", folder=folder, **shape)
            self.succeed("map", f"{folder}/out.h5", "-o", f"{folder}/map.svg", ranks=3)
            self.picture(f"{folder}/map.svg")

        harness.in_parallel(check, range(len(shapes)))

    def test_cells_that_the_mask_rules_out_are_not_drawn(self):
        self.attend(64, documents=[0, 32, 64])
        self.succeed("map", "out.h5", "-o", "documents.svg", "--blocks", "2")
        self.assertEqual(set(colours_of(self.path("documents.svg"))), {(0, 0), (1, 1)})
        self.attend(64, "--mask", "causal", "--force")
        self.succeed("map", "out.h5", "-o", "causal.svg", "--blocks", "4")
        self.assertEqual(set(colours_of(self.path("causal.svg"))), {(i, j) for i in range(4) for j in range(i + 1)})

    def test_patterns_decide_which_cells_are_drawn(self):
        # Every query is sampled. Windows of 3 to either side; tokens 0 and 40 are global.
        self.attend(64, "--pattern", "global:3,3,0,40", heads=2)
        self.succeed("map", "out.h5", "-o", "map.svg", "--blocks", "16", ranks=3)
        token = numpy.arange(64)
        sees = abs(token[:, None] - token) <= 3
        for glob in (0, 40):
            sees[glob, :] = sees[:, glob] = True
        self.assertEqual(set(colours_of(self.path("map.svg"))), {(i, j) for i in range(16) for j in range(16)
                         if sees[4 * i:4 * i + 4, 4 * j:4 * j + 4].any()})

    def test_scores_of_relative_keys_and_lists_of_each_head_are_known(self):
        # Shares that did not sum to 1 would be refused.
        self.succeed("generate", "relative.h5", "--tokens", "200", "--heads", "2", "--dim", "16", "--relative", "9,5")
        self.succeed("attend", "relative.h5", "-o", "relative-out.h5", "--mask", "window:9,5")
        self.attend(200, "--mask", "causal", "--pattern", "moba:16,3", heads=4, kv_heads=2)
        for name in ("relative-out", "out"):
            pictures = []
            for ranks in (1, 3):
                self.succeed("map", f"{name}.h5", "-o", f"{name}-{ranks}.svg", "--blocks", "20", ranks=ranks)
                pictures.append(self.picture(f"{name}-{ranks}.svg")[1])
            self.assertEqual(pictures[0], pictures[1])

    def test_attention_to_one_key_is_one_cell(self):
        # All queries are the first unit vector, and key 70 alone has it: all attention goes to its block.
        q, k = numpy.zeros((100, 1, 8), "f4"), numpy.zeros((100, 1, 8), "f4")
        q[:, :, 0], k[70, :, 0] = 100, 10
        with h5py.File(self.path("in.h5"), "w") as file:
            file["q"], file["k"], file["v"] = q, k, k
        self.succeed("attend", "in.h5", "-o", "out.h5")
        self.succeed("map", "out.h5", "-o", "map.svg", "--blocks", "2")
        colours = colours_of(self.path("map.svg"))
        self.assertEqual(colours[0, 1], colours[1, 1])
        self.assertEqual(colours[0, 0], colours[1, 0])
        self.assertNotEqual(colours[0, 0], colours[0, 1])

    def test_a_result_that_does_not_belong_to_its_input_is_refused(self):
        self.attend(200)
        oracle.make_input(self.path("in.h5"), 200, seed=2, sharpness=3.0)
        self.assert_refused(self.longspan("map", "out.h5", "-o", "map.svg"), 3, r"out\.h5", "sum to", "not belong")
        self.assertFalse(os.path.exists(self.path("map.svg")))

    def test_result_and_input_can_be_moved_together_or_the_result_alone(self):
        os.mkdir(self.path("here"))
        self.attend(30, folder="here")
        shutil.copy(self.path("here/out.h5"), self.path("alone.h5"))
        self.succeed("map", "alone.h5", "-o", "alone.svg")
        shutil.move(self.path("here"), self.path("there"))
        self.succeed("map", "there/out.h5", "-o", "there.svg")
        self.assert_refused(self.longspan("map", "alone.h5", "-o", "gone.svg"), 4, r"alone\.h5", r"here/in\.h5",
                            "not there")

    def test_a_file_that_is_no_result_is_refused(self):
        self.attend(30)
        self.assert_refused(self.longspan("map", "in.h5", "-o", "map.svg"), 4, r"in\.h5")
        with h5py.File(self.path("out.h5"), "r+") as file:
            del file.attrs["input"]
        self.assert_refused(self.longspan("map", "out.h5", "-o", "map.svg"), 4, r"out\.h5", "input")

    def test_the_picture_replaces_neither_input_nor_result(self):
        self.attend(30)
        for name in ("out.h5", "in.h5"):
            self.assert_refused(self.longspan("map", "out.h5", "-o", name, "--force"), 2, "same file")
        self.assert_refused(self.longspan("map", "out.h5", "-o", "in.h5"), 4, r"in\.h5", "exists")


if __name__ == "__main__":
    harness.main()
