/* The product of masks, scores, strategies, layouts and lengths, for tests that go through it. */
#ifndef TESTS_PRODUCT_H
#define TESTS_PRODUCT_H

#include "tests/runtime/problem.h"

enum { PRODUCT_MASKS = 15, PRODUCT_SCORES = 7, PRODUCT_STRATEGIES = 14 };
enum { PRODUCT_LAYOUTS = 4, PRODUCT_SHAPES = 5, PRODUCT_TYPES = 3 };

/* One point of it. */
typedef struct {
    int mask, scores, strategy, layout, shape;
    longspan_type type; /* in and out */
} product_point;

/* The strategy with its context, which is the caller's: which ranks make a node, whether memory is shared, and
 * threads a rank. */
test_problem product_open(int strategy, int ranks, int threads);

/* The name of a layout. */
const char *product_layout(int layout);

/* Sets the rest of a point in *t, which product_open made for its strategy; writes its description. */
void product_set(test_problem *t, const product_point *point, char text[256]);

/* What the library must name, beside the strategy, when it refuses that on so many ranks; NULL where it must not. */
const char *product_refusal(int strategy, int ranks);

/* Whether the library must refuse a strategy on so many ranks. */
static inline bool product_refuses(int strategy, int ranks)
{
    return product_refusal(strategy, ranks) != NULL;
}

#endif
