/* Log-mel frames of 16 kHz mono sound.
 *
 * Frame t looks at the `window` samples that begin at sample t * hop - window / 2, samples outside of the recording
 * being 0, and so stands at the time t * hop:
 *      X_t[c] = sum_n w[n] x[t hop - window/2 + n] e^(-2 pi i c n / fft),  w periodic Hann
 *      out[t][b] = ln( max( sum_c F[b][c] |X_t[c]|^2, LOG_MEL_FLOOR ) )
 * F[b] is the triangle over the frequencies f_b, f_{b+1}, f_{b+2}, of height 2 / (f_{b+2} - f_b); the mels + 2
 * frequencies are evenly spaced on Slaney's scale between `low` and `high`: linear, 200/3 Hz a mel, up to 1,000 Hz, and
 * log above it, 27 mels for each factor of 6.4 (M. Slaney, Auditory Toolbox, Interval Research TR 1998-010). The same
 * as librosa's stft(center=True, pad_mode="constant") and filters.mel, unless an odd window is in an even transform,
 * and the filters of Whisper for fft 400.
 * Computed in double, frame by frame, so that a frame's bits depend on its samples alone. Held by io.log_mel. */
#ifndef IO_LOG_MEL_H
#define IO_LOG_MEL_H

#include "io/error.h"

#include <stdint.h>

enum { LOG_MEL_RATE = 16000 /* Hz */, LOG_MEL_MOST_WINDOW = 16000, LOG_MEL_MOST_FFT = 65536, LOG_MEL_MOST_BANDS = 512 };
#define LOG_MEL_FLOOR 1e-10 /* full scale is 1, so a frame of silence is -23.03 in every band */

typedef struct {
    int window, hop, fft; /* samples; window <= fft */
    int mels;             /* bands */
    double low, high;     /* Hz */
} log_mel_settings;

typedef struct log_mel log_mel;

/* The tables, and room for `workers` threads to work at once. 0, or -1 with *error: the settings contradict each other,
 * a band would hold no frequency of the transform, or memory is out. */
int log_mel_create(const log_mel_settings *settings, int workers, log_mel **mel_p, io_error *error);
void log_mel_destroy(log_mel **mel);

/* `count` frames, the first from samples[0] on, each `hop` further: out [count, mels] from samples
 * [(count - 1) hop + window]. For any number of threads at once, each with a `worker` of its own. Cannot fail. */
void log_mel_frames(log_mel *mel, int worker, const float *samples, int64_t count, float *out);

/* F[band][bin], bins 0 to fft / 2. */
double log_mel_weight(const log_mel *mel, int band, int bin);
/* Slaney's scale and its inverse. */
double log_mel_from_hertz(double hertz);
double log_mel_to_hertz(double mel);

#endif
