/* One product of all four tiles of kernels/tiles.h, in the thread's state of a fold. sums are [j][i][16][16]. */
#ifndef TESTS_KERNELS_TILE_PRODUCT_H
#define TESTS_KERNELS_TILE_PRODUCT_H

#include <stdint.h>

void tile_product_emulated(const uint16_t *left, const uint16_t *right, float *sums);
#if defined(__x86_64__)
void tile_product_amx(const uint16_t *left, const uint16_t *right, float *sums);
#endif

#endif
