/* Two models in one program, one with its weights in a file: no symbol or constant of one is the other's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "one.h"
#include "two.h"

static union { double align; char bytes[TWO_WEIGHTS_BYTES + 64]; } file;

static char *aligned(char *memory)
{
    return memory + (64 - (size_t)memory % 64) % 64;
}

int main(int argc, char **argv)
{
    static char one_memory[ONE_ARENA_BYTES + 64], two_memory[TWO_ARENA_BYTES + 64];
    char *one = aligned(one_memory), *two = aligned(two_memory), *weights = aligned(file.bytes);
    float x[ONE_INPUT_X_ELEMENTS], y[ONE_OUTPUT_Y_ELEMENTS], z[TWO_OUTPUT_Y_ELEMENTS];
    struct one_inputs one_in;
    struct one_outputs one_out;
    struct two_inputs two_in;
    struct two_outputs two_out;
    FILE *from = argc > 1 ? fopen(argv[1], "rb") : NULL;
    size_t i;
    int status;
    if (!from || fread(weights, 1, TWO_WEIGHTS_BYTES, from) != TWO_WEIGHTS_BYTES)
        return 1;
    for (i = 0; i < ONE_INPUT_X_ELEMENTS; i++)
        x[i] = (float)i - 2.0f;
    memset(y, 0, sizeof y);
    memset(z, 0, sizeof z);
    one_in.x = x;
    one_out.y = y;
    two_in.x = x;
    two_out.y = z;

#define EXPECT(call, code)                                                              \
    if ((status = (call)) != (code)) {                                                  \
        printf("line %d: %d, expected %d\n", __LINE__, status, (int)(code));            \
        return 1;                                                                       \
    }
    /* Everything that a caller can do wrongly. */
    EXPECT(one_run(one, &one_in, &one_out), ONE_ERROR_ARENA_UNINITIALISED);
    EXPECT(one_init(NULL), ONE_ERROR_ARENA_NULL);
    EXPECT(one_init(one + 8), ONE_ERROR_ARENA_ALIGNMENT);
    EXPECT(two_init(two, NULL, TWO_WEIGHTS_BYTES), TWO_ERROR_WEIGHTS_NULL);
    EXPECT(two_init(two, weights + 4, TWO_WEIGHTS_BYTES), TWO_ERROR_WEIGHTS_ALIGNMENT);
    EXPECT(two_init(two, weights, TWO_WEIGHTS_BYTES - 1), TWO_ERROR_WEIGHTS_BYTES);
    weights[20] ^= 1;
    EXPECT(two_init(two, weights, TWO_WEIGHTS_BYTES), TWO_ERROR_WEIGHTS_CONTENT);
    weights[20] ^= 1;
    EXPECT(one_init(one), ONE_OK);
    EXPECT(two_init(two, weights, TWO_WEIGHTS_BYTES), TWO_OK);
    EXPECT(one_run(NULL, &one_in, &one_out), ONE_ERROR_ARENA_NULL);
    EXPECT(one_run(one + 1, &one_in, &one_out), ONE_ERROR_ARENA_ALIGNMENT);
    EXPECT(one_run(two, &one_in, &one_out), ONE_ERROR_ARENA_UNINITIALISED);
    EXPECT(one_run(one, NULL, &one_out), ONE_ERROR_INPUTS_NULL);
    EXPECT(one_run(one, &one_in, NULL), ONE_ERROR_OUTPUTS_NULL);
    one_in.x = NULL;
    EXPECT(one_run(one, &one_in, &one_out), ONE_ERROR_INPUT_NULL + 0);
    puts(one_message(status));
    one_in.x = (const float *)(const void *)((const char *)x + 2);
    EXPECT(one_run(one, &one_in, &one_out), ONE_ERROR_INPUT_ALIGNMENT + 0);
    puts(one_message(status));
    one_in.x = x;
    one_out.y = NULL;
    EXPECT(one_run(one, &one_in, &one_out), ONE_ERROR_OUTPUT_NULL + 0);
    puts(one_message(status));
    one_out.y = (float *)(void *)((char *)y + 1);
    EXPECT(one_run(one, &one_in, &one_out), ONE_ERROR_OUTPUT_ALIGNMENT + 0);
    puts(one_message(status));
    one_out.y = y;
    for (i = 0; i < ONE_OUTPUT_Y_ELEMENTS; i++)
        if (y[i] != 0.0f)
            return 2; /* a run that failed has written */

    EXPECT(one_run(one, &one_in, &one_out), ONE_OK);
    EXPECT(two_run(two, &two_in, &two_out), TWO_OK);
    for (i = 0; i < ONE_OUTPUT_Y_ELEMENTS; i++)
        printf("%g %g\n", (double)y[i], (double)z[i]);
    return 0;
}
