/** @file
 * The operators on integers. Same bits as TensorFlow Lite Micro with TSK_ROUNDING_TFLM, as LiteRT's reference kernels
 * with TSK_ROUNDING_SINGLE.
 *
 * Call `tsk_K`: tsk_select.h makes it `tsk_K_plain`, which is portable C99 and always there, or a fast form with the
 * same arguments and the same bits.
 *
 * Every kernel takes its constants first, then what it reads, then what it writes, then the number of rows, then
 * scratch. Nothing is allocated, nothing is kept. Pointers must not be NULL unless a comment says so. Memory that is
 * written may be the same as memory that is read only where a comment says "in place". All sizes are at least 1, except
 * that `rows` may be 0; no tensor has more than INT32_MAX bytes.
 *
 * "Element (r, c)" of an operand x is x[r * x_row + c * x_column]; strides are in elements, 0 repeats a value.
 * A requantisation is a multiplier (Q0.31, not negative) and a shift (positive: to the left; -31 to 31). An operator's
 * accumulator must fit int32_t: the compiler proves that for each model.
 */
#ifndef TSK_KERNELS_H
#define TSK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "tsk_config.h"
#include "tsk_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The most axes of a tensor that is copied or updated. */
#define TSK_MAX_DIMENSIONS 6

/** Rows that a fast FULLY_CONNECTED or BATCH_MATMUL meets at once. */
#define TSK_ROWS 6

/** FULLY_CONNECTED: y[r][o] = lut[clamp(requantise(bias[o] + sum_i weights[o][i] * x[r][i]) + out_zero)].
 * `bias` has the input's zero point folded in: it is the model's bias minus zero_in * sum_i weights[o][i]. */
typedef struct {
    const int8_t *weights;     /**< [out][in] */
    const int32_t *bias;       /**< [out] */
    const int32_t *multiplier; /**< [out], or [1] if `channels` is 0; NULL with TSK_ROUNDING_SINGLE */
    const int8_t *shift;       /**< like `multiplier` */
    const double *scale;       /**< the same as one number, with TSK_ROUNDING_SINGLE; else NULL */
    const int8_t *lut;         /**< [256] by the byte's bits, an activation fused; or NULL */
    int32_t in, out;
    int32_t channels; /**< 1: a requantisation for each output, 0: one for all */
    int32_t out_zero, min, max;
} tsk_fc_s8_t;
#define TSK_FC_S8_SCRATCH(in) (2 * TSK_ROWS * (((in) + 3) / 4 * 4))
/** x int8 [rows][in], y int8 [rows][out], scratch of TSK_FC_S8_SCRATCH(in) bytes, aligned to 16. */
void tsk_fc_s8_plain(const tsk_fc_s8_t *p, const int8_t *x, int8_t *y, int32_t rows, void *scratch);

/** FULLY_CONNECTED on int16 with int8 weights; zero points are 0. */
typedef struct {
    const int8_t *weights;     /**< [out][in] */
    const int64_t *bias;       /**< [out], or NULL */
    const int32_t *multiplier; /**< as in tsk_fc_s8_t, and so the next two */
    const int8_t *shift;
    const double *scale;
    int32_t in, out;
    int32_t channels; /**< 1: a requantisation for each output, 0: one for all */
    int32_t narrow;   /**< 1: the model's bias is int32, so TensorFlow Lite Micro requantises an int32; 0: an int64 */
    int32_t min, max;
} tsk_fc_s16_t;
/** x int16 [rows][in], y int16 [rows][out]. Shifts are at most 7 where `narrow` is 0. */
void tsk_fc_s16_plain(const tsk_fc_s16_t *p, const int16_t *x, int16_t *y, int32_t rows);

/** BATCH_MATMUL of two activations, for batch[0] * batch[1] pairs of matrices:
 * y(i, j) = lut[clamp(requantise(sum_l (a(i, l) - a_zero) * (b(l, j) - b_zero)) + out_zero)].
 * Any transposition is in the strides: a(i, l) is a[i * a_row + l * a_column], b(l, j) is b[l * b_row + j * b_column],
 * y(i, j) is y[i * y_row + j * y_column]; the batch (u, v) begins at u * a_batch[0] + v * a_batch[1]. */
typedef struct {
    int32_t m, n, k; /**< a is m by k, b is k by n */
    int32_t batch[2], a_batch[2], b_batch[2], y_batch[2];
    int32_t a_row, a_column, b_row, b_column, y_row, y_column;
    int32_t a_zero, b_zero, out_zero, multiplier, shift, min, max;
    const int8_t *lut; /**< as in tsk_fc_s8_t */
} tsk_matmul_s8_t;
#define TSK_MATMUL_S8_SCRATCH(n, k) (((k) + 7) / 4 * 4 * ((n) + 2 * TSK_ROWS))
/** Scratch of TSK_MATMUL_S8_SCRATCH(n, k) bytes, aligned to 16. */
void tsk_matmul_s8_plain(const tsk_matmul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, void *scratch);
/** The same on int16; zero points are 0, the accumulator is int64 (below 2^47), the shift at most 7, `lut` is NULL. */
typedef tsk_matmul_s8_t tsk_matmul_s16_t;
void tsk_matmul_s16_plain(const tsk_matmul_s16_t *p, const int16_t *a, const int16_t *b, int16_t *y);

