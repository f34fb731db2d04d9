"""longspan attend: the peak memory of a rank, at a length where the tensors outweigh everything else. Slow."""
import json

import harness

TOKENS, HEADS, DIM, RANKS = 262144, 2, 32, 4
SLACK = 96 << 20  # the program itself, MPI and HDF5


class Memory(harness.Case):
    def test_a_rank_holds_its_rows_the_state_and_three_shards_of_keys(self):
        self.succeed("generate", "in.h5", "--tokens", TOKENS, "--heads", HEADS, "--dim", DIM)
        self.succeed("attend", "in.h5", "-o", "out.h5", "--mask", "causal", "--report", "report.json",
                     ranks=RANKS, timeout=900)
        with open(self.path("report.json"), encoding="utf-8") as file:
            report = json.load(file)
        row = TOKENS // RANKS * HEADS * 4  # bytes of one float32 a token and head
        q = k = v = out = row * DIM
        state = row * (DIM + 2)
        bound = q + out + state + 3 * (k + v) + SLACK
        peak = report["memory_peak_bytes"]["max"]
        print(f"peak memory of a rank {peak / 2**20:.1f} MiB, bound {bound / 2**20:.1f} MiB", flush=True)
        self.assertGreater(peak, q + k + v + out + state)  # or the figure means nothing
        self.assertLessEqual(peak, bound)


if __name__ == "__main__":
    harness.main()
