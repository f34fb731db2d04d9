/* Log-mel tokens to q, k and v of a recording, without a trained model: io/text.h with spectra in place of words.
 *
 * z(t)[b] = L(t)[b] - mean over bands of L(t): the shape of the spectrum, without its loudness. Head h looks at the
 * last w_h = 4 * 2^(h mod 4) tokens, in AUDIO_SPANS spans of s = w_h / AUDIO_SPANS, each averaged, z being 0 ahead of
 * the recording:
 *      u_h(t, g) = 1/s sum_{i = g s}^{(g + 1) s - 1} z(t - i)
 *      x_h(t) = normalise( sum_g sum_b u_h(t, g)[b] sum over two hash functions of  sign(h, g, b) e_{bucket(h, g, b)} )
 * (feature hashing: Weinberger et al., ICML 2009, arXiv 0902.2206, equation 2; the hash is XXH3 with a seed; the two
 * signs agree where the buckets do). With
 *      q = AUDIO_SHARPNESS sqrt(D) x,  k = x,  v_h(t) = the same of z(t) alone
 * the scaled score q.k / sqrt(D) is AUDIO_SHARPNESS between passages of equal sound. k, v and x have unit norm, or are
 * 0 where every band holds the same, as in silence. Computed in double, token by token. Held by io.audio_features. */
#ifndef IO_AUDIO_FEATURES_H
#define IO_AUDIO_FEATURES_H

#include <stdint.h>

enum { AUDIO_SPANS = 4, AUDIO_WINDOW_MOST = 32 /* largest w_h */, AUDIO_MOST_DIM = 512 /* largest D, E */ };
#define AUDIO_SHARPNESS 20.0f /* as io/text.h */

/* out [tokens, mels] from frames [count, mels]: token i is the mean of frames i * every to (i + 1) * every - 1, the
 * last one of those that there are; tokens = ceil(count / every). In place where out == frames. */
void audio_subsample(const float *frames, int64_t count, int mels, int every, float *out);

/* Features of tokens [first, first + count) of log_mel [first + count, mels]; those ahead of `first` are context:
 * AUDIO_WINDOW_MOST - 1 of them, or all there are. Writes q, k [count, H, D] and v [count, H, E]; 1 <= D, E <=
 * AUDIO_MOST_DIM, mels <= LOG_MEL_MOST_BANDS. Equal bits for any split. */
void audio_features(const float *log_mel, int64_t first, int64_t count, int mels, int heads, int dim, int value_dim,
                    uint64_t seed, float *q, float *k, float *v);

#endif