/** SOFTMAX over the columns; the output's grid is 1/256 and -128. */
typedef struct {
    int32_t columns;          /**< at most 4095; where 512 or more are all but equal, each share is 0 */
    const int32_t *exponents; /**< [256]: exp(-beta * scale * d) in Q0.31 for a difference d from the maximum; 0 where
                                 TensorFlow Lite cuts; [0] is INT32_MAX */
} tsk_softmax_s8_t;
/** x, y int8 [rows][columns]; in place. */
void tsk_softmax_s8_plain(const tsk_softmax_s8_t *p, const int8_t *x, int8_t *y, int32_t rows);
/** SOFTMAX on int16; the output's grid is 1/32768 and 0. */
typedef struct {
    int32_t columns;               /**< at most 65535 */
    int32_t multiplier, shift;     /**< from a difference to the table's steps of 10 / 65535 */
    const int16_t *exp_lut;        /**< [513], exp(x) for x from -10 to 0, in Q0.15 */
    const int16_t *reciprocal_lut; /**< [513], 1 / (1 + x) for x from 0 to 1, in Q0.15 */
} tsk_softmax_s16_t;
/** x, y int16 [rows][columns]; in place. */
void tsk_softmax_s16_plain(const tsk_softmax_s16_t *p, const int16_t *x, int16_t *y, int32_t rows);

/** ADD and SUB: each operand less its zero point, times 2^left_shift, requantised; their sum, requantised, plus
 * `out_offset`, clamped. The three shifts are at most 0. */
typedef struct {
    int32_t columns, a_row, a_column, b_row, b_column;
    int32_t a_offset, b_offset, out_offset; /**< -zero of a and b, +zero of y */
    int32_t left_shift, a_multiplier, a_shift, b_multiplier, b_shift, out_multiplier, out_shift, min, max;
    int32_t subtract; /**< 1: a - b */
} tsk_add_s8_t;
/** y int8 [rows][columns]; in place with an operand that is dense, too. */
void tsk_add_s8_plain(const tsk_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows);
/** The same on int16. */
typedef tsk_add_s8_t tsk_add_s16_t;
void tsk_add_s16_plain(const tsk_add_s16_t *p, const int16_t *a, const int16_t *b, int16_t *y, int32_t rows);
/** ADD of int32 as they are (positions), modulo 2^32. */
typedef struct {
    int32_t columns, a_row, a_column, b_row, b_column;
} tsk_add_s32_t;
/** y int32 [rows][columns]; in place with an operand that is dense, too. */
void tsk_add_s32_plain(const tsk_add_s32_t *p, const int32_t *a, const int32_t *b, int32_t *y, int32_t rows);

/** MUL: clamp(requantise((a + a_offset) * (b + b_offset)) + out_offset). */
typedef struct {
    int32_t columns, a_row, a_column, b_row, b_column;
    int32_t a_offset, b_offset, out_offset, multiplier, shift, min, max;
} tsk_mul_s8_t;
/** y int8 [rows][columns]; in place with an operand that is dense, too. */
void tsk_mul_s8_plain(const tsk_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows);
/** The same on int16. */
typedef tsk_mul_s8_t tsk_mul_s16_t;
void tsk_mul_s16_plain(const tsk_mul_s16_t *p, const int16_t *a, const int16_t *b, int16_t *y, int32_t rows);

/** SQUARED_DIFFERENCE: constants and memory as tsk_add_s8 (`subtract` is ignored; `out_shift` may be positive). */
typedef tsk_add_s8_t tsk_squared_difference_s8_t;
void tsk_squared_difference_s8_plain(const tsk_squared_difference_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y,
                                     int32_t rows);

/** MINIMUM and MAXIMUM of values on one grid. */
typedef struct {
    int32_t columns, a_row, a_column, b_row, b_column;
    int32_t maximum; /**< 1: the larger */
} tsk_extremum_s8_t;
/** y int8 [rows][columns]; in place with an operand that is dense, too. */
void tsk_extremum_s8_plain(const tsk_extremum_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows);
/** The same on int16. */
typedef tsk_extremum_s8_t tsk_extremum_s16_t;
void tsk_extremum_s16_plain(const tsk_extremum_s16_t *p, const int16_t *a, const int16_t *b, int16_t *y, int32_t rows);
/** The same on int32. */
typedef tsk_extremum_s8_t tsk_extremum_s32_t;
void tsk_extremum_s32_plain(const tsk_extremum_s32_t *p, const int32_t *a, const int32_t *b, int32_t *y, int32_t rows);

