/* What libsndfile does not say of a sound file: whether it is whole. It reads a truncated WAV or OGG to its end and is
 * content. */
#ifndef IO_AUDIO_CONTAINER_H
#define IO_AUDIO_CONTAINER_H

#include "io/error.h"

#include <stdint.h>

typedef enum { CONTAINER_WAV, CONTAINER_FLAC, CONTAINER_OGG } audio_container;

/* Opens a regular file of at least one byte for reading. 0, or -1 with *error. The descriptor is the caller's. */
int container_open(const char *path, int *descriptor_p, int64_t *bytes_p, io_error *error);

/* By its first bytes. 0, or -1 with *error. */
int container_find(int descriptor, const char *path, int64_t bytes, audio_container *container_p, io_error *error);

/* WAV: the format comes before the samples, and its numbers agree; the file holds as many bytes of samples as it says
 * (EBU Tech 3306 for RF64), and nothing but other chunks behind them. OGG: one logical stream whose pages follow each
 * other without a gap, each with its checksum, up to the page that ends the stream and the file (RFC 3533, section 6);
 * reads all of the file. FLAC: the first block is STREAMINFO and knows how many samples there are (RFC 9639,
 * section 8.2). 0, or -1 with *error. */
int container_check(int descriptor, const char *path, int64_t bytes, audio_container container, io_error *error);

#endif
