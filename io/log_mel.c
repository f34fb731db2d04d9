#include "io/log_mel.h"

#include <complex.h>
#include <fftw3.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const double linear_step = 200.0 / 3, log_begin = 1000; /* Hz a mel; Hz */
static const double pi = 3.14159265358979323846;

/* The nonzero weights of a band: bins [first, first + count), from `at` on in log_mel.weights. */
typedef struct {
    int first, count, at;
} band;

/* Where one thread transforms. */
typedef struct {
    double *in;        /* [fft], 0 beyond the window */
    fftw_complex *out; /* [fft / 2 + 1] */
} workspace;

struct log_mel {
    log_mel_settings settings;
    double *window; /* [window] */
    band *bands;    /* [mels] */
    double *weights;
    workspace *spaces;
    int workers;
    fftw_plan plan;
};

double log_mel_from_hertz(double hertz)
{
    if (hertz < log_begin) return hertz / linear_step;
    return log_begin / linear_step + log(hertz / log_begin) * 27 / log(6.4);
}

double log_mel_to_hertz(double mel)
{
    const double begin = log_begin / linear_step;
    if (mel < begin) return mel * linear_step;
    return log_begin * exp((mel - begin) * log(6.4) / 27);
}

static int check_settings(const log_mel_settings *s, io_error *error)
{
    if (s->hop < 1) return io_fail(error, "a hop of %d samples at 16 kHz: at least 1 is needed", s->hop);
    if (s->window < 2 || s->window > LOG_MEL_MOST_WINDOW)
        return io_fail(error, "a window of %d samples at 16 kHz: 2 to %d are possible", s->window, LOG_MEL_MOST_WINDOW);
    if (s->fft < s->window || s->fft > LOG_MEL_MOST_FFT)
        return io_fail(error, "a transform of %d samples for a window of %d: %d to %d are possible", s->fft, s->window,
                       s->window, LOG_MEL_MOST_FFT);
    if (s->mels < 1 || s->mels > LOG_MEL_MOST_BANDS)
        return io_fail(error, "%d mel bands: 1 to %d are possible", s->mels, LOG_MEL_MOST_BANDS);
    if (!(s->low >= 0 && s->low < s->high && s->high <= LOG_MEL_RATE / 2))
        return io_fail(error, "mel bands from %g to %g Hz: the range must ascend and lie in 0 to %d Hz", s->low,
                       s->high, LOG_MEL_RATE / 2);
    return 0;
}

/* Band b: its frequencies f[0] < f[1] < f[2] and the weight of a frequency. */
static void band_edges(const log_mel_settings *s, int b, double f[3])
{
    const double low = log_mel_from_hertz(s->low), high = log_mel_from_hertz(s->high);
    for (int i = 0; i < 3; i++) f[i] = log_mel_to_hertz(low + (high - low) * (b + i) / (s->mels + 1));
}

static double triangle(const double f[3], double hertz)
{
    const double up = (hertz - f[0]) / (f[1] - f[0]), down = (f[2] - hertz) / (f[2] - f[1]);
    const double height = up < down ? up : down;
    return height > 0 ? height * 2 / (f[2] - f[0]) : 0;
}

static int make_bands(log_mel *m, io_error *error)
{
    const log_mel_settings *s = &m->settings;
    const int bins = s->fft / 2 + 1;
    const double step = (double)LOG_MEL_RATE / s->fft;
    int total = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1 && !(m->weights = malloc((size_t)total * sizeof *m->weights)))
            return io_fail(error, "not enough memory for %d mel bands", s->mels);
        total = 0;
        for (int b = 0; b < s->mels; b++) {
            double f[3];
            band *it = &m->bands[b];
            band_edges(s, b, f);
            *it = (band){.at = total};
            for (int c = 0; c < bins; c++) {
                const double weight = triangle(f, c * step);
                if (weight == 0) continue;
                if (it->count == 0) it->first = c;
                it->count = c - it->first + 1;
                if (pass == 1) m->weights[it->at + c - it->first] = weight;
            }
            if (it->count == 0)
                return io_fail(error,
                               "mel band %d of %d, %.1f to %.1f Hz, holds no frequency of a transform of %d "
                               "samples: fewer bands or a longer transform are needed",
                               b + 1, s->mels, f[0], f[2], s->fft);
            total += it->count;
        }
    }
    return 0;
}