/** Any function of one int8: y[i] = lut[(uint8_t)x[i]]. TANH, LOGISTIC, GELU, RELU, RSQRT, NEG, QUANTIZE, an operator
 * with a scalar constant, and any chain of them. */
typedef struct {
    int32_t columns;
    const int8_t *lut; /**< [256] */
} tsk_lut_s8_t;
/** x, y int8 [rows][columns]; in place. */
void tsk_lut_s8_plain(const tsk_lut_s8_t *p, const int8_t *x, int8_t *y, int32_t rows);
/** A smooth function of one int16: the line between two entries of the table. RSQRT with TSK_ROUNDING_SINGLE. */
typedef struct {
    int32_t columns;
    const int16_t *lut; /**< [513]: the values at -32768, -32640, ... 32640 and at 32767 */
} tsk_lut_s16_t;
/** x, y int16 [rows][columns]; in place. */
void tsk_lut_s16_plain(const tsk_lut_s16_t *p, const int16_t *x, int16_t *y, int32_t rows);
/** RSQRT on int16: requantise(1 / sqrt(x)), at most 32767; 32767 where x is not positive, where TensorFlow Lite stops
 * (below 0) or gives the largest step (0). */
typedef struct {
    int32_t columns;
    int32_t multiplier, shift; /**< from 1 / sqrt(x) in Q11.20; the shift is at most 10 */
} tsk_rsqrt_s16_t;
/** x, y int16 [rows][columns]; in place. */
void tsk_rsqrt_s16_plain(const tsk_rsqrt_s16_t *p, const int16_t *x, int16_t *y, int32_t rows);
/** TANH and LOGISTIC on int16: |x| * multiplier / 2^left_shift looks a table of the sigmoid up, with interpolation. */
typedef struct {
    int32_t columns;
    int32_t multiplier; /**< 1 to 32767 */
    int32_t left_shift; /**< 0 to 31 (TensorFlow Lite's name; it shifts to the right) */
    int32_t logistic;   /**< 0: TANH */
} tsk_sigmoid_s16_t;
/** x, y int16 [rows][columns]; in place. */
void tsk_sigmoid_s16_plain(const tsk_sigmoid_s16_t *p, const int16_t *x, int16_t *y, int32_t rows);

/** MEAN, SUM (requantise(sum - count * in_zero) + out_zero) and REDUCE_MAX over the middle of [rows][count][inner].
 * MEAN has its division in the multiplier. */
typedef struct {
    int32_t count, inner;
    int32_t in_zero, out_zero, multiplier, shift, min, max;
    int32_t kind; /**< 0 MEAN, 1 SUM, 2 REDUCE_MAX */
} tsk_reduce_s8_t;
/** x int8 [rows][count][inner], y int8 [rows][inner]. */
void tsk_reduce_s8_plain(const tsk_reduce_s8_t *p, const int8_t *x, int8_t *y, int32_t rows);
/** The same on int16. */
typedef tsk_reduce_s8_t tsk_reduce_s16_t;
void tsk_reduce_s16_plain(const tsk_reduce_s16_t *p, const int16_t *x, int16_t *y, int32_t rows);
/** The same on uint8, but SUM alone: with TSK_ROUNDING_SINGLE that of int8, whose bytes LiteRT's reference reads and
 * writes as uint8. `kind` is 1. */
typedef tsk_reduce_s8_t tsk_reduce_u8_t;
void tsk_reduce_u8_plain(const tsk_reduce_u8_t *p, const uint8_t *x, uint8_t *y, int32_t rows);

/** GATHER and EMBEDDING_LOOKUP: y[o][r] = table[o][ids[r]], where elements are `row_bytes` long. */
typedef struct {
    int32_t count, row_bytes;
    int32_t outer; /**< 1 along the first axis */
} tsk_gather_t;
/** table [outer][count][row_bytes], ids [rows], y [outer][rows][row_bytes].
 * @return TSK_OK, or TSK_E_INDEX if an id is not 0 to count - 1; y is then part written. */
int tsk_gather_plain(const tsk_gather_t *p, const void *table, const int32_t *ids, void *y, int32_t rows);

/** TRANSPOSE, SLICE, STRIDED_SLICE, CONCATENATION, SPLIT, PAD's inside, broadcasting: y at its strides from x at its
 * strides. Strides are in elements and may be negative for x; the pointers are those of the first element. Dimensions
 * that are not needed are 1, anywhere. */
