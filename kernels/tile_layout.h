/* How bfloat16 lie for products of them: in left and right tiles, of which a product is
 *
 *     sum[r][c] += sum_k left[r][k] right[k/2][c][k%2]        r, c < 16, k < 32
 *
 * A left tile is 16 rows of 32 numbers; a right tile 16 rows of 16 pairs, the pair of k = 2n, 2n + 1 in row n. Both are
 * 1 KiB without gaps. AMX has registers of that form; a vector of pairs is what VDPBF16PS takes. */
#ifndef KERNELS_TILE_LAYOUT_H
#define KERNELS_TILE_LAYOUT_H

enum {
    TILE_ROWS = 16,
    TILE_DEPTH = 32,    /* k of a product */
    TILE_NUMBERS = 512, /* bfloat16 of a left or right tile */
    TILE_SUMS = 256,    /* float32 of a sum */
    TILE_FLOPS = 2 * TILE_ROWS * TILE_ROWS * TILE_DEPTH,
};

#endif