static int make_spaces(log_mel *m, io_error *error)
{
    const size_t fft = (size_t)m->settings.fft;
    m->spaces = calloc((size_t)m->workers, sizeof *m->spaces);
    bool complete = m->spaces != NULL;
    for (int i = 0; complete && i < m->workers; i++) {
        m->spaces[i].in = fftw_alloc_real(fft);
        m->spaces[i].out = fftw_alloc_complex(fft / 2 + 1);
        complete = m->spaces[i].in && m->spaces[i].out;
    }
    /* FFTW_ESTIMATE: a plan that was measured could be another one, with other bits, on each rank. */
    if (complete)
        m->plan = fftw_plan_dft_r2c_1d((int)fft, m->spaces[0].in, m->spaces[0].out, FFTW_ESTIMATE | FFTW_DESTROY_INPUT);
    if (!complete || !m->plan) return io_fail(error, "not enough memory to transform %zu samples", fft);
    return 0;
}

int log_mel_create(const log_mel_settings *settings, int workers, log_mel **mel_p, io_error *error)
{
    if (check_settings(settings, error)) return -1;
    log_mel *m = calloc(1, sizeof *m);
    if (!m) return io_fail(error, "not enough memory for mel bands");
    m->settings = *settings;
    m->workers = workers;
    m->window = malloc((size_t)settings->window * sizeof *m->window);
    m->bands = calloc((size_t)settings->mels, sizeof *m->bands);
    if (!m->window || !m->bands) {
        io_fail(error, "not enough memory for mel bands");
        goto destroy;
    }
    for (int i = 0; i < settings->window; i++) m->window[i] = 0.5 - 0.5 * cos(2 * pi * i / settings->window);
    if (make_bands(m, error) || make_spaces(m, error)) goto destroy;
    *mel_p = m;
    return 0;
destroy:
    log_mel_destroy(&m);
    return -1;
}

void log_mel_destroy(log_mel **mel)
{
    log_mel *m = *mel;
    if (!m) return;
    if (m->plan) fftw_destroy_plan(m->plan);
    for (int i = 0; m->spaces && i < m->workers; i++) {
        fftw_free(m->spaces[i].in);
        fftw_free(m->spaces[i].out);
    }
    free(m->spaces);
    free(m->weights);
    free(m->bands);
    free(m->window);
    free(m);
    *mel = NULL;
}

void log_mel_frames(log_mel *mel, int worker, const float *samples, int64_t count, float *out)
{
    const log_mel_settings *s = &mel->settings;
    const workspace *space = &mel->spaces[worker];
    for (int64_t t = 0; t < count; t++) {
        const float *x = samples + t * s->hop;
        for (int i = 0; i < s->window; i++) space->in[i] = mel->window[i] * x[i];
        for (int i = s->window; i < s->fft; i++) space->in[i] = 0;
        fftw_execute_dft_r2c(mel->plan, space->in, space->out);
        for (int b = 0; b < s->mels; b++) {
            const band *it = &mel->bands[b];
            double energy = 0;
            for (int i = 0; i < it->count; i++) {
                const double re = creal(space->out[it->first + i]), im = cimag(space->out[it->first + i]);
                energy += mel->weights[it->at + i] * (re * re + im * im);
            }
            out[t * s->mels + b] = (float)log(energy > LOG_MEL_FLOOR ? energy : LOG_MEL_FLOOR);
        }
    }
}

double log_mel_weight(const log_mel *mel, int b, int bin)
{
    const band *it = &mel->bands[b];
    return bin >= it->first && bin < it->first + it->count ? mel->weights[it->at + bin - it->first] : 0;
}
