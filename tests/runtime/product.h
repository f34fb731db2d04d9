/* The product of masks, scores, strategies, layouts and lengths, for tests that go through it. */
#ifndef TESTS_PRODUCT_H
#define TESTS_PRODUCT_H

#include "tests/runtime/problem.h"

enum { PRODUCT_MASKS = 15, PRODUCT_SCORES = 7, PRODUCT_STRATEGIES = 13, PRODUCT_LAYOUTS = 4, PRODUCT_SHAPES = 5 };

/* One point of it. */
typedef struct {
    int mask, scores, strategy, layout, shape;
} product_point;

/* The strategy with its context, which is the caller's: which ranks make a node, and whether memory is shared. */
test_problem product_open(int strategy, int ranks);

/* The name of a layout. */
const char *product_layout(int layout);

/* Sets the rest of a point in *t, which product_open made for its strategy; writes its description. */
void product_set(test_problem *t, const product_point *point, char text[256]);

/* Whether the library must refuse a strategy on so many ranks. */
bool product_refuses(int strategy, int ranks);

#endif