typedef struct {
    int32_t size; /**< bytes of an element: 1, 2, 4 or 8 */
    int32_t shape[TSK_MAX_DIMENSIONS], x_stride[TSK_MAX_DIMENSIONS], y_stride[TSK_MAX_DIMENSIONS];
} tsk_copy_t;
/** x and y do not overlap. */
void tsk_copy_plain(const tsk_copy_t *p, const void *x, void *y);
/** PAD's outside, and constants. */
typedef struct {
    int32_t size, count; /**< bytes of an element: 1, 2, 4 or 8; how many */
    int64_t value;       /**< each element is its low bytes */
} tsk_fill_t;
/** y [count] of `size` bytes. */
void tsk_fill_plain(const tsk_fill_t *p, void *y);
/** DYNAMIC_UPDATE_SLICE: `update` goes into y, which already holds the operand, at `start` (clamped so that it fits).
 */
typedef struct {
    int32_t size, dimensions; /**< bytes of an element: 1, 2, 4 or 8; how many of the following count */
    int32_t shape[TSK_MAX_DIMENSIONS], update[TSK_MAX_DIMENSIONS];
} tsk_update_slice_t;
/** update [update[0]]...[update[dimensions - 1]], start [dimensions], y [shape[0]]...[shape[dimensions - 1]]. */
void tsk_update_slice_plain(const tsk_update_slice_t *p, const void *update, const int32_t *start, void *y);

/** SELECT_V2: y = condition ? a : b, elements of `size` bytes. */
typedef struct {
    int32_t size; /**< 1, 2, 4 or 8 */
    int32_t columns, condition_row, condition_column, a_row, a_column, b_row, b_column;
} tsk_select_t;
/** y [rows][columns] of `size` bytes; in place with an operand that is dense, too. */
void tsk_select_plain(const tsk_select_t *p, const uint8_t *condition, const void *a, const void *b, void *y,
                      int32_t rows);

/** ARG_MAX and ARG_MIN over the middle of [rows][count][inner]; of equals the first. */
typedef struct {
    int32_t count, inner;
    int32_t minimum; /**< 1: ARG_MIN */
} tsk_arg_s8_t;
/** x int8 [rows][count][inner], y int32 [rows][inner]. */
void tsk_arg_s8_plain(const tsk_arg_s8_t *p, const int8_t *x, int32_t *y, int32_t rows);

/** Element types of CAST, QUANTIZE and DEQUANTIZE. */
typedef enum { TSK_BOOL, TSK_S8, TSK_S16, TSK_S32, TSK_F32 } tsk_type_t;
/** CAST: to BOOL what is not 0; from a wider integer its low bits; from float32 towards 0, clamped; NaN is 0. */
typedef struct {
    int32_t columns, from, to; /**< tsk_type_t */
} tsk_cast_t;
/** x, y [rows][columns]; in place where both types have the same size. */
void tsk_cast_plain(const tsk_cast_t *p, const void *x, void *y, int32_t rows);
/** QUANTIZE between integers, RELU and RELU6 on int16: y = clamp(requantise(x - in_zero) + out_zero). */
typedef struct {
    int32_t columns, from, to; /**< TSK_S8, TSK_S16 or TSK_S32 */
    int32_t in_zero, out_zero, multiplier, shift, min, max;
} tsk_requantize_t;
/** x, y [rows][columns]; in place where both types have the same size. */
void tsk_requantize_plain(const tsk_requantize_t *p, const void *x, void *y, int32_t rows);
/** QUANTIZE from float32 to TSK_S8 or TSK_S16: x / scale rounded half away from 0, plus `zero`, clamped. NaN is
 * `zero`. */
typedef struct {
    int32_t columns, to, zero;
    float scale;
} tsk_quantize_t;
/** x float32 [rows][columns], y [rows][columns]. */
void tsk_quantize_plain(const tsk_quantize_t *p, const float *x, void *y, int32_t rows);
/** DEQUANTIZE from TSK_S8 or TSK_S16 to float32: y = scale * (x - zero). */
typedef struct {
    int32_t columns, from, zero;
    float scale;
} tsk_dequantize_t;
/** x [rows][columns], y float32 [rows][columns]. */
void tsk_dequantize_plain(const tsk_dequantize_t *p, const void *x, float *y, int32_t rows);

#if TSK_SELFTEST
/** Every kernel that has a fast form against its plain one, on seeded random data of odd and even sizes.
 * @param scratch aligned to 16 and at least TSK_SELFTEST_SCRATCH bytes.
 * @return TSK_OK, TSK_E_SPACE if scratch is NULL, not aligned or too small, or TSK_E_SELFTEST if one bit differs. */
int tsk_selftest_kernels(void *scratch, size_t bytes);
#define TSK_SELFTEST_SCRATCH 4096
#endif

#include "tsk_select.h"

#ifdef __cplusplus
}
#endif

#endif
