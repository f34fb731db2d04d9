/* interop write FILE: /f32, /f16 and /bf16 of shape [3, 1, 4] with values 0 1/8 2/8 ... 11/8, and /documents, through
 * io/output_file.h.
 * interop read FILE DATASET: the dataset through io/tensor_file.h, as its type, then its extents, then its stored
 * values as hexadecimal numbers. */
#include "io/output_file.h"
#include "io/tensor_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const io_error *error)
{
    fprintf(stderr, "%s\n", error->text);
    return 4;
}

static int write_file(const char *path)
{
    /* i/8 as bits of each type. */
    static const uint16_t half[12] = {0,      0x3000, 0x3400, 0x3600, 0x3800, 0x3900,
                                      0x3a00, 0x3b00, 0x3c00, 0x3c80, 0x3d00, 0x3d80};
    static const uint16_t upper[12] = {0,      0x3e00, 0x3e80, 0x3ec0, 0x3f00, 0x3f20,
                                       0x3f40, 0x3f60, 0x3f80, 0x3f90, 0x3fa0, 0x3fb0};
    static const int64_t documents[3] = {0, 2, 3};
    float single[12];
    for (int i = 0; i < 12; i++) single[i] = (float)i / 8;
    output_dataset datasets[] = {{"/f32", OUTPUT_FLOAT32, 3, {3, 1, 4}, 0},
                                 {"/f16", OUTPUT_FLOAT16, 3, {3, 1, 4}, 0},
                                 {"/bf16", OUTPUT_BFLOAT16, 3, {3, 1, 4}, 0},
                                 {"/documents", OUTPUT_INT64, 1, {3}, 0}};
    const output_attribute attributes[] = {{.name = "mask", .kind = ATTRIBUTE_TEXT, .text = "causal"},
                                           {.name = "ranks", .kind = ATTRIBUTE_INTEGER, .integer = 4},
                                           {.name = "scale", .kind = ATTRIBUTE_NUMBER, .number = 0.125}};
    output_writer writer;
    io_error error;
    if (output_check(path, false, &error) != 0 || output_create(path, datasets, 4, attributes, 3, &error) != 0 ||
        output_open(path, &writer, &error) != 0) {
        return refuse(&error);
    }
    if (output_write(&writer, datasets[0].offset, single, sizeof single, &error) != 0 ||
        output_write(&writer, datasets[1].offset, half, sizeof half, &error) != 0 ||
        output_write(&writer, datasets[2].offset, upper, sizeof upper, &error) != 0 ||
        output_write(&writer, datasets[3].offset, documents, sizeof documents, &error) != 0 ||
        output_close(&writer, &error) != 0 || output_publish(path, false, &error) != 0) {
        return refuse(&error);
    }
    return 0;
}

static int read_file(const char *path, const char *dataset)
{
    tensor_file *file;
    tensor_shape shape;
    io_error error;
    if (tensor_file_open(path, &file, &error) != 0) return refuse(&error);
    if (tensor_file_shape(file, dataset, &shape, &error) != 0) {
        tensor_file_close(&file);
        return refuse(&error);
    }
    printf("%s %" PRId64 " %" PRId64 " %d %d", io_type_name(shape.type), shape.batch, shape.tokens, shape.heads,
           shape.dim);
    int64_t count = shape.tokens * shape.heads * shape.dim;
    void *values = malloc((size_t)count * io_type_size(shape.type));
    int status = values ? 0 : 1;
    for (int64_t b = 0; b < shape.batch && status == 0; b++) {
        if (tensor_file_read(file, dataset, &shape, b, 0, shape.tokens, values, &error) != 0) status = refuse(&error);
        for (int64_t i = 0; i < count && status == 0; i++) {
            if (shape.type == IO_FLOAT32) printf(" %08" PRIx32, ((const uint32_t *)values)[i]);
            else printf(" %04x", ((const uint16_t *)values)[i]);
        }
    }
    printf("\n");
    free(values);
    tensor_file_close(&file);
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write") == 0) return write_file(argv[2]);
    if (argc == 4 && strcmp(argv[1], "read") == 0) return read_file(argv[2], argv[3]);
    fprintf(stderr, "usage: interop write FILE | interop read FILE DATASET\n");
    return 2;
}
