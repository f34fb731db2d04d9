/* Text to tokens and to hashed n-gram features: q, k and v of a real document without a trained model.
 *
 * A token is a maximal run of ASCII letters, digits, '_' and bytes >= 0x80, or any other byte that is not white space.
 * Tokens are compared in lower case (ASCII).
 *
 * Features of token t for head h: x_h(t) = normalise( sum over n-grams g that lie in the last w_h tokens up to t of
 *      sum over two hash functions of  sign(g) e_{bucket(g)} ),   n = 1..3
 * (feature hashing: Weinberger et al., ICML 2009, arXiv 0902.2206, equation 2; the hash is XXH3 with the head, n and a
 * seed). A gram whose two buckets coincide counts twice with one sign, so that no gram cancels itself. The window grows
 * with the head, w_h = 4 * 2^(h mod 4), so heads look for longer and longer shared passages. With
 *      q = sharpness * sqrt(D) * x,  k = x,  v_h(t) = x of the token alone (n = 1, window 1)
 * the scaled score q.k / sqrt(D) is `sharpness` between equal passages and near 0 between unrelated ones. v has unit
 * norm; so have k and x, unless the grams of a window cancel to 0, which happens when D is a few. */
#ifndef IO_TEXT_H
#define IO_TEXT_H

#include "io/error.h"

#include <stddef.h>
#include <stdint.h>

enum { TEXT_WINDOW_MOST = 32 /* largest w_h */, TEXT_MOST_DIM = 512 /* largest D, E */ };
/* Chosen on 57,000 tokens of licence texts (D = 64), for causal rows inside passages that occurred before: from 12 to
 * 20 the share of the earlier passage in what falls beyond the last 64 tokens rises from 0.5-0.7 to 0.99, by head;
 * above 20 nothing is gained. */
#define TEXT_SHARPNESS 20.0f

/* A token: its bytes begin at `begin` in the document (or in the buffer), `length` long. */
typedef struct {
    int64_t begin;
    int64_t length;
} text_token;

/* Size of a readable regular file in bytes. 0, or -1 with *error; a file without a token (empty, or only white space)
 * is an error here, once, so that a range without tokens is none. */
int text_file_size(const char *path, int64_t *bytes_p, io_error *error);

/* The tokens of the file that begin in bytes [begin, end), preceded by up to `before` tokens that begin ahead of
 * `begin` (fewer only at the document's start). Token positions are file offsets. *tokens_p [*before_p + *count_p]
 * and *bytes_p, the text of all those tokens (file bytes from *bytes_begin_p on), are malloc'ed, the caller's. A token
 * that begins before `end` is taken whole, so ranks that split a file by bytes split its tokens exactly. */
int text_read_tokens(const char *path, int64_t begin, int64_t end, int before, text_token **tokens_p, int64_t *before_p,
                     int64_t *count_p, char **bytes_p, int64_t *bytes_begin_p, io_error *error);

/* Features of tokens [first, first + count) of `tokens` (positions relative to bytes_begin as returned above; tokens
 * ahead of `first` are context: TEXT_WINDOW_MOST of them, or all there are). Writes q, k [count, H, D] and v [count, H,
 * E], float32; 1 <= D, E <= TEXT_MOST_DIM. Equal bits for any split. */
void text_features(const text_token *tokens, int64_t first, int64_t count, const char *bytes, int64_t bytes_begin,
                   int heads, int dim, int value_dim, uint64_t seed, float *q, float *k, float *v);

#endif
