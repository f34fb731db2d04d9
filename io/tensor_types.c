#include "io/hdf5_support.h"

#include <stdio.h>
#include <string.h>

/* Where the parts of a binary floating-point number lie, counted in bits from the least significant. */
typedef struct {
    const char *name;
    size_t bytes, sign, exponent, exponent_bits, mantissa, mantissa_bits, bias;
} float_form;

static const float_form forms[] = {
    [IO_FLOAT32] = {"float32", 4, 31, 23, 8, 0, 23, 127},
    [IO_FLOAT16] = {"float16", 2, 15, 10, 5, 0, 10, 15},
    [IO_BFLOAT16] = {"bfloat16", 2, 15, 7, 8, 0, 7, 127},
};
enum { FORMS = sizeof forms / sizeof forms[0] };

size_t io_type_size(io_type type)
{
    return forms[type].bytes;
}

const char *io_type_name(io_type type)
{
    return forms[type].name;
}

bool io_type_from_name(const char *name, io_type *type_p)
{
    for (int i = 0; i < FORMS; i++) {
        if (strcmp(name, forms[i].name) == 0) {
            *type_p = (io_type)i;
            return true;
        }
    }
    return false;
}

static bool float_type_has_form(hid_t type, const float_form *form)
{
    size_t sign, exponent, exponent_bits, mantissa, mantissa_bits;
    H5T_order_t order = H5Tget_order(type);
    return H5Tget_size(type) == form->bytes && H5Tget_precision(type) == 8 * form->bytes && H5Tget_offset(type) == 0 &&
           (order == H5T_ORDER_LE || order == H5T_ORDER_BE) && H5Tget_norm(type) == H5T_NORM_IMPLIED &&
           H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) >= 0 &&
           sign == form->sign && exponent == form->exponent && exponent_bits == form->exponent_bits &&
           mantissa == form->mantissa && mantissa_bits == form->mantissa_bits && H5Tget_ebias(type) == form->bias;
}

static bool says_bfloat16(hid_t dataset)
{
    char text[32];
    return hdf5_attribute_text(dataset, "dtype", text, sizeof text) == HDF5_TEXT_READ && strcmp(text, "bfloat16") == 0;
}

static bool is_uint16(hid_t type)
{
    return H5Tget_size(type) == 2 && H5Tget_precision(type) == 16 && H5Tget_sign(type) == H5T_SGN_NONE;
}

int tensor_type_recognise(hid_t dataset, io_type *type_p, hid_t *memory_p)
{
    hid_t stored = H5Dget_type(dataset), memory = H5I_INVALID_HID;
    if (stored < 0) return -1;
    H5T_class_t class = H5Tget_class(stored);
    if (class == H5T_FLOAT) {
        for (int i = 0; i < FORMS && memory < 0; i++) {
            if (!float_type_has_form(stored, &forms[i])) continue;
            *type_p = (io_type)i;
            memory = H5Tcopy(stored);
            if (memory >= 0) H5Tset_order(memory, H5Tget_order(H5T_NATIVE_FLOAT));
        }
    } else if (class == H5T_INTEGER && is_uint16(stored) && says_bfloat16(dataset)) {
        *type_p = IO_BFLOAT16;
        memory = H5Tcopy(H5T_NATIVE_UINT16);
    } else if (class == H5T_OPAQUE && H5Tget_size(stored) == 2 && says_bfloat16(dataset)) {
        *type_p = IO_BFLOAT16;
        memory = H5Tcopy(stored);
    }
    H5Tclose(stored);
    if (memory < 0) return -1;
    *memory_p = memory;
    return 0;
}

hid_t tensor_type_create(io_type type)
{
    const float_form *form = &forms[type];
    hid_t created = H5Tcopy(H5T_NATIVE_FLOAT);
    if (created < 0) return created;
    /* The fields first: HDF5 refuses to shrink a type below the bits it uses. */
    if (H5Tset_fields(created, form->sign, form->exponent, form->exponent_bits, form->mantissa, form->mantissa_bits) <
            0 ||
        H5Tset_size(created, form->bytes) < 0 || H5Tset_ebias(created, form->bias) < 0) {
        H5Tclose(created);
        return H5I_INVALID_HID;
    }
    return created;
}

void tensor_type_describe(hid_t type, char *text, size_t size)
{
    size_t bytes = H5Tget_size(type);
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
        snprintf(text, size, "%sint%zu", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", 8 * bytes);
        return;
    case H5T_FLOAT:
        for (int i = 0; i < FORMS; i++) {
            if (float_type_has_form(type, &forms[i])) {
                snprintf(text, size, "%s", forms[i].name);
                return;
            }
        }
        snprintf(text, size, bytes == 8 ? "float64" : "a float of %zu bytes", bytes);
        return;
    case H5T_OPAQUE:
        snprintf(text, size, "opaque of %zu bytes", bytes);
        return;
    case H5T_STRING:
        snprintf(text, size, "string");
        return;
    case H5T_COMPOUND:
        snprintf(text, size, "compound");
        return;
    case H5T_ENUM:
        snprintf(text, size, "enumeration");
        return;
    case H5T_ARRAY:
        snprintf(text, size, "array");
        return;
    case H5T_VLEN:
        snprintf(text, size, "variable-length");
        return;
    default:
        snprintf(text, size, "an unknown type");
        return;
    }
}
